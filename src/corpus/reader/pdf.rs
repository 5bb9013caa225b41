//! PDF page by page: by pdf-extract, and by a second engine where the first fails, gives nothing, gives what is no text,
//! or leaves letters out. What failed is counted and named. Memory, time and the stack are the worker's business.

mod first;
mod lines;
mod second;
mod words;

use std::collections::BTreeSet;

use super::options::{ReadOptions, size_text};
use super::turns::{count, squeeze};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format, Page};
use first::First;
use second::Second;

/// What is said of a page on which there are no words.
pub(super) const WITHOUT_TEXT: &str = "without text, perhaps scanned";

/// Reads the text of every page. `text` is the pages' texts one after the other; the pages' ranges cover it all.
/// Where the pages are `recognized_later`, a file none of whose pages has words is returned too.
pub(super) fn parse(bytes: &[u8], options: &ReadOptions, recognized_later: bool) -> Result<Document, Refusal> {
    let mut second = Second::new(bytes, &options.passwords);
    let first = First::open(bytes, &options.passwords);
    if let Err((ReadReason::Encrypted, detail)) = first {
        return Err((ReadReason::Encrypted, detail));
    }
    let mut numbers = first.as_ref().map(First::page_numbers).unwrap_or_default();
    if numbers.is_empty() {
        numbers = (1..=second.num_pages().unwrap_or(0) as u32).collect();
    }
    if numbers.is_empty() {
        first?;
        return Err((ReadReason::Unreadable, "is a PDF without a page that can be found".into()));
    }
    if numbers.len() > options.max_pages as usize {
        let detail = format!("has {} pages, more than the {} of `max_pages`", numbers.len(), options.max_pages);
        return Err((ReadReason::TooLarge, detail));
    }
    let mut first = first.ok();
    let mut document = Document::of(Format::Pdf, String::new());
    let (mut failed, mut empty, mut doubtful, mut repaired) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, &number) in numbers.iter().enumerate() {
        let by_first = first.as_mut().and_then(|pdf| pdf.page_text(number)).map(|raw| tidied(&raw));
        let by_second = second.page_text(index).map(|raw| tidied(&raw));
        let mut words = better(by_first, by_second);
        if let Some((text, encoding)) = words.as_deref().filter(|w| is_doubtful(w)).and_then(words::east_asian) {
            words = Some(text);
            repaired.push((number, encoding));
        }
        match words.as_deref() {
            None => failed.push(number),
            Some("") => empty.push(number),
            Some(words) if is_doubtful(words) => doubtful.push(number),
            Some(_) => {}
        }
        // After the page is judged: a comment on a scanned page does not make it one with text.
        add_notes(&mut words, first.as_ref().map(|pdf| pdf.notes(number)).unwrap_or_default());
        let from = document.text.len();
        document.text.push_str(words.as_deref().unwrap_or_default());
        document.text.push_str("\n\n");
        document.pages.push(Page { number, range: from..document.text.len() });
        if document.text.len() as u64 > options.max_text {
            let detail = format!("holds more text than the {} of `max_text`", size_text(options.max_text));
            return Err((ReadReason::TooLarge, detail));
        }
    }
    let has_text = !document.text.trim().is_empty();
    if failed.len() == numbers.len() && !has_text && !recognized_later {
        let pages = count(failed.len(), "page, which", "pages, all of which");
        return Err((ReadReason::Unreadable, format!("is a PDF of {pages} failed to read")));
    }
    if failed.len() + empty.len() == numbers.len() && !has_text && !recognized_later {
        return Err((ReadReason::NoTextFound, no_text(numbers.len(), &failed)));
    }
    let mut warn = |pages: &[u32], what: &str| {
        if !pages.is_empty() {
            document.warnings.push(format!("{} {what}", pages_text(pages)));
        }
    };
    warn(&failed, "could not be read");
    warn(&empty, WITHOUT_TEXT);
    warn(&doubtful, "with many characters that mean nothing; the text may be wrong");
    for encoding in repaired.iter().map(|(_, encoding)| *encoding).collect::<BTreeSet<_>>() {
        let pages: Vec<u32> = repaired.iter().filter(|(_, e)| *e == encoding).map(|(number, _)| *number).collect();
        warn(&pages, &format!("with a font that calls its letters Latin, read as the {encoding} that they seem to be"));
    }
    if !empty.is_empty() {
        let numbers = empty.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        document.meta.insert("needs_ocr".into(), numbers);
    }
    if let Some(pdf) = &first {
        let attached = pdf.attachments();
        if !attached.is_empty() {
            let names = attached.into_iter().collect::<Vec<_>>().join(", ");
            document.warnings.push(format!("files that are attached to it were not read: {names}"));
        }
        if let Some(promised) = pdf.promised_pages().filter(|n| *n > numbers.len() as i64) {
            let found = numbers.len();
            document.warnings.push(format!("{promised} pages are promised by the file and {found} were found"));
        }
        read_info(pdf, &mut document);
    } else {
        document.warnings.push("is damaged; its pages were found without its own table of contents".into());
    }
    Ok(document)
}

/// Adds fields and comments behind the words of a page, without those that an engine read already.
fn add_notes(words: &mut Option<String>, notes: Vec<String>) {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let have = words.as_deref().map(letters).unwrap_or_default();
    for note in notes {
        let said = note.split_once(": ").map_or(note.as_str(), |(_, said)| said);
        if !have.contains(&letters(said)) || letters(said).chars().count() < 4 {
            let words = words.get_or_insert_default();
            if !words.is_empty() {
                words.push('\n');
            }
            words.push_str(&note);
        }
    }
}

/// Returns the better reading of a page. The first engine's stands, unless it is doubtful or leaves letters out that the
/// second one finds: a font that it cannot map is silent. Words that are found twice are no more words.
fn better(first: Option<String>, second: Option<String>) -> Option<String> {
    let (Some(one), Some(two)) = (&first, &second) else { return first.or(second) };
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    let is_short = letters(two) * 100 > letters(one) * MORE_LETTERS_PERCENT && has_other_words(two, one);
    let is_worse = (is_doubtful(one) && !is_doubtful(two)) || (is_spaced_out(one) && !is_spaced_out(two));
    if two.is_empty() || !(is_short || is_worse) { first } else { second }
}

/// Whether one in twenty of the words is not in the other text.
fn has_other_words(words: &str, other: &str) -> bool {
    let of = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
    };
    let (words, other) = (of(words), of(other));
    words.difference(&other).count() * 20 > words.len()
}

/// On the 26 files with text of a browser's bug corpus, mean word F1 against Poppler was 0.83 with the first engine alone
/// and 0.91 with this choice; 0.96 without the two files in which Poppler's own text means nothing.
const MORE_LETTERS_PERCENT: usize = 110;

/// `H e r e`: every letter was placed by itself, and none of the words is one.
fn is_spaced_out(text: &str) -> bool {
    let words = text.split_whitespace().filter(|w| w.chars().all(char::is_alphanumeric) && w.is_ascii());
    let (num, len) = words.fold((0, 0), |(num, len), word| (num + 1, len + word.len()));
    num >= 8 && len < num * 2
}

fn no_text(num_pages: usize, failed: &[u32]) -> String {
    let failed = if failed.is_empty() { String::new() } else { format!("; {} could not be read", pages_text(failed)) };
    format!("is a PDF of {} without text, perhaps scanned{failed}", count(num_pages, "page", "pages"))
}

/// Takes off what the extractor adds: spaces at ends of lines, and more than one blank line in a row.
fn tidied(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut blank = 0;
    for line in raw.lines().map(str::trim_end) {
        blank = if line.is_empty() { blank + 1 } else { 0 };
        if blank <= 1 {
            text.push_str(line);
            text.push('\n');
        }
    }
    let text = words::spelled_out(&words::undivided(text.trim()));
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

/// Fonts without a usable map give replacement and private-use characters; over one in twenty is no text. Bytes of an
/// East Asian encoding that were taken for Latin letters are mostly beyond ASCII, which no Latin language is.
fn is_doubtful(words: &str) -> bool {
    let (mut strange, mut accented, mut all) = (0usize, 0usize, 0usize);
    for c in words.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        strange += usize::from(matches!(c, '\u{FFFD}' | '\u{E000}'..='\u{F8FF}' | '\u{1}'..='\u{1F}'));
        accented += usize::from(matches!(c, '\u{80}'..='\u{FF}'));
    }
    strange * 20 > all || (all > 20 && accented * 5 > all * 2) || words::mixes_scripts(words)
}

/// Takes `title`, `author` and `date` from the file's own description.
fn read_info(pdf: &First, document: &mut Document) {
    for (name, value) in [("title", pdf.info(b"Title")), ("author", pdf.info(b"Author"))] {
        if let Some(value) = value {
            document.meta.insert(name.into(), value);
        }
    }
    if let Some(date) = pdf.info(b"CreationDate").as_deref().and_then(iso_date) {
        document.meta.insert("date".into(), date);
    }
}

/// `D:20260313094500+01'00'` -> `2026-03-13`
fn iso_date(date: &str) -> Option<String> {
    let digits = date.strip_prefix("D:").unwrap_or(date).get(..8)?;
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..8]))
}

pub(super) fn one_line(text: &str) -> String {
    squeeze(&text.replace(char::is_control, " "))
}

/// `page 3`, `pages 3, 7-9 and 4 more`
pub(super) fn pages_text(pages: &[u32]) -> String {
    const MAX_RUNS: usize = 8;
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == page => *last = page,
            _ => runs.push((page, page)),
        }
    }
    let shown: Vec<String> = runs
        .iter()
        .take(MAX_RUNS)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    let rest: u32 = runs.iter().skip(MAX_RUNS).map(|(first, last)| last - first + 1).sum();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{} {}{more}", if pages.len() == 1 { "page" } else { "pages" }, shown.join(", "))
}

#[cfg(test)]
pub(super) mod tests;
