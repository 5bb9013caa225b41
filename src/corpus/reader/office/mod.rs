//! Office files: a package of XML parts, read part by part into one document. Knows the formats' markup; knows no limits
//! but through [`Around`].

mod docx;
mod drawing;
mod epub;
mod odf;
mod ods;
mod package;
mod parts;
mod pptx;
mod sheets;
mod transcript;
mod xml;

pub(super) use docx::parse as docx;
pub(super) use epub::parse as epub;
pub(super) use odf::parse as odf;
pub(super) use package::{Package, member_name};
pub(super) use pptx::parse as pptx;
pub(super) use sheets::parse as sheets;

use super::budget::Around;
use super::{ReadReason, Refusal};
use crate::corpus::document::Format;

/// Returns what a ZIP archive is by what lies in it.
pub(super) fn kind_of(package: &mut Package<'_>, around: &Around<'_>) -> Result<Format, Refusal> {
    if let Some(mimetype) = package.read("mimetype", around).ok().flatten() {
        match mimetype.trim_ascii() {
            b"application/epub+zip" => return Ok(Format::Epub),
            t if t.starts_with(b"application/vnd.oasis.opendocument.text") => return Ok(Format::Odt),
            t if t.starts_with(b"application/vnd.oasis.opendocument.presentation") => return Ok(Format::Odp),
            t if t.starts_with(b"application/vnd.oasis.opendocument.spreadsheet") => return Ok(Format::Ods),
            _ => {}
        }
    }
    if package.has("[Content_Types].xml") {
        let named = |folder: &str| package.names().iter().any(|n| n.trim_start_matches('/').starts_with(folder));
        return match (named("word/"), named("ppt/"), named("xl/")) {
            (true, ..) => Ok(Format::Docx),
            (_, true, _) => Ok(Format::Pptx),
            (.., true) => Ok(Format::Xlsx),
            _ => Err((ReadReason::Unreadable, "is an office file of a kind that is not read".into())),
        };
    }
    if package.has("META-INF/container.xml") {
        return Ok(Format::Epub);
    }
    Ok(Format::Zip)
}

#[cfg(test)]
mod tests;
