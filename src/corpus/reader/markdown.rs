//! Markdown: the text as it stands, with its headings and its front matter found.

use std::ops::Range;

use super::label;
use super::turns::{line_ranges, squeeze};
use crate::corpus::document::{Document, Format, Heading};

/// Reads Markdown. The text is not changed: every byte of it is a byte of the decoded file. Front matter stays in the
/// text and its plain `key: value` lines become meta; `title` falls back to the first heading of level 1.
pub(super) fn parse(text: String) -> Document {
    let (mut headings, mut meta) = (Vec::new(), Vec::new());
    let body = front_matter(&text, &mut meta);
    let mut fence: Option<(char, usize)> = None;
    let mut paragraph: Option<Range<usize>> = None; // its last line
    for line in line_ranges(&text).filter(|l| l.start >= body) {
        let words = &text[line.clone()];
        if let Some((mark, len)) = fence {
            if opens_fence(words).is_some_and(|(m, l)| m == mark && l >= len && is_only(words, mark)) {
                fence = None;
            }
            continue;
        }
        if let Some(opened) = opens_fence(words) {
            (fence, paragraph) = (Some(opened), None);
        } else if let Some((level, title)) = atx(words) {
            headings.push(Heading { level, title, range: line });
            paragraph = None;
        } else if let (Some(level), Some(above)) = (setext(words), paragraph.take()) {
            headings.push(Heading { level, title: squeeze(&text[above.clone()]), range: above.start..line.end });
        } else {
            // Lists, quotes, tables and indented code take no underline.
            let plain = !words.trim().is_empty() && !words.starts_with("    ") && !words.starts_with(['\t', '|', '>']);
            let list = words.trim_start().starts_with(['-', '*', '+']);
            paragraph = (plain && !list).then_some(line);
        }
    }
    let title = headings.iter().find(|h| h.level == 1).map(|h| h.title.clone());
    let mut document = Document { headings, ..Document::of(Format::Markdown, text) };
    document.meta.extend(meta);
    if let Some(title) = title.filter(|t| !t.is_empty()) {
        document.meta.entry("title".into()).or_insert(title);
    }
    document
}

/// Returns where the body begins, and collects the fields between the first two `---` lines.
fn front_matter(text: &str, meta: &mut Vec<(String, String)>) -> usize {
    let mut lines = line_ranges(text);
    if lines.next().is_none_or(|first| text[first].trim_end() != "---") {
        return 0;
    }
    let mut found = Vec::new();
    for line in lines {
        let words = &text[line.clone()];
        if matches!(words.trim_end(), "---" | "...") {
            meta.append(&mut found);
            return line.end;
        }
        if let Some((key, value)) = words.split_once(':')
            && !key.starts_with([' ', '\t', '-', '#'])
        {
            let value = value.trim().trim_matches(['"', '\'']);
            let key = key.trim();
            let name = label::header_key(key).map_or_else(|| key.to_lowercase(), str::to_owned);
            if !value.is_empty() && !key.is_empty() {
                found.push((name, value.to_owned()));
            }
        }
    }
    0 // never closed: a thematic break
}

/// `## Title ##`
fn atx(line: &str) -> Option<(u8, String)> {
    let words = unindented(line)?;
    let level = words.bytes().take_while(|b| *b == b'#').count();
    let rest = words.get(level..)?;
    if !(1..=6).contains(&level) || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return None;
    }
    let title = rest.trim();
    let closed = title.trim_end_matches('#');
    let title = if closed.is_empty() || closed.ends_with([' ', '\t']) { closed.trim_end() } else { title };
    Some((level as u8, squeeze(title)))
}

/// A line of `===` or `---` below a paragraph.
fn setext(line: &str) -> Option<u8> {
    let words = unindented(line)?.trim_end();
    match words.chars().next()? {
        '=' if is_only(words, '=') => Some(1),
        '-' if is_only(words, '-') => Some(2),
        _ => None,
    }
}

fn opens_fence(line: &str) -> Option<(char, usize)> {
    let words = unindented(line)?;
    let mark = words.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let len = words.chars().take_while(|c| *c == mark).count();
    // Backticks after the opening make it a piece of code in a line.
    (len >= 3 && !(mark == '`' && words[len..].contains('`'))).then_some((mark, len))
}

fn is_only(line: &str, mark: char) -> bool {
    line.trim().chars().all(|c| c == mark)
}

fn unindented(line: &str) -> Option<&str> {
    let words = line.trim_start_matches(' ');
    if line.len() - words.len() <= 3 { Some(words) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_outside_code_only() {
        let text = "---\ntitle: \"The plan\"\nautor: Eva\n---\n# One #\n\n```sh\n# no heading\n```\n\nTwo\n===\n\n\
                    Three\n---\n- a\n---\n    # code\n#hash\n###### Six ##\n";
        let document = parse(text.to_owned());
        let seen: Vec<_> = document.headings.iter().map(|h| (h.level, h.title.as_str())).collect();
        assert_eq!(seen, [(1, "One"), (1, "Two"), (2, "Three"), (6, "Six")]);
        assert_eq!(&text[document.headings[1].range.clone()], "Two\n===");
        assert_eq!((document.meta["title"].as_str(), document.meta["autor"].as_str()), ("The plan", "Eva"));
        assert_eq!(document.text, text);
    }

    #[test]
    fn an_open_front_matter_is_a_thematic_break() {
        let document = parse("---\n# A: b\n".into());
        assert_eq!(document.headings.len(), 1);
        assert_eq!(document.meta["title"], "A: b");
    }
}
