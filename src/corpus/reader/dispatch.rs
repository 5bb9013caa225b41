//! Which reader takes which file. The one place that knows them all; a file inside another comes through here again.

use super::budget::Around;
use super::decode::{self, Decoded};
use super::options::{Ocr, ReadAs, ReadOptions};
use super::{
    ReadReason, Refusal, archive, csv, html, json, mail, markdown, office, ole, pdf, plain, rtf, sbv, sniff, srt, vtt,
};
use crate::corpus::document::{Document, Format};

/// A text whose parser takes time and memory in proportion to it, and needs no child process.
pub(super) struct PlainText {
    format: Format,
    decoded: Decoded,
    ext: String,
}

/// Returns the text of a file that needs no child process; `None` for all others. Fails where no reader takes it.
pub(super) fn plain_text(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Option<PlainText>, Refusal> {
    if sniff::kind(bytes)? != sniff::Kind::Text {
        return Ok(None);
    }
    let text = decoded(bytes, name, options)?;
    Ok(Some(text).filter(|t| !matches!(t.format, Format::Html | Format::Eml | Format::Mbox)))
}

fn decoded(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<PlainText, Refusal> {
    let ext = extension(name);
    let decoded =
        decode::decode_as(bytes, if bytes.trim_ascii_start().starts_with(b"<") { html::charset(bytes) } else { None });
    if decoded.text.trim().is_empty() {
        return Err((ReadReason::NoTextFound, "holds nothing but white space".into()));
    }
    Ok(PlainText { format: sniff::text_format(&decoded.text, &ext, options.as_), decoded, ext })
}

/// Returns the last extension of a name, without the dot and in lower case.
fn extension(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    file.rsplit_once('.').map_or(String::new(), |(_, ext)| ext.to_lowercase())
}

impl PlainText {
    pub fn parse(self, options: &ReadOptions) -> Result<Document, Refusal> {
        let Self { format, decoded: Decoded { text, warnings }, ext } = self;
        let mut document = match format {
            Format::Vtt => vtt::parse(&text, options)?,
            Format::Srt => srt::parse(&text, options)?,
            Format::Sbv => sbv::parse(&text, options)?,
            Format::Transcript => plain::parse(text, options)?,
            Format::Json => json::parse(text, options)?,
            Format::Jsonl => json::lines(text, options)?,
            Format::Markdown => markdown::parse(text),
            Format::Csv | Format::Tsv => csv::parse(&text, format, options)?,
            _ => Document::of(Format::Text, text),
        };
        if document.format == Format::Text && options.as_ == ReadAs::Auto && matches!(ext.as_str(), "xml" | "nxml") {
            document.warnings.push("the markup of an XML file is kept as text".into());
        }
        document.warnings.splice(0..0, warnings);
        Ok(document)
    }
}

/// Reads a file whole, whatever it is. `name` may have folders in it; only its extension counts, and only where the
/// content does not tell.
pub(super) fn parse(bytes: &[u8], name: &str, around: &Around<'_>) -> Result<Document, Refusal> {
    let options = around.options;
    match sniff::kind(bytes)? {
        sniff::Kind::Pdf => pdf::parse(bytes, options, around.is_outermost() && options.ocr != Ocr::None),
        sniff::Kind::Rtf => rtf::parse(bytes, options),
        sniff::Kind::Ole => ole::parse(bytes, around),
        sniff::Kind::Gzip => archive::gzip(bytes, name, around),
        sniff::Kind::Tar => archive::tar(bytes, around),
        sniff::Kind::Zip => zip(bytes, around),
        sniff::Kind::Text => {
            let text = decoded(bytes, name, options)?;
            match text.format {
                Format::Html => html::parse(&text.decoded, options),
                Format::Eml => mail::parse(bytes, around),
                Format::Mbox => mail::mbox(bytes, around),
                _ => text.parse(options),
            }
        }
    }
}

fn zip(bytes: &[u8], around: &Around<'_>) -> Result<Document, Refusal> {
    let mut package = office::Package::open(bytes, around)?;
    match office::kind_of(&mut package, around)? {
        Format::Docx => office::docx(&mut package, around),
        Format::Pptx => office::pptx(&mut package, around),
        Format::Epub => office::epub(&mut package, around),
        format @ (Format::Odt | Format::Odp) => office::odf(&mut package, format, around),
        format @ (Format::Xlsx | Format::Ods) => office::sheets(bytes, format, Some(&mut package), around),
        _ => archive::zip(&mut package, around),
    }
}
