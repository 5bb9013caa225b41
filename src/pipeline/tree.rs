//! A file as a tree in which every key and value knows its place. Knows no YAML and no key by name.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diagnostic::Place;

/// A text that diagnostics point into.
#[derive(Clone, Debug)]
pub struct SourceText {
    pub path: PathBuf,
    /// That of the file, and behind it that of each file it includes: one text, so that places need no more than a line.
    pub text: String,
    pub included: Vec<Included>, // in the order of their lines
}

/// A file whose text stands behind that of the pipeline.
#[derive(Clone, Debug)]
pub struct Included {
    pub path: PathBuf,
    pub lines_before: u32, // in the text as a whole
}

impl SourceText {
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_path_buf(), text: text.to_owned(), included: Vec::new() }
    }

    /// Puts the text of an included file behind; returns the lines and bytes that now stand before it.
    pub fn append(&mut self, path: PathBuf, text: &str) -> (u32, usize) {
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        let lines_before = self.text.matches('\n').count() as u32;
        let bytes_before = self.text.len();
        self.included.push(Included { path, lines_before });
        self.text.push_str(text);
        (lines_before, bytes_before)
    }

    /// Returns the place of a position in the file that it is from.
    pub fn place(&self, at: Position) -> Place {
        match self.included.iter().rev().find(|i| at.line > i.lines_before) {
            Some(included) => Position { line: at.line - included.lines_before, ..at }.in_file(&included.path),
            None => at.in_file(&self.path),
        }
    }

    /// Returns a place of this text as one of the file that it is from.
    pub fn resolve(&self, place: Place) -> Place {
        if place.file != self.path {
            return place;
        }
        self.place(Position { line: place.line, column: place.column })
    }
}

/// One value of the file, where it begins, and the bytes it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Position,
    pub span: Range<usize>, // bytes of `SourceText::text`, empty for what has no text of its own
    pub value: NodeValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>), // in the order of the file
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_at: Position,
    pub value: Node,
}

/// A line and a column, both 1-based, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    pub const START: Self = Self { line: 1, column: 1 };

    /// Returns the place of what was said beside the file, on the command line: its number from 0, on a line that no
    /// text has.
    pub fn beside_the_file(number: usize) -> Self {
        Self { line: 0, column: number as u32 }
    }

    pub fn in_file(self, file: &Path) -> Place {
        Place { file: file.to_path_buf(), line: self.line, column: self.column }
    }
}

impl Node {
    /// Moves a tree down, behind other text.
    pub fn shift(&mut self, lines: u32, bytes: usize) {
        self.at.line += lines;
        if !self.span.is_empty() {
            self.span = self.span.start + bytes..self.span.end + bytes;
        }
        match &mut self.value {
            NodeValue::Seq(items) => items.iter_mut().for_each(|n| n.shift(lines, bytes)),
            NodeValue::Map(entries) => entries.iter_mut().for_each(|e| {
                e.key_at.line += lines;
                e.value.shift(lines, bytes);
            }),
            _ => {}
        }
    }

    /// Returns what an author would call it, for "expected …, found …".
    pub fn describe(&self) -> String {
        match &self.value {
            NodeValue::Null => "nothing".into(),
            NodeValue::Bool(b) => format!("{b}"),
            NodeValue::Int(i) => format!("the number {i}"),
            NodeValue::Float(f) => format!("the number {f}"),
            NodeValue::Str(s) => format!("the text {}", quoted(s)),
            NodeValue::Seq(_) => "a list".into(),
            NodeValue::Map(_) => "a mapping".into(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Returns the entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            NodeValue::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Str(s) => Some(s),
            _ => None,
        }
    }

    /// Returns where a place inside this text stands in the file: `line` and `column` are 1-based and count within the
    /// value. Exact for literal blocks and for one-line scalars without escapes; elsewhere, where the value begins.
    pub fn position_within(&self, source: &str, line: u32, column: u32) -> Position {
        let written = source.get(self.span.clone()).unwrap_or_default();
        let shifted = |by: u32| Position { line: self.at.line, column: self.at.column + by + column.saturating_sub(1) };
        match (block_header(source, self), written.chars().next()) {
            (Some(header), _) if header.literal => {
                Position { line: header.line + line, column: self.at.column + column.saturating_sub(1) }
            }
            (Some(_), _) => self.at,
            (None, _) if line > 1 || written.trim_end().contains('\n') => self.at,
            (None, Some('"')) if written.contains('\\') => self.at,
            (None, Some('"' | '\'')) => shifted(1),
            (None, _) => shifted(0),
        }
    }
}

/// The line that opens a block scalar: `key: |` keeps its lines, `key: >-` folds them.
struct BlockHeader {
    line: u32,
    literal: bool,
}

/// Returns the header of a block scalar, whose node begins at its first words, below the header.
fn block_header(source: &str, node: &Node) -> Option<BlockHeader> {
    let before = source.get(..node.span.start).filter(|_| !node.span.is_empty())?;
    let (above, indent) = before.rsplit_once('\n')?;
    let (index, header) = above.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).last()?;
    let header = header.split(" #").next().unwrap_or(header).trim_end();
    let mark = header.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '+').chars().next_back()?;
    (indent.trim().is_empty() && (mark == '|' || mark == '>'))
        .then_some(BlockHeader { line: index as u32 + 1, literal: mark == '|' })
}

/// Returns a text in backquotes, shortened and on one line.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60; // characters
    let mut shown = String::from("`");
    for c in text.chars().take(SHOWN) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown.push_str(if text.chars().nth(SHOWN).is_some() { "…`" } else { "`" });
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        crate::pipeline::file::parse(Path::new("p.yaml"), text.as_bytes()).unwrap().1
    }

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn a_place_inside_a_block_is_a_place_in_the_file() {
        let text = "a:\n  t: |\n    one\n      two {{ x }}\n  q: \"ab {{ y }}\"\n  p: ab {{ y\n";
        let root = tree(text);
        let a = root.get("a").unwrap();
        assert_eq!(a.get("t").unwrap().position_within(text, 2, 10), at(4, 14));
        assert_eq!(a.get("q").unwrap().position_within(text, 1, 7), at(5, 13));
        assert_eq!(a.get("p").unwrap().position_within(text, 1, 7), at(6, 12));
    }

    #[test]
    fn a_place_inside_a_folded_block_is_where_the_block_begins() {
        let text = "a: >- # folded\n\n  one\n  {{ x }}\nb: plain\n  on two {{ y }}\n";
        let root = tree(text);
        assert_eq!(root.get("a").unwrap().position_within(text, 1, 5), root.get("a").unwrap().at);
        assert_eq!(root.get("b").unwrap().position_within(text, 1, 10), at(5, 4));
    }
}
