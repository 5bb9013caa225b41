//! An answer as people read it. On a terminal it is wrapped between words, and each citation is a place that can be
//! clicked with its quote below; elsewhere it is a line for the answer and one for each citation.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::print;

/// Longer lines are hard to read, however wide the terminal is.
const WIDEST: usize = 100; // columns
const NARROWEST: usize = 30;

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Returns how many columns there are to write an answer in; `None` where standard output is no terminal.
pub fn columns() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let wide = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    Some(wide.clamp(NARROWEST, WIDEST))
}

/// Returns what `answer` gave as a text; names of files are relative to `base`.
pub fn text(reply: &Value, base: &Path, columns: Option<usize>) -> String {
    let answer = print::shown(reply["cited"].as_str().unwrap_or_default());
    let citations = reply["citations"].as_array().into_iter().flatten();
    let Some(columns) = columns else {
        let line = |c: &Value| format!("\n[{}] {}: \"{}\"", c["number"], word(c, "place"), quote(c));
        return answer + &citations.map(line).collect::<String>();
    };
    let mut text = wrapped(&answer, columns, "");
    for (index, citation) in citations.enumerate() {
        let gap = if index == 0 { "\n\n" } else { "\n" };
        let quoted = wrapped(&format!("\"{}\"", quote(citation)), columns, "    ");
        text.push_str(&format!(
            "{gap}{BOLD}[{}]{PLAIN} {}\n{DIM}{quoted}{PLAIN}",
            citation["number"],
            link(base, citation)
        ));
    }
    text.push('\n');
    text
}

fn word(citation: &Value, name: &str) -> String {
    print::shown(citation[name].as_str().unwrap_or_default())
}

fn quote(citation: &Value) -> String {
    word(citation, "quote").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Breaks a text between words; each line begins with `indent`. A word that is wider than a line stands on its own, and
/// the terminal breaks it.
fn wrapped(text: &str, columns: usize, indent: &str) -> String {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.width() + 1 + word.width() > columns {
            lines.push(format!("{indent}{line}"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(format!("{indent}{line}"));
    lines.join("\n")
}

/// A place that a terminal opens when it is clicked: the hyperlinks of OSC 8.
fn link(base: &Path, citation: &Value) -> String {
    let place = word(citation, "place");
    let path = base.join(citation["file"].as_str().unwrap_or_default());
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(b);
    let path: String = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|b| if plain(b) { (*b as char).to_string() } else { format!("%{b:02X}") })
        .collect();
    let page = citation["pages"][0].as_u64().map(|p| format!("#page={p}")).unwrap_or_default();
    format!("\u{1b}]8;;file://{path}{page}\u{1b}\\{place}\u{1b}]8;;\u{1b}\\")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply() -> Value {
        json!({ "cited": "They are kept for seven years. [1]", "citations": [
            { "number": 1, "place": "my rules.pdf, page 4", "file": "my rules.pdf", "pages": [4, 4],
              "quote": "Payroll records are\nkept for seven years." },
        ] })
    }

    #[test]
    fn a_pipe_gets_a_line_for_each_citation_and_no_escapes() {
        let expected = "They are kept for seven years. [1]\n[1] my rules.pdf, page 4: \"Payroll records are kept for seven years.\"";
        assert_eq!(text(&reply(), Path::new("/d"), None), expected);
    }

    #[test]
    fn a_terminal_gets_lines_that_fit_and_a_place_to_click() {
        let shown = text(&reply(), Path::new("/d"), Some(30));
        assert!(
            shown.contains("]8;;file:///d/my%20rules.pdf#page=4\u{1b}\\my rules.pdf, page 4\u{1b}]8;;"),
            "{shown:?}"
        );
        let lines: Vec<&str> = shown.lines().filter(|l| !l.contains("]8;;")).collect();
        assert_eq!(lines[..3], ["They are kept for seven years.", "[1]", ""]);
        assert_eq!(lines[3..], ["\u{1b}[2m    \"Payroll records are kept", "    for seven years.\"\u{1b}[0m"]);
    }

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(wrapped("我们我们 我们 ok", 12, ""), "我们我们\n我们 ok");
        assert_eq!(wrapped("", 12, ""), "");
    }
}
