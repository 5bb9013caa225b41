//! PDF by pdf-extract, page by page. Nothing outside this file names that crate.
//!
//! Its own `extract_text_by_pages` stops at the first page that fails and calls that success; here each page is read by
//! itself, a panic in it is caught, and what failed is counted and named. Memory, time and the stack are the
//! worker's business.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Dictionary, Document as Pdf, Object, PlainTextOutput, output_doc_page};

use super::options::{ReadOptions, size_text};
use super::turns::{count, squeeze};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format, Page};

/// Reads the text of every page. `text` is the pages' texts one after the other; the pages' ranges cover it all.
pub(super) fn parse(bytes: &[u8], options: &ReadOptions) -> Result<Document, Refusal> {
    let pdf = load(bytes)?;
    let numbers: Vec<u32> = guarded(|| pdf.get_pages().into_keys().collect()).unwrap_or_default();
    if numbers.is_empty() {
        return Err((ReadReason::Unreadable, "is a PDF without a page that can be found".into()));
    }
    if numbers.len() > options.max_pages as usize {
        let detail = format!("has {} pages, more than the {} of `max_pages`", numbers.len(), options.max_pages);
        return Err((ReadReason::TooLarge, detail));
    }
    let mut document = Document::of(Format::Pdf, String::new());
    let (mut failed, mut empty, mut doubtful) = (Vec::new(), Vec::new(), Vec::new());
    for &number in &numbers {
        let words = page_text(&pdf, number);
        match words.as_deref() {
            None => failed.push(number),
            Some("") => empty.push(number),
            Some(words) if is_doubtful(words) => doubtful.push(number),
            Some(_) => {}
        }
        let from = document.text.len();
        document.text.push_str(words.as_deref().unwrap_or_default());
        document.text.push_str("\n\n");
        document.pages.push(Page { number, range: from..document.text.len() });
        if document.text.len() as u64 > options.max_text {
            let detail = format!("holds more text than the {} of `max_text`", size_text(options.max_text));
            return Err((ReadReason::TooLarge, detail));
        }
    }
    if failed.len() == numbers.len() {
        let pages = count(failed.len(), "page, which", "pages, all of which");
        return Err((ReadReason::Unreadable, format!("is a PDF of {pages} failed to read")));
    }
    if failed.len() + empty.len() == numbers.len() {
        return Err((ReadReason::NoTextFound, no_text(numbers.len(), &failed)));
    }
    let mut warn = |pages: &[u32], what: &str| {
        if !pages.is_empty() {
            document.warnings.push(format!("{} {what}", pages_text(pages)));
        }
    };
    warn(&failed, "could not be read");
    warn(&empty, "without text, perhaps scanned");
    warn(&doubtful, "with many characters that mean nothing; the text may be wrong");
    if let Some(promised) = promised_pages(&pdf).filter(|n| *n > numbers.len() as i64) {
        document.warnings.push(format!("{promised} pages are promised by the file and {} were found", numbers.len()));
    }
    read_info(&pdf, &mut document);
    Ok(document)
}

fn no_text(num_pages: usize, failed: &[u32]) -> String {
    let failed = if failed.is_empty() { String::new() } else { format!("; {} could not be read", pages_text(failed)) };
    format!("is a PDF of {} without text, perhaps scanned{failed}", count(num_pages, "page", "pages"))
}

fn load(bytes: &[u8]) -> Result<Pdf, Refusal> {
    let unreadable = |why: String| (ReadReason::Unreadable, format!("is a PDF that cannot be opened: {why}"));
    let mut pdf = match guarded(|| Pdf::load_mem(bytes)) {
        Some(Ok(pdf)) => pdf,
        Some(Err(error)) if is_password(&error) => return Err(encrypted()),
        Some(Err(error)) => return Err(unreadable(one_line(&error.to_string()))),
        None => return Err(unreadable("the parser failed".into())),
    };
    if pdf.is_encrypted() {
        // Many files are locked against changes only, and open with the empty password.
        match guarded(|| pdf.decrypt("")) {
            Some(Ok(())) => {}
            Some(Err(error)) if !is_password(&error) => return Err(unreadable(one_line(&error.to_string()))),
            Some(Err(_)) => return Err(encrypted()),
            None => return Err(unreadable("the parser failed while decrypting".into())),
        }
    }
    Ok(pdf)
}

fn encrypted() -> Refusal {
    (ReadReason::Encrypted, "is a PDF that opens only with a password".into())
}

fn is_password(error: &pdf_extract::Error) -> bool {
    use pdf_extract::Error;
    use pdf_extract::encryption::DecryptionError;
    matches!(error, Error::InvalidPassword | Error::Decryption(DecryptionError::IncorrectPassword))
}

/// Returns `None` where the page fails. A page that fails half-way gives no half: words of it may be missing anywhere.
fn page_text(pdf: &Pdf, number: u32) -> Option<String> {
    let mut raw = String::new();
    guarded(|| output_doc_page(pdf, &mut PlainTextOutput::new(&mut raw), number))?.ok()?;
    Some(tidied(&raw))
}

/// Runs a call into the PDF crates, which panic on purpose where they meet what they do not know.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half-built is dropped with it: every caller throws its value away.
    catch_unwind(AssertUnwindSafe(call)).ok()
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
    text.trim().replace('\0', "\u{FFFD}")
}

/// Fonts without a usable map give replacement and private-use characters; over one in twenty is no text.
fn is_doubtful(words: &str) -> bool {
    let (mut strange, mut all) = (0usize, 0usize);
    for c in words.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        strange += usize::from(matches!(c, '\u{FFFD}' | '\u{E000}'..='\u{F8FF}'));
    }
    strange * 20 > all
}

fn promised_pages(pdf: &Pdf) -> Option<i64> {
    let root = guarded(|| pdf.catalog().and_then(|c| c.get_deref(b"Pages", pdf)).and_then(Object::as_dict).ok())??;
    root.get_deref(b"Count", pdf).and_then(Object::as_i64).ok()
}

/// Takes `title`, `author` and `date` from the file's own description.
fn read_info(pdf: &Pdf, document: &mut Document) {
    let Some(info) = guarded(|| pdf.trailer.get_deref(b"Info", pdf).and_then(Object::as_dict).ok()).flatten() else {
        return;
    };
    let field = |key: &[u8]| text_field(pdf, info, key);
    for (name, value) in [("title", field(b"Title")), ("author", field(b"Author"))] {
        if let Some(value) = value {
            document.meta.insert(name.into(), value);
        }
    }
    if let Some(date) = field(b"CreationDate").as_deref().and_then(iso_date) {
        document.meta.insert("date".into(), date);
    }
}

fn text_field(pdf: &Pdf, info: &Dictionary, key: &[u8]) -> Option<String> {
    let value = guarded(|| pdf_extract::decode_text_string(info.get_deref(key, pdf).ok()?).ok()).flatten()?;
    let value = one_line(&value);
    if value.is_empty() { None } else { Some(value) }
}

/// `D:20260313094500+01'00'` -> `2026-03-13`
fn iso_date(date: &str) -> Option<String> {
    let digits = date.strip_prefix("D:").unwrap_or(date).get(..8)?;
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| format!("{}-{}-{}", &digits[..4], &digits[4..6], &digits[6..8]))
}

fn one_line(text: &str) -> String {
    squeeze(&text.replace(char::is_control, " "))
}

/// `page 3`, `pages 3, 7-9 and 4 more`
fn pages_text(pages: &[u32]) -> String {
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
