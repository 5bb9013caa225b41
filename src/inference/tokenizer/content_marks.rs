//! Stand-ins for the words of messages and documents while a template runs, so that the template's own words can
//! be told from them afterwards. Knows no template.
//!
//! A stand-in is a short run of private-use characters between the content's own leading and trailing blanks. It
//! lives through `trim`, `~`, `+`, `| string`, `.strip()`, `| tojson` (ours deepens its escape mark) and a `split` at
//! anything that it does not hold. It is not empty where the content is not, but its length, its case and what it
//! contains are not the content's: a template that measures, searches, replaces or re-cases a message sees none of
//! its words. One that cuts a stand-in is an error, never a wrong prompt.

use super::rendered::Piece;

/// Blanks at an end that are shown to the template; more are kept with the content.
const SHOWN_BLANKS_MAX: usize = 4096;
const ESCAPES_MAX: u32 = 7;

const FIRST_MARK: u32 = 0x10_FF00; // 16 digits
const OPEN: char = '\u{10FF10}';
const CLOSE: char = '\u{10FF11}';
const PLAIN: u32 = 0x10_FF20; // + how many times the content is to be escaped as a JSON string
const LAST_MARK: u32 = 0x10_FF3F;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MarkFault {
    #[error("it cuts the text of a message or document to pieces, so the parts could not be kept apart from markup")]
    Cut,
    #[error("it writes a message as JSON inside JSON more than {ESCAPES_MAX} times")]
    TooDeep,
    #[error("it repeats messages until the prompt has more than {0} bytes")]
    TooLong(usize),
}

/// The contents hidden from one rendering.
#[derive(Default)]
pub(super) struct ContentMarks {
    contents: Vec<String>,
    num_bytes: usize, // of all contents
}

impl ContentMarks {
    /// Returns what to show the template instead of `content`: blank text is shown as it is.
    pub(super) fn hide(&mut self, content: &str) -> String {
        let core = content.trim();
        if core.is_empty() && content.len() <= SHOWN_BLANKS_MAX {
            return content.to_owned();
        }
        let before = content.len() - content.trim_start().len();
        let start = if before <= SHOWN_BLANKS_MAX { before } else { 0 };
        let after = content.trim_end().len();
        let end = if content.len() - after <= SHOWN_BLANKS_MAX { after.max(start) } else { content.len() };

        let mut shown = content[..start].to_owned();
        shown.push(OPEN);
        for digit in format!("{:x}", self.contents.len()).chars() {
            shown.extend(char::from_u32(FIRST_MARK + digit.to_digit(16).unwrap_or(0)));
        }
        shown.extend(char::from_u32(PLAIN));
        shown.push(CLOSE);
        shown.push_str(&content[end..]);
        self.num_bytes += content.len();
        self.contents.push(content[start..end].to_owned());
        shown
    }

    /// Returns `rendered` with the contents back in place, each a piece of its own; in all at most `bytes_max` bytes
    /// more than four times the contents.
    pub(super) fn reveal(&self, rendered: &str, bytes_max: usize) -> Result<Vec<Piece>, MarkFault> {
        let bytes_max = bytes_max.saturating_add(self.num_bytes.saturating_mul(4));
        let mut pieces = Vec::new();
        let mut num_bytes = 0;
        let mut rest = rendered;
        while let Some(at) = rest.find(is_mark) {
            pieces.push(Piece::Template(rest[..at].to_owned()));
            let (index, escapes, after) = parse_mark(&rest[at..]).ok_or(MarkFault::Cut)?;
            let content = self.contents.get(index).ok_or(MarkFault::Cut)?;
            num_bytes += at + (content.len() << escapes); // an escape at most doubles, but for rare control characters
            if num_bytes > bytes_max {
                return Err(MarkFault::TooLong(bytes_max));
            }
            let escaped = (0..escapes).fold(content.clone(), |text, _| escape(&text));
            pieces.push(Piece::Data(escaped));
            rest = after;
        }
        pieces.push(Piece::Template(rest.to_owned()));
        Ok(pieces)
    }
}

/// Returns whether `character` is kept for stand-ins: a template that holds one is refused.
pub(super) fn is_mark(character: char) -> bool {
    (FIRST_MARK..=LAST_MARK).contains(&(character as u32))
}

/// Returns the character to write for `character` of a stand-in inside a JSON string: the escape mark goes one deeper.
pub(super) fn deepen(character: char) -> Result<char, MarkFault> {
    match (character as u32).checked_sub(PLAIN) {
        Some(escapes) if escapes < ESCAPES_MAX => char::from_u32(PLAIN + escapes + 1).ok_or(MarkFault::TooDeep),
        Some(_) => Err(MarkFault::TooDeep),
        None => Ok(character),
    }
}

/// Returns the stand-in's index, its number of escapes, and what follows it.
fn parse_mark(text: &str) -> Option<(usize, u32, &str)> {
    let body = text.strip_prefix(OPEN)?;
    let (body, after) = body.split_once(CLOSE)?;
    let mut characters = body.chars();
    let escapes = (characters.next_back()? as u32).checked_sub(PLAIN).filter(|escapes| *escapes <= ESCAPES_MAX)?;
    let mut index = 0usize;
    for character in characters {
        let digit = (character as u32).checked_sub(FIRST_MARK).filter(|digit| *digit < 16)?;
        index = index.checked_mul(16)?.checked_add(digit as usize)?;
    }
    Some((index, escapes, after))
}

/// Returns `text` as it stands inside a JSON string.
fn escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_round_trip(contents: &[&str]) {
        let mut marks = ContentMarks::default();
        let shown: String = contents.iter().map(|content| marks.hide(content)).collect();
        let text: String = marks.reveal(&shown, 0).unwrap().into_iter().map(Piece::into_text).collect();
        assert_eq!(text, contents.concat());
    }

    #[test]
    fn contents_come_back_with_their_blanks() {
        check_round_trip(&["plain", "  lead", "trail \n\n", "", " \t ", "\u{10FF10}\u{10FF00}", "é\u{a0}"]);
        check_round_trip(&[&" ".repeat(9000), &format!("{}x{}", "\n".repeat(5000), " ".repeat(5000))]);
    }

    #[test]
    fn a_trimmed_stand_in_is_trimmed_content() {
        let mut marks = ContentMarks::default();
        let shown = marks.hide("  hi \n");
        assert_eq!(marks.reveal(shown.trim(), 0).unwrap()[1], Piece::Data("hi".into()));
    }

    #[test]
    fn a_cut_stand_in_is_an_error() {
        let mut marks = ContentMarks::default();
        let shown = marks.hide("hi");
        let cut: String = shown.chars().skip(1).collect();
        assert_eq!(marks.reveal(&cut, 0), Err(MarkFault::Cut));
    }

    #[test]
    fn a_template_cannot_multiply_a_document_without_end() {
        let mut marks = ContentMarks::default();
        let shown = marks.hide(&"x".repeat(1000)).repeat(50);
        assert_eq!(marks.reveal(&shown, 10_000), Err(MarkFault::TooLong(14_000)));
    }
}
