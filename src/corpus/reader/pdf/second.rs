//! The second engine for the pages of a PDF, pdf_oxide: asked where the first one fails, gives nothing, or gives what is
//! no text. The one place that names it. What it panics on is nothing, too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_oxide::document::PdfDocument;

/// A PDF as the second engine sees it; opened when a page first needs it.
pub(super) struct Second<'a> {
    bytes: &'a [u8],
    passwords: &'a [String],
    opened: Option<Option<PdfDocument>>,
}

impl<'a> Second<'a> {
    pub fn new(bytes: &'a [u8], passwords: &'a [String]) -> Self {
        Self { bytes, passwords, opened: None }
    }

    /// Returns the number of pages it finds; `None` where it cannot open the file.
    pub fn num_pages(&mut self) -> Option<usize> {
        let pdf = self.pdf()?;
        guarded(|| pdf.page_count().ok())
    }

    /// Returns the text of a page, counted from 0; `None` where it fails.
    pub fn page_text(&mut self, index: usize) -> Option<String> {
        let pdf = self.pdf()?;
        guarded(|| pdf.extract_text(index).ok())
    }

    fn pdf(&mut self) -> Option<&PdfDocument> {
        let (bytes, passwords) = (self.bytes, self.passwords);
        self.opened.get_or_insert_with(|| guarded(|| open(bytes, passwords))).as_ref()
    }
}

fn open(bytes: &[u8], passwords: &[String]) -> Option<PdfDocument> {
    let pdf = PdfDocument::from_bytes(bytes.to_vec()).ok()?;
    let mut words = [""].into_iter().chain(passwords.iter().map(String::as_str));
    (!pdf.is_encrypted() || words.any(|word| pdf.authenticate(word.as_bytes()).unwrap_or(false))).then_some(pdf)
}

fn guarded<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    // What a panic leaves half-built is not used again but through this door.
    catch_unwind(AssertUnwindSafe(call)).ok().flatten()
}
