//! Bytes -> a [`Node`] in which every key and value knows its line and column.
//! The only door to the YAML crate. Knows no key by name.
//!
//! The dialect is small on purpose: one document, YAML 1.2 core scalars, no anchors, no merge keys, no foreign tags.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::tree::{Entry, Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::Diagnostic;

/// Of a pipeline file and of each file that it names to be read as YAML.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Mappings and sequences inside each other.
pub const MAX_DEPTH: usize = 64;
/// Keys, values and containers together.
pub const MAX_NODES: usize = 50_000;

/// Reads one file. The error is the first thing in it that is no YAML of our dialect; what only repeats a key comes
/// back beside the tree, so that the rest of the file can be checked with it.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<(SourceText, Node, Vec<Diagnostic>), Diagnostic> {
    let fault = |message: String, at: Position| Diagnostic::error(message).at(at.in_file(path));
    if bytes.len() > MAX_FILE_BYTES {
        let at = position_of(&bytes[..MAX_FILE_BYTES]);
        let message = format!("the file is longer than the limit of {MAX_FILE_BYTES} bytes (max_file_bytes)");
        return Err(fault(message, at).hint("put long texts into files of their own and name them"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let at = position_of(&bytes[..error.valid_up_to()]);
            let byte = bytes[error.valid_up_to()];
            return Err(fault(format!("the file is not UTF-8: byte 0x{byte:02X} here"), at).hint("save it as UTF-8"));
        }
    };
    let source = SourceText::new(path, text);
    let (root, repeated) = parse_text(&source.text).map_err(|(message, at, hint)| {
        let diagnostic = fault(message, at);
        if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) }
    })?;
    let repeated = repeated
        .into_iter()
        .map(|(key, at, first)| {
            fault(format!("the key {} is written twice", quoted(&key)), at)
                .hint(format!("first at line {}", first.line))
        })
        .collect();
    Ok((source, root, repeated))
}

/// A message, its place, and a hint that may be empty.
type Fault = (String, Position, &'static str);
/// A key, its place, and the place where it first stood.
type Repeated = (String, Position, Position);

/// Reads a value as it would be written in a file; used for the defaults in the tables.
pub fn parse_fragment(text: &str) -> Result<Node, String> {
    match parse_text(text) {
        Ok((node, repeated)) if repeated.is_empty() => Ok(node),
        Ok(_) => Err("a key is written twice".into()),
        Err((message, ..)) => Err(message),
    }
}

fn parse_text(text: &str) -> Result<(Node, Vec<Repeated>), Fault> {
    let Written(mut root) = serde_saphyr::from_str_with_options(text, options()).map_err(|e| explain(&e, text))?;
    let mut repeated = Vec::new();
    drop_repeated(&mut root, &mut repeated);
    Ok((root, repeated))
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_documents: 1,
            max_anchors: 0,
            max_aliases: 0,
        },
        // Reported by us, all at once and with both places.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn explain(error: &Error, text: &str) -> Fault {
    use serde_saphyr::budget::BudgetBreach as Breach;
    let at = error
        .location()
        .filter(|l| l.line() > 0)
        .map_or(Position::START, |l| Position { line: l.line() as u32, column: (l.column() as u32).max(1) });
    match error.without_snippet() {
        Error::Budget { breach: Breach::Anchors { .. } | Breach::Aliases { .. }, .. }
        | Error::UnknownAnchor { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "anchors and aliases (`&`, `*`) are not part of a pipeline file".into(),
            at,
            "write the value twice, or make it a parameter; quote a text that begins with & or *",
        ),
        Error::Budget { breach: Breach::Depth { .. }, .. } => {
            (format!("nested more than {MAX_DEPTH} deep (max_depth)"), at, "")
        }
        Error::Budget { breach: Breach::Nodes { .. } | Breach::Events { .. }, .. } => {
            (format!("more than {MAX_NODES} keys and values in one file (max_nodes)"), at, "")
        }
        Error::Budget { breach: Breach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            ("a second document begins here: a pipeline file holds one".into(), at, "")
        }
        Error::MergeKeyNotAllowed { .. } => ("merge keys (`<<`) are not part of a pipeline file".into(), at, ""),
        Error::UnsupportedTag { tag, .. } => {
            (format!("the tag {} is not part of a pipeline file", quoted(tag)), at, "")
        }
        Error::NonFiniteFloat { value, .. } => (format!("{} is no finite number", quoted(value)), at, ""),
        Error::Unexpected { expected: "string scalar", .. } | Error::NullIntoString { .. } => {
            ("a key must be a plain word or a quoted text".into(), at, "")
        }
        _ if error.to_string().contains("recursion limit") => {
            (format!("nested more than {MAX_DEPTH} deep (max_depth)"), at, "")
        }
        _ => {
            let line = text.lines().nth(at.line as usize - 1).unwrap_or_default();
            let before = &line[..line.len() - line.trim_start().len()];
            let hint = if before.contains('\t') { "YAML is indented with spaces, never with tabs" } else { "" };
            (format!("not valid YAML: {}", one_line(&error.without_snippet().to_string())), at, hint)
        }
    }
}

/// Drops the crate's own "at line …" tail and folds what is left: the place is told beside the message.
fn one_line(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn drop_repeated(node: &mut Node, found: &mut Vec<Repeated>) {
    match &mut node.value {
        NodeValue::Seq(items) => items.iter_mut().for_each(|n| drop_repeated(n, found)),
        NodeValue::Map(entries) => {
            let mut seen = std::collections::HashMap::<String, Position>::new();
            entries.retain(|e| match seen.get(&e.key) {
                Some(first) => {
                    found.push((e.key.clone(), e.key_at, *first));
                    false
                }
                None => {
                    seen.insert(e.key.clone(), e.key_at);
                    true
                }
            });
            entries.iter_mut().for_each(|e| drop_repeated(&mut e.value, found));
        }
        _ => {}
    }
}

/// Returns the place just after `before`.
fn position_of(before: &[u8]) -> Position {
    let line = before.iter().filter(|b| **b == b'\n').count() as u32 + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    // Each byte that does not continue a character begins one.
    let column = before[start..].iter().filter(|b| **b & 0xC0 != 0x80).count() as u32 + 1;
    Position { line, column }
}

/// A node as the deserializer meets it; serde's own buffers are never in between, or the places would be lost.
struct Written(Node);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Untold(value), referenced, .. } = Spanned::<Untold>::deserialize(deserializer)?;
        let span = referenced.span();
        let bytes = match (span.byte_offset(), span.byte_len()) {
            (Some(offset), Some(len)) => offset as usize..(offset + len) as usize,
            _ => 0..0,
        };
        Ok(Self(Node { at: position(&referenced), span: bytes, value }))
    }
}

fn position(location: &serde_saphyr::Location) -> Position {
    Position { line: (location.line() as u32).max(1), column: (location.column() as u32).max(1) }
}

/// A value whose place is not told yet.
struct Untold(NodeValue);

impl<'de> Deserialize<'de> for Untold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UntoldVisitor).map(Self)
    }
}

struct UntoldVisitor;

impl<'de> Visitor<'de> for UntoldVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        // Nothing in a pipeline counts that far: as a float it is refused wherever an integer is expected.
        Ok(i64::try_from(value).map_or(NodeValue::Float(value as f64), NodeValue::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<NodeValue, E> {
        Ok(NodeValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::Str(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<NodeValue, E> {
        Ok(NodeValue::Str(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NodeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(Written(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(NodeValue::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let Written(mut value) = map.next_value()?;
            let key_at = position(&key.referenced);
            if value.value == NodeValue::Null {
                value.at = key_at; // what is not there would else stand wherever the next token is
            }
            entries.push(Entry { key: key.value, key_at, value });
        }
        Ok(NodeValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        parse(Path::new("p.yaml"), text.as_bytes()).unwrap().1
    }

    fn fault(bytes: &[u8]) -> Diagnostic {
        let begun = std::time::Instant::now();
        let fault = parse(Path::new("p.yaml"), bytes).unwrap_err();
        assert!(begun.elapsed().as_millis() < 10_000, "{fault:?} took {:?}", begun.elapsed());
        assert!(fault.place.is_some(), "{fault:?}");
        fault
    }

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "version: 1\nsteps:\n  - id: a\n    use:   split\n  - {id: b, long: {x: [1, \"zwei\"]}}\n";
        let root = tree(text);
        let steps = root.get("steps").unwrap();
        assert_eq!(root.entries()[1].key_at, at(2, 1));
        let NodeValue::Seq(steps) = &steps.value else { panic!() };
        assert_eq!(steps[0].entries()[1].key_at, at(4, 5));
        assert_eq!(steps[0].get("use").unwrap().at, at(4, 12));
        let long = &steps[1].entries()[1];
        assert_eq!((long.key_at, long.value.at), (at(5, 13), at(5, 19)));
        let NodeValue::Seq(list) = &long.value.get("x").unwrap().value else { panic!() };
        assert_eq!(list[1].at, at(5, 27));
        assert_eq!(&text[list[1].span.clone()], "\"zwei\"");
    }

    #[test]
    fn places_count_characters_behind_umlauts_and_a_byte_order_mark() {
        let root = parse(Path::new("p"), "\u{feff}a: {ö: ü, b: c}\n".as_bytes()).unwrap().1;
        let b = &root.get("a").unwrap().entries()[1];
        assert_eq!((b.key_at, b.value.at), (at(1, 11), at(1, 14)));
    }

    #[test]
    fn only_the_core_booleans_are_booleans_and_odd_numbers_stay_text() {
        let root = tree("a: no\nb: yes\nc: on\nd: true\ne: 007\nf: 1_000\ng: 1.50\nh: ~\ni: 12:30\nno: 1\n");
        let values: Vec<_> = root.entries().iter().map(|e| e.value.value.clone()).collect();
        let text = |s: &str| NodeValue::Str(s.into());
        let expected = [text("no"), text("yes"), text("on"), NodeValue::Bool(true), text("007"), text("1_000")];
        assert_eq!(values[..6], expected);
        assert_eq!(values[6..], [NodeValue::Float(1.5), NodeValue::Null, text("12:30"), NodeValue::Int(1)]);
        assert_eq!(root.entries()[9].key, "no");
    }

    #[test]
    fn a_repeated_key_is_told_with_both_places_and_the_first_one_stays() {
        let (_, root, repeated) = parse(Path::new("p.yaml"), b"a: 1\nb: 2\na: {c: 3}\nd: {e: 1, e: 2}\n").unwrap();
        assert_eq!(root.get("a").unwrap().value, NodeValue::Int(1));
        let told: Vec<_> = repeated.iter().map(|d| (d.message.as_str(), d.place.as_ref().unwrap().line)).collect();
        assert_eq!(told, [("the key `a` is written twice", 3), ("the key `e` is written twice", 4)]);
    }

    #[test]
    fn what_the_dialect_has_not_is_named_with_its_place() {
        let told = |text: &str| {
            let fault = fault(text.as_bytes());
            let place = fault.place.unwrap();
            format!("{}:{} {}", place.line, place.column, fault.message)
        };
        assert_eq!(told("a: &x 1\n"), "1:7 anchors and aliases (`&`, `*`) are not part of a pipeline file");
        assert_eq!(told("b: 1\na: *x\n"), "2:4 anchors and aliases (`&`, `*`) are not part of a pipeline file");
        assert_eq!(told("a:\n  <<: {b: 1}\n"), "2:3 merge keys (`<<`) are not part of a pipeline file");
        assert_eq!(
            told("a: !!python/object:os.system x\n"),
            "1:30 the tag `!!python/object:os.system` is not part of a pipeline file"
        );
        assert_eq!(told("a: !foo x\n"), "1:9 the tag `!foo` is not part of a pipeline file");
        assert_eq!(told("a: 1\n---\nb: 2\n"), "2:1 a second document begins here: a pipeline file holds one");
        assert_eq!(told("a: .nan\n"), "1:4 `.nan` is no finite number");
        assert_eq!(told("a:\n\tb: 1\n"), "2:2 not valid YAML: tabs disallowed within this context (block indentation)");
        assert_eq!(told("a: [1, 2\nb: 3\n"), "2:2 not valid YAML: illegal placement of ':' indicator");
        assert_eq!(told("a: b: c\n"), "1:5 not valid YAML: mapping values are not allowed in this context");
        assert_eq!(told("{[a]: 1}\n"), "1:2 a key must be a plain word or a quoted text");
        assert_eq!(told("a: \"open\n"), "1:4 not valid YAML: unclosed quote");
    }

    #[test]
    fn hostile_files_are_refused_at_once_and_by_name() {
        let mut bomb = String::from("a0: &a0 [x]\n");
        (1..50).for_each(|i| bomb.push_str(&format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1)));
        assert!(fault(bomb.as_bytes()).message.contains("anchors"));
        assert!(fault("[".repeat(10_000).as_bytes()).message.contains("max_depth"));
        let deep: String = (0..1000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(fault(deep.as_bytes()).message.contains("max_depth"));
        let compact = "- ".repeat(10_000) + "x";
        assert!(fault(compact.as_bytes()).message.contains("max_depth"));
        assert!(fault("? ".repeat(10_000).as_bytes()).message.contains("max_depth"));
        let long = format!("a: {}", "x".repeat(100_000_000));
        assert!(fault(long.as_bytes()).message.contains("max_file_bytes"));
        let many = "- 1\n".repeat(200_000);
        assert!(fault(many.as_bytes()).message.contains("max_nodes"));
        assert!(fault("a: 1\n---\n".repeat(50_000).as_bytes()).message.contains("second document"));
        let fault = fault(b"a: 1\nb: caf\xe9\n");
        assert_eq!((fault.message.as_str(), fault.place.unwrap().column), ("the file is not UTF-8: byte 0xE9 here", 7));
    }

    #[test]
    fn an_empty_file_is_nothing_and_a_nul_is_no_crash() {
        assert_eq!(tree("").value, NodeValue::Null);
        assert_eq!(tree("# only a comment\n").value, NodeValue::Null);
        let _ = parse(Path::new("p"), b"a: \0\n");
    }
}
