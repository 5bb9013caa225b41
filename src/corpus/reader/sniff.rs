//! What a file is: its content speaks first, its extension second.

use super::options::ReadAs;
use super::{ReadReason, Refusal, archive, decode, html, json, mail, plain, sbv, srt};
use crate::corpus::document::Format;

/// The families that need different hands before they are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pdf,
    /// An archive, or an office file in one.
    Zip,
    /// A compound file of the old office programs.
    Ole,
    Gzip,
    Tar,
    Rtf,
    Text,
}

/// Beginnings of files that are known and not read; what they are is said instead of reading noise.
const NOT_READ: &[(&[u8], &str)] = &[
    (b"\x1F\x9D", "a file packed with `compress`"),
    (b"\xE4\x52\x5C\x7B\x8C\xD8\xA7\x4D", "a OneNote section"),
    (b"BZh", "a bzip2 archive"),
    (b"\xFD7zXZ\0", "an xz archive"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (b"Rar!\x1A\x07", "a RAR archive"),
    (b"\x28\xB5\x2F\xFD", "a zstd archive"),
    (b"\x89PNG\r\n\x1A\n", "a PNG picture"),
    (b"\xFF\xD8\xFF", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"RIFF", "a sound, film or picture file"),
    (b"OggS", "a sound file"),
    (b"ID3", "a sound file"),
    (b"fLaC", "a sound file"),
    (b"\x1AE\xDF\xA3", "a film file"),
    (b"\x7FELF", "a program"),
    (b"MZ\x90\0", "a program"),
    (b"SQLite format 3\0", "a database"),
    (b"GGUF", "a model"),
];

/// Returns the family, or says what the file is where no reader takes it.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, Refusal> {
    if is_pdf(bytes) {
        return Ok(Kind::Pdf);
    }
    const READ: &[(&[u8], Kind)] = &[
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"PK\x07\x08PK\x03\x04", Kind::Zip),
        (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", Kind::Ole),
        (b"\x1F\x8B", Kind::Gzip),
        (b"{\\rtf", Kind::Rtf),
    ];
    if let Some((_, kind)) = READ.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(*kind);
    }
    if archive::is_tar(bytes) {
        return Ok(Kind::Tar);
    }
    if let Some((_, what)) = NOT_READ.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err((ReadReason::Unreadable, format!("is {what}, a format that is not read")));
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return Err((ReadReason::Unreadable, "is a film or sound file, a format that is not read".into()));
    }
    if is_binary(bytes) {
        return Err((ReadReason::Unreadable, "is binary, and of no format that is read".into()));
    }
    Ok(Kind::Text)
}

/// A PDF may have up to a kilobyte of anything before its header (ISO 32000-1, Annex H, note 13); a text that speaks
/// of `%PDF-` somewhere is no PDF.
fn is_pdf(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1024 + 6)];
    head.windows(6).enumerate().any(|(at, w)| {
        w.starts_with(b"%PDF-")
            && (at == 0
                || w[5].is_ascii_digit() && (head[at - 1].is_ascii_whitespace() || std::str::from_utf8(head).is_err()))
    })
}

/// Text holds next to no control characters. Zero bytes are counted too, unless they fall as in UTF-16 or UTF-32.
fn is_binary(bytes: &[u8]) -> bool {
    let marked = encoding_rs::Encoding::for_bom(bytes).is_some() || bytes.starts_with(&[0, 0, 0xFE, 0xFF]);
    if marked || decode::utf32_without_mark(bytes).is_some() || decode::from_iso_2022_kr(bytes).is_some() {
        return false;
    }
    let head = &bytes[..bytes.len().min(8192)];
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let like_utf16 = even.min(odd) * 20 < head.len() && even.max(odd) * 5 > head.len();
    let controls = head.iter().filter(|b| **b < 0x20 && !matches!(b, b'\t' | b'\n' | 0x0C | b'\r' | 0x1A | 0x1B));
    !like_utf16 && controls.count() * 10 > head.len()
}

/// Returns the format of a decoded text.
///
/// `as: text` leaves only Markdown and plain text, `as: transcript` only the formats that can hold turns. Under `auto`
/// a Markdown file is never taken for a transcript, whatever its lines look like.
pub(super) fn text_format(text: &str, ext: &str, as_: ReadAs) -> Format {
    let markdown = matches!(ext, "md" | "markdown" | "mdown" | "mkd");
    // What is no text to read as it stands, however it is read.
    if mail::is_mbox(text) {
        return Format::Mbox;
    }
    if mail::looks_like(text, matches!(ext, "eml" | "mht" | "mhtml")) {
        return Format::Eml;
    }
    if !markdown
        && (html::looks_like(text) || (matches!(ext, "html" | "htm" | "xhtml" | "xht") && html::has_tags(text)))
    {
        return Format::Html;
    }
    if as_ == ReadAs::Text {
        return match ext {
            _ if markdown => Format::Markdown,
            "csv" => Format::Csv,
            "tsv" | "tab" => Format::Tsv,
            _ => Format::Text,
        };
    }
    if is_vtt(text) {
        Format::Vtt
    } else if srt::looks_like(text) {
        // A WebVTT file that lost its first line: its reader says so.
        if ext == "vtt" { Format::Vtt } else { Format::Srt }
    } else if sbv::looks_like(text) {
        Format::Sbv
    } else if matches!(ext, "jsonl" | "ndjson") {
        Format::Jsonl
    } else if as_ == ReadAs::Auto && matches!(ext, "csv" | "tsv" | "tab") {
        if ext == "csv" { Format::Csv } else { Format::Tsv }
    } else if ext == "json" || json::holds_turns(text) {
        Format::Json
    } else if as_ == ReadAs::Transcript {
        match ext {
            "vtt" => Format::Vtt,
            "srt" => Format::Srt,
            _ => Format::Transcript,
        }
    } else if markdown {
        Format::Markdown
    } else if plain::looks_like(text) {
        Format::Transcript
    } else {
        match ext {
            "vtt" => Format::Vtt,
            "srt" => Format::Srt,
            _ => Format::Text,
        }
    }
}

fn is_vtt(text: &str) -> bool {
    text.strip_prefix("WEBVTT").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_wins_over_the_extension() {
        assert_eq!(text_format("WEBVTT\n\n00:00.000 --> 00:01.000\nhi", "txt", ReadAs::Auto), Format::Vtt);
        assert_eq!(text_format("1\n00:00:00,000 --> 00:00:01,000\nhi", "txt", ReadAs::Auto), Format::Srt);
        assert_eq!(text_format("00:00:00,000 --> 00:00:01,000\nhi", "vtt", ReadAs::Auto), Format::Vtt);
        assert_eq!(kind(b"\n%PDF-1.7\n\x80\x81").unwrap(), Kind::Pdf);
        assert_eq!(kind(b"A header such as `%PDF-1.7` makes a PDF.").unwrap(), Kind::Text);
    }

    #[test]
    fn a_known_format_without_a_reader_is_named() {
        let (reason, detail) = kind(b"7z\xBC\xAF\x27\x1Crest").unwrap_err();
        assert_eq!((reason, detail.contains("7z")), (ReadReason::Unreadable, true));
        assert_eq!(kind(b"PK\x03\x04rest").unwrap(), Kind::Zip);
        assert!(kind(&[1, 2, 3, 4, 5, 6, 7, 8]).is_err());
        assert!(kind(&[0; 64]).is_err());
    }

    #[test]
    fn pages_and_messages_are_known_by_what_they_begin_with() {
        let check = |text: &str, ext: &str, format: Format| assert_eq!(text_format(text, ext, ReadAs::Auto), format);
        check("<!-- x -->\n<!DOCTYPE HTML><p>hi", "txt", Format::Html);
        check("<?xml version='1.0'?><html/>", "", Format::Html);
        check("<p>a piece</p>", "html", Format::Html);
        check("no tags at all", "html", Format::Text);
        check("<p>a piece</p>", "md", Format::Markdown);
        check("Received: by x\nFrom: a@b\nSubject: c\n\nhi", "txt", Format::Eml);
        check("0:00:01.000,0:00:02.000\nhi\n", "txt", Format::Sbv);
        check("a,b\n1,2\n", "csv", Format::Csv);
        check("{\"a\": 1}\n{\"a\": 2}\n", "jsonl", Format::Jsonl);
    }

    #[test]
    fn as_text_looks_for_no_turns() {
        assert_eq!(text_format("WEBVTT\n\n00:00.000 --> 00:01.000\nhi", "vtt", ReadAs::Text), Format::Text);
    }
}
