//! Words of pages that are images, by programs that the user has installed: `pdftoppm` draws the page, `tesseract` reads
//! it. Both run as child processes with limits; neither is asked for where `ocr` is not set.

use std::path::Path;
use std::time::Instant;

use super::options::{Ocr, ReadOptions};
use super::pdf::{WITHOUT_TEXT, one_line, pages_text};
use super::worker::{Allowance, Stopped, run};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Page};

/// Pixels of a page's longer side: A4 at 300 dots per inch, what tesseract was made for. A page is never drawn larger,
/// whatever size it claims.
const LONGER_SIDE: u32 = 3508;

/// A drawn page is at most this many bytes: grey, and hardly compressed.
const MAX_IMAGE_BYTES: u64 = 64 << 20;

/// The programs, by name or by path.
pub(super) struct Programs<'a> {
    pub draw: &'a Path,
    pub recognize: &'a Path,
}

impl Default for Programs<'_> {
    fn default() -> Self {
        Self { draw: Path::new("pdftoppm"), recognize: Path::new("tesseract") }
    }
}

/// Puts words on the pages of a PDF that have none, and says which. Does nothing where `ocr` is not set.
pub(super) fn recognize(
    document: &mut Document,
    bytes: &[u8],
    options: &ReadOptions,
    programs: &Programs<'_>,
) -> Result<(), Refusal> {
    // A page may hold no more than a comment beside its image.
    let needed = document.meta.get("needs_ocr").map(String::as_str).unwrap_or_default();
    let needed: Vec<u32> = needed.split(", ").filter_map(|number| number.parse().ok()).collect();
    let is_blank = |page: &&Page| page_words(document, page).is_empty() || needed.contains(&page.number);
    let blank: Vec<u32> = document.pages.iter().filter(is_blank).map(|page| page.number).collect();
    if options.ocr == Ocr::None || blank.is_empty() {
        return Ok(());
    }
    let (mut read, mut empty, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for number in blank {
        match words_of(bytes, number, options, programs) {
            Ok(words) if words.is_empty() => empty.push(number),
            Ok(words) => read.push((number, words)),
            Err(Fault::Program(detail)) => return Err((ReadReason::ReadFailed, detail)),
            Err(Fault::Page(why)) => failed.push((number, why)),
        }
    }
    document.warnings.retain(|warning| !warning.ends_with(WITHOUT_TEXT));
    if !read.is_empty() {
        let numbers: Vec<u32> = read.iter().map(|(number, _)| *number).collect();
        let warning = format!("{} read from images by tesseract, which makes mistakes", pages_text(&numbers));
        document.warnings.push(warning);
        document.meta.insert("ocr".into(), joined(&numbers));
    }
    if !empty.is_empty() {
        document.warnings.push(format!("{} without text, and tesseract found none", pages_text(&empty)));
    }
    for (number, why) in &failed {
        document.warnings.push(format!("page {number} without text, and not recognised: {why}"));
    }
    let mut missing: Vec<u32> = failed.iter().map(|(number, _)| *number).chain(empty).collect();
    missing.sort_unstable();
    if missing.is_empty() {
        document.meta.remove("needs_ocr");
    } else {
        document.meta.insert("needs_ocr".into(), joined(&missing));
    }
    put(document, read);
    if document.text.trim().is_empty() {
        let why = failed.first().map_or("tesseract found none".to_owned(), |(_, why)| format!("not recognised: {why}"));
        return Err((ReadReason::NoTextFound, format!("is a PDF without text, and {why}")));
    }
    Ok(())
}

fn page_words<'a>(document: &'a Document, page: &Page) -> &'a str {
    document.text.get(page.range.clone()).unwrap_or_default().trim()
}

fn joined(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes the text anew, with the words of the recognised pages. A PDF has pages, and nothing else that points into it.
fn put(document: &mut Document, mut read: Vec<(u32, String)>) {
    let old = std::mem::take(&mut document.text);
    for page in &mut document.pages {
        let found = read.iter().position(|(number, _)| *number == page.number).map(|at| read.swap_remove(at).1);
        let from = document.text.len();
        match found {
            Some(words) => {
                let beside = old.get(page.range.clone()).unwrap_or_default().trim();
                document.text.push_str(&words);
                document.text.push_str(if beside.is_empty() { "" } else { "\n" });
                document.text.push_str(beside);
                document.text.push_str("\n\n");
            }
            None => document.text.push_str(old.get(page.range.clone()).unwrap_or_default()),
        }
        page.range = from..document.text.len();
    }
}

/// What went wrong: with the programs, and then with every page, or with one page.
enum Fault {
    Program(String),
    Page(String),
}

fn words_of(bytes: &[u8], number: u32, options: &ReadOptions, programs: &Programs<'_>) -> Result<String, Fault> {
    let started = Instant::now();
    let allowance = |output| Allowance {
        memory: options.max_memory,
        time: options.ocr_timeout.saturating_sub(started.elapsed()),
        output,
    };
    let told = |program: &Path, stopped| told(program, stopped, options);
    let (isolation, page) = (options.isolation.as_ref(), number.to_string());
    let side = LONGER_SIDE.to_string();
    let args = ["-f", &page, "-l", &page, "-scale-to", &side, "-gray", "-png", "-"].map(str::to_owned);
    let image = run(isolation, programs.draw, &args, bytes, allowance(MAX_IMAGE_BYTES))
        .map_err(|stopped| told(programs.draw, stopped))?;
    let args = ["stdin", "stdout", "--dpi", "300", "-l", &options.ocr_languages].map(str::to_owned);
    let words = run(isolation, programs.recognize, &args, &image, allowance(options.max_text))
        .map_err(|stopped| told(programs.recognize, stopped))?;
    Ok(String::from_utf8_lossy(&words).replace(['\0', '\u{c}'], "").trim().to_owned())
}

fn told(program: &Path, stopped: Stopped, options: &ReadOptions) -> Fault {
    let name = program.display();
    match stopped {
        Stopped::CannotStart(why) => Fault::Program(format!(
            "needs `{name}` for `ocr: tesseract`, which cannot be started ({why}); install it, or leave `ocr` out"
        )),
        Stopped::Failed(why) if why.contains("Error opening data file") || why.contains("initialize tesseract") => {
            Fault::Program(format!(
                "is read with `ocr_languages: {}`, which `{name}` does not have: {}",
                options.ocr_languages,
                one_line(&why)
            ))
        }
        Stopped::TimedOut => Fault::Page(format!("`{name}` took longer than `ocr_timeout`")),
        Stopped::TooMuchOutput => Fault::Page(format!("`{name}` gave more than may be taken from a page")),
        Stopped::Failed(why) => Fault::Page(format!("`{name}` failed: {}", one_line(&why))),
    }
}

#[cfg(test)]
mod tests;
