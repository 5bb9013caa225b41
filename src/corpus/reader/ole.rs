//! Compound files (MS-CFB): Outlook messages are read (MS-OXMSG), old workbooks go to calamine, other office files of
//! that age are named. The one place that names cfb.

use std::io::{Cursor, Read};

use cfb::CompoundFile;

use super::budget::Around;
use super::build::Build;
use super::turns::squeeze;
use super::{ReadReason, Refusal, decode, html, mail, office, rtf};
use crate::corpus::document::{Document, Format};

type File<'a> = CompoundFile<Cursor<&'a [u8]>>;

pub(super) fn parse(bytes: &[u8], around: &Around<'_>) -> Result<Document, Refusal> {
    let mut file = match CompoundFile::open(Cursor::new(bytes)) {
        Ok(file) => file,
        // Old writers are careless, and calamine reads more of their workbooks.
        Err(_) if names(bytes, "Workbook") || names(bytes, "Book") => {
            return office::sheets(bytes, Format::Xls, None, around);
        }
        Err(error) => {
            return Err((ReadReason::Unreadable, format!("is an old office file that cannot be opened: {error}")));
        }
    };
    if file.exists("/EncryptedPackage") {
        return Err((
            ReadReason::Encrypted,
            "is an office file under a password, which quarry cannot take off; save it without one".into(),
        ));
    }
    if file.exists("/__properties_version1.0") {
        return message(&mut file, "/", around);
    }
    if file.exists("/Workbook") || file.exists("/Book") {
        return office::sheets(bytes, Format::Xls, None, around);
    }
    let what = match (file.exists("/WordDocument"), file.exists("/PowerPoint Document")) {
        (true, _) => "an old Word document (.doc), which is not read; save it as .docx",
        (_, true) => "an old PowerPoint presentation (.ppt), which is not read; save it as .pptx",
        _ => "an office file of the old binary kind, which is not read",
    };
    Err((ReadReason::Unreadable, format!("is {what}")))
}

/// Whether the directory names a stream, in a file that could not be opened.
fn names(bytes: &[u8], stream: &str) -> bool {
    let name: Vec<u8> = stream.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.windows(name.len()).any(|w| w == name)
}

// Properties of a message (MS-OXPROPS), by their ids.
const SUBJECT: u16 = 0x0037;
const SENT: u16 = 0x0039;
const HEADERS: u16 = 0x007D;
const SENDER: u16 = 0x0C1A;
const SENDER_ADDRESS: u16 = 0x0C1F;
const SENDER_SMTP: u16 = 0x5D01;
const TO: u16 = 0x0E04;
const CC: u16 = 0x0E03;
const BCC: u16 = 0x0E02;
const RECEIVED: u16 = 0x0E06;
const BODY: u16 = 0x1000;
const RTF: u16 = 0x1009;
const HTML: u16 = 0x1013;
const MESSAGE_ID: u16 = 0x1035;
const ATTACHED: u16 = 0x3701;
const FILE_NAME: u16 = 0x3704;
const LONG_FILE_NAME: u16 = 0x3707;
const DISPLAY_NAME: u16 = 0x3001;
const MIME_TYPE: u16 = 0x370E;

fn message(file: &mut File<'_>, folder: &str, around: &Around<'_>) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Msg, around.options);
    build.part("message");
    let code_page = if folder == "/" { code_page(file) } else { 1252 };
    if !decode::in_code_page(&[], code_page).1 {
        build.warn(format!("its code page {code_page} is not known; what is not in Unicode is read as Western"));
    }
    let text = |file: &mut File<'_>, id: u16| text(file, folder, id, code_page, around);
    let subject = text(file, SUBJECT)?;
    let sender = (text(file, SENDER)?, text(file, SENDER_SMTP)?.or(text(file, SENDER_ADDRESS)?));
    let from = match sender {
        (Some(name), Some(address)) if name != address && address.contains('@') => Some(format!("{name} <{address}>")),
        (name, address) => name.or(address),
    };
    let headers = text(file, HEADERS)?.unwrap_or_default();
    let date = filetime(file, folder, SENT).or_else(|| filetime(file, folder, RECEIVED)).or_else(|| date_of(&headers));
    let (to, cc, bcc) = (text(file, TO)?, text(file, CC)?, text(file, BCC)?);
    let fields = [("From", &from), ("To", &to), ("Cc", &cc), ("Bcc", &bcc), ("Date", &date), ("Subject", &subject)];
    let lines = fields.iter().filter_map(|(name, value)| Some((name, squeeze(value.as_ref()?))));
    let lines: Vec<String> = lines.filter(|(_, v)| !v.is_empty()).map(|(name, v)| format!("{name}: {v}")).collect();
    build.paragraph(&lines.join("\n"), None);
    for (key, value) in [("title", &subject), ("author", &from), ("date", &date), ("to", &to), ("cc", &cc)] {
        build.meta(key, value.as_deref().unwrap_or_default());
    }
    build.meta("message_id", &text(file, MESSAGE_ID)?.unwrap_or_default());
    let plain = text(file, BODY)?;
    body(file, folder, plain, &mut build, around)?;
    attachments(file, folder, &mut build, around)?;
    build.finish()
}

/// Writes the body: the plain one where there is one, else the HTML, else the compressed RTF.
fn body(
    file: &mut File<'_>,
    folder: &str,
    plain: Option<String>,
    build: &mut Build,
    around: &Around<'_>,
) -> Result<(), Refusal> {
    if let Some(plain) = plain.filter(|p| !p.trim().is_empty()) {
        build.paragraph(&plain.replace("\r\n", "\n"), None);
        return Ok(());
    }
    if let Some(bytes) = stream(file, &path(folder, HTML, "0102"), around)? {
        let page = html::parse(&decode::decode_as(&bytes, html::charset(&bytes)), around.options)?;
        let end = bytes.len();
        build.append_as(page, 0..end);
        return Ok(());
    }
    if let Some(bytes) = stream(file, &path(folder, RTF, "0102"), around)? {
        match rtf::decompressed(&bytes) {
            Some(bytes) => {
                let end = bytes.len();
                build.append_as(rtf::parse(&bytes, around.options)?, 0..end);
            }
            None => build.warn("its body is compressed RTF that cannot be unpacked"),
        }
    }
    Ok(())
}

fn attachments(file: &mut File<'_>, folder: &str, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let Ok(entries) = file.read_storage(folder) else { return Ok(()) };
    let mut folders: Vec<String> = entries
        .filter(|e| e.is_storage() && e.name().starts_with("__attach_version1.0_"))
        .map(|e| e.path().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    around.take_members(folders.len())?;
    for (index, folder) in folders.iter().enumerate() {
        let name = text(file, folder, LONG_FILE_NAME, 1252, around)?
            .or(text(file, folder, FILE_NAME, 1252, around)?)
            .or(text(file, folder, DISPLAY_NAME, 1252, around)?);
        let name = name.map(|n| squeeze(&n.replace(char::is_control, "\u{FFFD}"))).filter(|n| !n.is_empty());
        let name = name.unwrap_or_else(|| format!("part {}", index + 1));
        let kind = text(file, folder, MIME_TYPE, 1252, around)?.unwrap_or_else(|| "no type".into());
        let embedded = format!("{folder}/__substg1.0_{ATTACHED:04X}000D");
        if file.exists(&embedded) {
            build.paragraph(&format!("Attachment: {name} (a message)"), None);
            match around.inside().and_then(|deeper| message(file, &embedded, &deeper)) {
                Ok(inner) => build.append(&name, inner),
                Err((_, detail)) => build.warn(format!("`{name}` is not read: it {detail}")),
            }
        } else if let Some(bytes) = stream(file, &path(folder, ATTACHED, "0102"), around)? {
            mail::read_attachment(&name, &kind, &bytes, build, around)?;
        } else {
            build.warn(format!("`{name}` is attached by a link, and not in the file"));
        }
        if build.is_over() {
            break;
        }
    }
    Ok(())
}

fn path(folder: &str, id: u16, kind: &str) -> String {
    format!("{}/__substg1.0_{id:04X}{kind}", folder.trim_end_matches('/'))
}

fn stream(file: &mut File<'_>, path: &str, around: &Around<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    if !file.is_stream(path) {
        return Ok(None);
    }
    let broken = |error: std::io::Error| (ReadReason::Unreadable, format!("is damaged in `{path}`: {error}"));
    let stream = file.open_stream(path).map_err(broken)?;
    let len = stream.len();
    around.unpack(len, stream).map(Some)
}

/// Returns a property that is a text, in whichever of its two forms.
fn text(
    file: &mut File<'_>,
    folder: &str,
    id: u16,
    code_page: u16,
    around: &Around<'_>,
) -> Result<Option<String>, Refusal> {
    if let Some(bytes) = stream(file, &path(folder, id, "001F"), around)? {
        let text = encoding_rs::UTF_16LE.decode_without_bom_handling(&bytes).0;
        return Ok(Some(text.trim_end_matches('\0').to_owned()));
    }
    let bytes = stream(file, &path(folder, id, "001E"), around)?;
    Ok(bytes.map(|bytes| decode::in_code_page(&bytes, code_page).0.trim_end_matches('\0').to_owned()))
}

/// Returns the bytes of a property of fixed length, from the table of properties (MS-OXMSG 2.4).
fn fixed(file: &mut File<'_>, folder: &str, tag: u32) -> Option<[u8; 8]> {
    const MAX_TABLE: u64 = 1 << 20;
    let table = format!("{}/__properties_version1.0", folder.trim_end_matches('/'));
    let mut bytes = Vec::new();
    file.open_stream(&table).ok()?.take(MAX_TABLE).read_to_end(&mut bytes).ok()?;
    let head = if folder == "/" { 32 } else { 24 };
    let entry = bytes.get(head..)?.chunks_exact(16).find(|e| e[..4] == tag.to_le_bytes())?;
    entry[8..16].try_into().ok()
}

fn code_page(file: &mut File<'_>) -> u16 {
    let number = fixed(file, "/", 0x3FFD_0003).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(1252)
}

/// Returns a time as ISO 8601; the file counts tenths of microseconds since 1601.
fn filetime(file: &mut File<'_>, folder: &str, id: u16) -> Option<String> {
    const TO_1970: u64 = 11_644_473_600;
    let ticks = u64::from_le_bytes(fixed(file, folder, u32::from(id) << 16 | 0x0040)?);
    let seconds = (ticks / 10_000_000).checked_sub(TO_1970)?;
    Some(jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

fn date_of(headers: &str) -> Option<String> {
    headers.lines().find_map(|line| line.strip_prefix("Date:")).map(|date| date.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::reader::budget::Budget;
    use crate::corpus::reader::options::ReadOptions;
    use std::io::Write;

    fn compound(streams: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        for (path, bytes) in streams {
            if let Some((folder, _)) = path.rsplit_once('/').filter(|(folder, _)| !folder.is_empty()) {
                file.create_storage_all(folder).unwrap();
            }
            file.create_stream(path).unwrap().write_all(bytes).unwrap();
        }
        file.into_inner().into_inner()
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn read(bytes: &[u8]) -> Result<Document, Refusal> {
        let options = ReadOptions::default();
        let budget = Budget::new(&options);
        parse(bytes, &Around::new(&options, &budget))
    }

    #[test]
    fn a_message_gives_headers_body_and_attachments() {
        let subject = wide("Größe");
        let attached = "/__attach_version1.0_#00000000";
        let name = format!("{attached}/__substg1.0_3707001F");
        let data = format!("{attached}/__substg1.0_37010102");
        let file_name = wide("a.txt");
        let mut table = vec![0u8; 32];
        table.extend(0x0039_0040u32.to_le_bytes());
        table.extend([0; 4]);
        table.extend(((11_644_473_600u64 + 86_400) * 10_000_000).to_le_bytes());
        let document = read(&compound(&[
            ("/__properties_version1.0", &table),
            ("/__substg1.0_0037001F", &subject),
            ("/__substg1.0_0C1A001E", b"Anna"),
            ("/__substg1.0_1000001E", b"Hello\r\nthere"),
            (&name, &file_name),
            (&data, b"attached words"),
        ]))
        .unwrap();
        assert_eq!(
            document.text,
            "From: Anna\nDate: 1970-01-02T00:00:00Z\nSubject: Größe\n\nHello\nthere\n\n\
             Attachment: a.txt (no type, 14 bytes)\n\nattached words"
        );
        let at = document.text.find("words").unwrap();
        assert_eq!(document.locate(at).part.as_deref(), Some("a.txt"));
    }

    #[test]
    fn other_files_of_that_age_are_named() {
        assert_eq!(read(&compound(&[("/EncryptedPackage", b"x")])).unwrap_err().0, ReadReason::Encrypted);
        let (_, detail) = read(&compound(&[("/WordDocument", b"x")])).unwrap_err();
        assert!(detail.contains(".docx"), "{detail}");
        assert!(read(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1").is_err());
    }
}
