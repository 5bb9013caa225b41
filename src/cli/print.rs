//! The terminal: results on standard output, everything else on standard error, mistakes with the line they are about.
//! Control characters of whatever comes from a file are shown, never obeyed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, renderer::DecorStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Place, Severity};

/// Writes a result. The error `BrokenPipe` says that the reader has gone.
pub fn result(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a part of a result as it comes, and no line end.
pub fn piece(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a JSON result on one line.
pub fn json(value: &Value) -> io::Result<()> {
    result(&value.to_string())
}

/// Writes something large as JSON on one line, without making a value or a text of it first.
pub fn json_of(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes a line for people to standard error; what cannot be written there cannot be told anywhere.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Nobody reads on behind these; a file with more is most often no pipeline at all.
const MOST_SHOWN: usize = 100;

/// Writes diagnostics to standard error, each with the line it is about, and how many there are.
pub fn diagnostics(diagnostics: &[Diagnostic]) {
    let mut texts = Texts::default();
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    let mut err = anstream::stderr();
    for diagnostic in diagnostics.iter().take(MOST_SHOWN) {
        let _ = writeln!(err, "{}\n", render(&renderer, diagnostic, &mut texts));
    }
    if let Some(more) = diagnostics.len().checked_sub(MOST_SHOWN).filter(|n| *n > 0) {
        let _ = writeln!(err, "and {more} more; `quarry check --json` tells them all");
    }
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors + warnings > 1 {
        let words = [(errors, "error"), (warnings, "warning")];
        let words = words
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" }));
        let _ = writeln!(err, "{}", words.collect::<Vec<_>>().join(", "));
    }
}

/// Returns diagnostics as machines read them.
pub fn diagnostics_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics
        .iter()
        .map(|d| {
            json!({
                "severity": if d.severity == Severity::Error { "error" } else { "warning" },
                "message": d.message,
                "file": d.place.as_ref().map(|p| p.file.to_string_lossy()),
                "line": d.place.as_ref().map(|p| p.line),
                "column": d.place.as_ref().map(|p| p.column),
                "hints": d.hints,
            })
        })
        .collect()
}

/// The files that snippets are taken from, each read once.
#[derive(Default)]
struct Texts(BTreeMap<PathBuf, Option<String>>);

impl Texts {
    /// A snippet never needs more than one line, and a file of quarry is never longer than this.
    const MOST: u64 = 4 << 20; // bytes

    fn line(&mut self, place: &Place) -> Option<&str> {
        let text = self.0.entry(place.file.clone()).or_insert_with(|| read(&place.file));
        text.as_deref()?.lines().nth(place.line.checked_sub(1)? as usize)
    }
}

fn read(path: &Path) -> Option<String> {
    use io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(Texts::MOST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn render(renderer: &Renderer, diagnostic: &Diagnostic, texts: &mut Texts) -> String {
    let level = if diagnostic.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
    let title = level.primary_title(shown(&diagnostic.message));
    let Some(place) = &diagnostic.place else {
        let mut text = renderer.render(&[Group::with_title(title)]);
        diagnostic.hints.iter().for_each(|h| text.push_str(&format!("\nhint: {}", shown(h))));
        return text;
    };
    let path = shown(&place.file.to_string_lossy());
    let hints = diagnostic.hints.iter().map(|h| Level::HELP.with_name("hint").message(shown(h)));
    let (line, column) = (place.line as usize, (place.column as usize).max(1));
    match texts.line(place).filter(|text| text.len() <= LONGEST_LINE) {
        Some(text) => {
            // One character for one, so that columns stay what they are.
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let at = text.char_indices().nth(column - 1).map_or(text.len(), |(i, _)| i);
            let span = token(&text, at);
            let snippet = Snippet::source(text).line_start(line).path(path);
            let snippet = snippet.annotation(AnnotationKind::Primary.span(span));
            renderer.render(&[title.element(snippet).elements(hints)])
        }
        None => {
            let origin = Origin::path(path).line(line).char_column(column);
            renderer.render(&[title.element(origin).elements(hints)])
        }
    }
}

/// A file may be one line of a megabyte: such a line is not shown, only its place.
const LONGEST_LINE: usize = 2_000; // bytes

/// Returns the bytes of the word or the quoted text that begins at `at`.
fn token(line: &str, at: usize) -> std::ops::Range<usize> {
    let rest = &line[at..];
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'');
    let length = match quote {
        Some(quote) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
        None => rest.find(|c: char| c.is_whitespace() || ",[]{}:".contains(c)).unwrap_or(rest.len()),
    };
    let first = rest.chars().next().map_or(0, char::len_utf8);
    at..at + length.max(first)
}

/// Returns text with its control characters spelled out, but for those that lay out lines: a tab, and both kinds of line
/// end. A carriage return alone would write over what stands before it.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_layout = matches!(c, '\n' | '\t') || (c == '\r' && chars.peek() == Some(&'\n'));
        if c.is_control() && !is_layout { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_tabs_and_line_ends_and_nothing_else_that_it_obeys() {
        assert_eq!(shown("a\tb\r\nc\n"), "a\tb\r\nc\n");
        assert_eq!(shown("over\rwritten \u{1b}[2J\u{7}"), "over\\rwritten \\u{1b}[2J\\u{7}");
    }

    fn plain(diagnostic: &Diagnostic, text: &str) -> String {
        let mut texts = Texts::default();
        texts.0.insert("p.yaml".into(), Some(text.into()));
        render(&Renderer::plain().decor_style(DecorStyle::Ascii), diagnostic, &mut texts)
    }

    fn at(line: u32, column: u32) -> Place {
        Place { file: "p.yaml".into(), line, column }
    }

    #[test]
    fn a_mistake_stands_under_its_line_with_its_hint() {
        let diagnostic = Diagnostic::error("unknown key `overlp`").at(at(2, 3)).hint("did you mean `overlap`?");
        let expected = "\
error: unknown key `overlp`
 --> p.yaml:2:3
  |
2 |   overlp: 3
  |   ^^^^^^
  |
  = hint: did you mean `overlap`?";
        assert_eq!(plain(&diagnostic, "steps:\n  overlp: 3\n"), expected);
    }

    #[test]
    fn a_mistake_without_a_place_is_two_lines_and_a_missing_file_is_no_crash() {
        let diagnostic = Diagnostic::error("no such file").hint("look again");
        assert_eq!(plain(&diagnostic, ""), "error: no such file\nhint: look again");
        let gone = Diagnostic::error("x").at(Place { file: "gone.yaml".into(), line: 7, column: 9 });
        assert!(plain(&gone, "").contains("gone.yaml:7:9"));
    }

    #[test]
    fn escapes_of_a_terminal_are_shown_and_not_obeyed() {
        let diagnostic = Diagnostic::error("bad \u{1b}[31mword").at(at(1, 4));
        let text = plain(&diagnostic, "a: \u{1b}]0;x\u{7}\n");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        assert!(text.contains("\\u{1b}[31m"), "{text:?}");
    }

    #[test]
    fn a_line_of_a_megabyte_is_not_shown() {
        let text = format!("a: {}ö!{}", "x".repeat(500_000), "y".repeat(500_000));
        let rendered = plain(&Diagnostic::error("here").at(at(1, 500_004)), &text);
        assert!(rendered.len() < 2000 && rendered.contains("p.yaml:1:500004"), "{rendered}");
    }
}
