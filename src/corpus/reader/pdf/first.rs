//! The first engine for the pages of a PDF, pdf-extract: its glyphs with their places, and what the file says of itself.
//! The one place that names it.
//!
//! Its own `extract_text_by_pages` stops at the first page that fails and calls that success; here each page is read by
//! itself, and a panic in it is caught. The crate is asked for glyphs, not for text: its own lines break at every index
//! and know nothing of scripts from right to left.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::content::{Content, Operation};
use pdf_extract::{
    Dictionary, Document as Pdf, LoadOptions, MediaBox, Object, ObjectId, OutputDev, OutputError, Transform,
    output_doc_page,
};

use super::super::turns::squeeze;
use super::super::{ReadReason, Refusal, WITH_PASSWORD};
use super::lines::{self, Glyph, Run};

/// A PDF as the first engine sees it.
pub(super) struct First {
    pdf: Pdf,
    pages: Vec<(u32, ObjectId)>,
}

impl First {
    /// Opens a file, trying the passwords where it asks for one.
    pub fn open(bytes: &[u8], passwords: &[String]) -> Result<Self, Refusal> {
        let pdf = load(bytes, passwords)?;
        let pages = guarded(|| pdf.get_pages().into_iter().collect()).unwrap_or_default();
        Ok(Self { pdf, pages })
    }

    /// The numbers of the pages that are found, from 1.
    pub fn page_numbers(&self) -> Vec<u32> {
        self.pages.iter().map(|(number, _)| *number).collect()
    }

    /// Returns the text of a page, or `None` where it fails. A page that fails half-way gives no half: words of it may
    /// be missing anywhere.
    pub fn page_text(&mut self, number: u32) -> Option<String> {
        if let Some((_, id)) = self.pages.iter().find(|(n, _)| *n == number) {
            guarded(|| spell_out_quotes(&mut self.pdf, *id));
        }
        let mut glyphs = Glyphs::default();
        guarded(|| output_doc_page(&self.pdf, &mut glyphs, number))?.ok()?;
        Some(lines::text_of(glyphs.runs))
    }

    /// Returns what stands on a page beside its own text: fields that were filled in, and comments.
    pub fn notes(&self, number: u32) -> Vec<String> {
        let page = self.pages.iter().find(|(n, _)| *n == number);
        page.and_then(|(_, id)| guarded(|| notes_of(&self.pdf, *id))).unwrap_or_default()
    }

    /// Returns the number of pages that the file says it has.
    pub fn promised_pages(&self) -> Option<i64> {
        let pdf = &self.pdf;
        let pages = || pdf.catalog().and_then(|c| c.get_deref(b"Pages", pdf)).and_then(Object::as_dict).ok();
        guarded(pages)??.get_deref(b"Count", pdf).and_then(Object::as_i64).ok()
    }

    /// Returns a field of the file's description of itself, on one line; `None` where it says nothing.
    pub fn info(&self, key: &[u8]) -> Option<String> {
        let pdf = &self.pdf;
        let info = guarded(|| pdf.trailer.get_deref(b"Info", pdf).and_then(Object::as_dict).ok())??;
        text_field(pdf, info, key)
    }

    /// Returns the names of files that are attached to it, as far as they are found.
    pub fn attachments(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        guarded(|| {
            let root = self.pdf.catalog().ok()?.get_deref(b"Names", &self.pdf).and_then(Object::as_dict).ok()?;
            let tree = root.get_deref(b"EmbeddedFiles", &self.pdf).and_then(Object::as_dict).ok()?;
            attached(&self.pdf, tree, 0, &mut names);
            Some(())
        });
        names
    }
}

fn load(bytes: &[u8], passwords: &[String]) -> Result<Pdf, Refusal> {
    let unreadable = |why: String| (ReadReason::Unreadable, format!("is a PDF that cannot be opened: {why}"));
    let mut pdf = match guarded(|| Pdf::load_mem(bytes)) {
        Some(Ok(pdf)) => pdf,
        Some(Err(error)) if is_password(&error) => {
            let mut opened = passwords
                .iter()
                .filter_map(|p| guarded(|| Pdf::load_mem_with_options(bytes, LoadOptions::with_password(p)).ok())?);
            return opened.next().ok_or_else(|| encrypted(passwords));
        }
        Some(Err(error)) => return Err(unreadable(super::one_line(&error.to_string()))),
        None => return Err(unreadable("the parser failed".into())),
    };
    if pdf.is_encrypted() {
        // Many files are locked against changes only, and open with the empty password.
        let mut words = [""].into_iter().chain(passwords.iter().map(String::as_str));
        let mut is_open = false;
        for word in &mut words {
            match guarded(|| pdf.decrypt(word)) {
                Some(Ok(())) => {
                    is_open = true;
                    break;
                }
                Some(Err(error)) if !is_password(&error) => {
                    return Err(unreadable(super::one_line(&error.to_string())));
                }
                Some(Err(_)) => {}
                None => return Err(unreadable("the parser failed while decrypting".into())),
            }
        }
        if !is_open {
            return Err(encrypted(passwords));
        }
    }
    Ok(pdf)
}

fn encrypted(passwords: &[String]) -> Refusal {
    let tried = match passwords.len() {
        0 => "",
        1 => "; the one that was given does not open it",
        _ => "; none of those that were given opens it",
    };
    (ReadReason::Encrypted, format!("is a PDF that {WITH_PASSWORD}{tried}"))
}

fn is_password(error: &pdf_extract::Error) -> bool {
    use pdf_extract::Error;
    use pdf_extract::encryption::DecryptionError;
    matches!(error, Error::InvalidPassword | Error::Decryption(DecryptionError::IncorrectPassword))
}

/// Runs a call into the PDF crates, which panic on purpose where they meet what they do not know.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half-built is dropped with it: every caller throws its value away.
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Writes the operators `'` and `"` of a page, which show text on a new line, as those they stand for: the crate passes
/// over them, and over their text.
fn spell_out_quotes(pdf: &mut Pdf, page: ObjectId) -> Option<()> {
    let bytes = pdf.get_page_content(page).ok()?;
    if !bytes.iter().any(|b| matches!(b, b'\'' | b'"')) {
        return None;
    }
    let content = Content::decode(&bytes).ok()?;
    if !content.operations.iter().any(|o| matches!(o.operator.as_str(), "'" | "\"")) {
        return None;
    }
    let mut operations = Vec::with_capacity(content.operations.len() * 2);
    for operation in content.operations {
        match (operation.operator.as_str(), operation.operands.as_slice()) {
            ("'", [text]) => {
                operations.push(Operation::new("T*", Vec::new()));
                operations.push(Operation::new("Tj", vec![text.clone()]));
            }
            ("\"", [words, letters, text]) => {
                operations.push(Operation::new("Tw", vec![words.clone()]));
                operations.push(Operation::new("Tc", vec![letters.clone()]));
                operations.push(Operation::new("T*", Vec::new()));
                operations.push(Operation::new("Tj", vec![text.clone()]));
            }
            _ => operations.push(operation),
        }
    }
    pdf.change_page_content(page, Content { operations }.encode().ok()?).ok()
}

/// What the crate draws of a page, run by run.
#[derive(Default)]
struct Glyphs {
    runs: Vec<Run>,
}

impl OutputDev for Glyphs {
    fn begin_page(&mut self, _: u32, _: &MediaBox, _: Option<(f64, f64, f64, f64)>) -> Result<(), OutputError> {
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn output_character(
        &mut self,
        at: &Transform,
        width: f64, // ems
        spacing: f64,
        font_size: f64,
        text: &str,
    ) -> Result<(), OutputError> {
        let stretch = at.m11.hypot(at.m12);
        let size = font_size.abs() * (at.m11 * at.m22 - at.m12 * at.m21).abs().sqrt();
        let sign = if font_size < 0.0 { -1.0 } else { 1.0 };
        let (cos, sin) = if stretch > 0.0 { (at.m11 / stretch * sign, at.m12 / stretch * sign) } else { (1.0, 0.0) };
        // Room between all letters alike is a way of setting them, not a space between words.
        let spacing = if spacing > 0.0 && spacing <= font_size.abs() / 2.0 { spacing } else { 0.0 };
        let glyph = Glyph {
            text: text.to_owned(),
            x: at.m31 * cos + at.m32 * sin,
            y: at.m32 * cos - at.m31 * sin,
            width: (width * font_size.abs() + spacing) * stretch,
            size,
            angle: sin.atan2(cos).to_degrees().round() as i32,
        };
        match self.runs.last_mut() {
            Some(run) => run.push(glyph),
            None => self.runs.push(vec![glyph]),
        }
        Ok(())
    }

    fn begin_word(&mut self) -> Result<(), OutputError> {
        if self.runs.last().is_none_or(|run| !run.is_empty()) {
            self.runs.push(Run::new());
        }
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

fn notes_of(pdf: &Pdf, page: ObjectId) -> Vec<String> {
    const HIDDEN: i64 = 2;
    let array = |page: &Dictionary| page.get_deref(b"Annots", pdf).and_then(Object::as_array).ok().cloned();
    let annotations = pdf.get_object(page).and_then(Object::as_dict).ok().and_then(array).unwrap_or_default();
    let mut notes = Vec::new();
    let mut seen = BTreeSet::new(); // a comment may hang on each line that it marks
    for annotation in &annotations {
        let Ok((_, Object::Dictionary(annotation))) = pdf.dereference(annotation) else { continue };
        let is_hidden = annotation.get_deref(b"F", pdf).and_then(Object::as_i64).unwrap_or(0) & HIDDEN != 0;
        let kind = annotation.get_deref(b"Subtype", pdf).and_then(Object::as_name).unwrap_or_default();
        let words = text_field(pdf, annotation, b"Contents");
        let note = match kind {
            _ if is_hidden => None,
            b"Widget" => field(pdf, annotation),
            b"FreeText" => words,
            // A link's words stand on the page, and a popup's in the note that it belongs to.
            b"Link" | b"Popup" => None,
            _ => words.map(|words| match text_field(pdf, annotation, b"T") {
                Some(author) => format!("Comment by {author}: {words}"),
                None => format!("Comment: {words}"),
            }),
        };
        notes.extend(note.filter(|note| seen.insert(note.clone())));
    }
    notes
}

/// `Name: what was filled in`; `None` for an empty field, and for what is no text and no choice.
fn field(pdf: &Pdf, widget: &Dictionary) -> Option<String> {
    const MAX_PARENTS: usize = 8;
    let mut above = vec![widget];
    while let Some(parent) = above.last().and_then(|f| f.get_deref(b"Parent", pdf).and_then(Object::as_dict).ok()) {
        if above.len() > MAX_PARENTS {
            break;
        }
        above.push(parent);
    }
    let value = above.iter().find_map(|f| f.get_deref(b"V", pdf).ok())?;
    let value = match value {
        Object::Name(name) if name == b"Off" => return None,
        Object::Name(name) => String::from_utf8_lossy(name).into_owned(),
        Object::Array(chosen) => {
            let chosen = chosen.iter().filter_map(|v| pdf_extract::decode_text_string(v).ok());
            chosen.collect::<Vec<_>>().join(", ")
        }
        value => pdf_extract::decode_text_string(value).ok()?,
    };
    let value = super::one_line(&value);
    let label = above.iter().find_map(|f| text_field(pdf, f, b"TU")).or_else(|| {
        let names: Vec<String> = above.iter().rev().filter_map(|f| text_field(pdf, f, b"T")).collect();
        (!names.is_empty()).then(|| names.join("."))
    });
    match label {
        _ if value.is_empty() => None,
        Some(label) => Some(format!("{label}: {value}")),
        None => Some(value),
    }
}

fn attached(pdf: &Pdf, tree: &Dictionary, depth: usize, names: &mut BTreeSet<String>) {
    const MAX_DEPTH: usize = 8;
    const MAX_NAMES: usize = 100;
    let array = |key: &[u8]| tree.get_deref(key, pdf).and_then(Object::as_array).ok();
    for entry in array(b"Names").into_iter().flatten() {
        if let Ok(name) = pdf_extract::decode_text_string(entry)
            && names.len() < MAX_NAMES
        {
            names.insert(squeeze(&name));
        }
    }
    for kid in array(b"Kids").into_iter().flatten() {
        if let Ok((_, Object::Dictionary(kid))) = pdf.dereference(kid)
            && depth < MAX_DEPTH
        {
            attached(pdf, kid, depth + 1, names);
        }
    }
}

fn text_field(pdf: &Pdf, dictionary: &Dictionary, key: &[u8]) -> Option<String> {
    let value = guarded(|| pdf_extract::decode_text_string(dictionary.get_deref(key, pdf).ok()?).ok()).flatten()?;
    let value = super::one_line(&value);
    if value.is_empty() { None } else { Some(value) }
}
