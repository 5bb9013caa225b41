//! E-mail: headers, body, and attachments that can be read, each a part of one document. MIME is mail-parser's business,
//! which is named here only.

use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::budget::Around;
use super::build::Build;
use super::decode::Decoded;
use super::dispatch;
use super::html;
use super::options::size_text;
use super::turns::{line_ranges, squeeze};
use super::{ReadReason, Refusal};
use crate::corpus::document::{Document, Format};

/// Whether a text begins with the headers of a message as it was sent: not a letter with a `From:` line.
pub(super) fn looks_like(text: &str, is_named_so: bool) -> bool {
    const SENT: &[&str] =
        &["received", "message-id", "mime-version", "return-path", "content-type", "delivered-to", "dkim-signature"];
    const WRITTEN: &[&str] = &["from", "to", "subject", "date", "sender"];
    let (mut sent, mut written) = (0, 0);
    for line in line_ranges(text).take(200).map(|l| &text[l]) {
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((name, _)) = line.split_once(':').filter(|(name, _)| is_header_name(name)) else { return false };
        let name = name.trim_end().to_ascii_lowercase();
        sent += usize::from(SENT.contains(&name.as_str()) || name.starts_with("x-"));
        written += usize::from(WRITTEN.contains(&name.as_str()));
    }
    (sent >= 1 && written >= 1) || (sent >= 2) || (is_named_so && sent + written >= 1)
}

fn is_header_name(name: &str) -> bool {
    let name = name.trim_end();
    !name.is_empty()
        && name.len() < 80
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether a text is a mailbox: messages, each below a line that begins with `From `.
pub(super) fn is_mbox(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("From ") else { return false };
    let Some(end) = rest.find('\n') else { return false };
    // `From sender Mon Jan  1 00:00:00 2024`
    rest[..end].contains(':') && looks_like(&rest[end + 1..], true)
}

/// Reads one message.
pub(super) fn parse(bytes: &[u8], around: &Around<'_>) -> Result<Document, Refusal> {
    let Some(message) = MessageParser::default().parse(bytes) else {
        return Err((ReadReason::Unreadable, "is an e-mail that cannot be read".into()));
    };
    let mut build = Build::new(Format::Eml, around.options);
    build.part("message");
    read(&message, &mut build, around)?;
    build.finish()
}

/// Reads a mailbox, message by message.
pub(super) fn mbox(bytes: &[u8], around: &Around<'_>) -> Result<Document, Refusal> {
    let mut build = Build::new(Format::Mbox, around.options);
    let starts = message_starts(bytes);
    around.take_members(starts.len())?;
    let ends = starts.iter().skip(1).map(|(from, _)| *from).chain([bytes.len()]);
    for (index, ((_, from), end)) in starts.iter().zip(ends).enumerate() {
        let name = format!("message {}", index + 1);
        match MessageParser::default().parse(&bytes[*from..end]) {
            Some(message) => {
                let mut inner = Build::new(Format::Eml, around.options);
                inner.part("text");
                read(&message, &mut inner, &around.inside()?)?;
                build.append(&name, inner.finish()?);
            }
            None => build.warn(format!("{name} cannot be read")),
        }
        if build.is_over() {
            break;
        }
    }
    build.finish()
}

/// Returns where each `From ` line begins, and where the message below it does.
fn message_starts(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut starts = Vec::new();
    let (mut at, mut after_blank) = (0, true);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if after_blank && line.starts_with(b"From ") {
            starts.push((at, at + line.len()));
        }
        after_blank = line.trim_ascii().is_empty();
        at += line.len();
    }
    starts
}

fn read(message: &Message<'_>, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    head(message, build);
    let mut inner = Vec::new(); // ids of parts that are files of their own
    // A plain text that is blank stands for a page whose words are in the HTML alone.
    let is_wordless = |id: &u32| match message.parts.get(*id as usize).map(|part| &part.body) {
        Some(PartType::Text(text)) => text.trim().is_empty(),
        Some(PartType::Html(_)) => false,
        _ => true,
    };
    let in_html = !message.html_body.is_empty() && message.text_body.iter().all(is_wordless);
    let body = if in_html { &message.html_body } else { &message.text_body };
    for &id in body {
        let Some(part) = message.parts.get(id as usize) else { continue };
        let source = part.offset_body as usize..part.offset_end as usize;
        if part.is_encoding_problem {
            build.warn("a part of the message is not encoded as it says; its text may be wrong");
        }
        match &part.body {
            PartType::Text(text) => build.paragraph(&unquoted(text), Some(source)),
            PartType::Html(text) => {
                let decoded = Decoded { text: text.clone().into_owned(), warnings: Vec::new() };
                let page = html::parse(&decoded, around.options)?;
                // The page's own places are bytes of what was decoded: here they are those of the part in the message.
                build.append_as(page, source);
            }
            _ => inner.push(id),
        }
        if build.is_over() {
            return Ok(());
        }
    }
    inner.extend(message.attachments.iter().filter(|id| !body.contains(id)));
    // What is only there in HTML beside the text is the same once more; pictures of it are no text.
    around.take_members(inner.len())?;
    for (index, id) in inner.into_iter().enumerate() {
        let Some(part) = message.parts.get(id as usize) else { continue };
        attachment(part, index + 1, build, around)?;
        if build.is_over() {
            break;
        }
    }
    Ok(())
}

fn head(message: &Message<'_>, build: &mut Build) {
    let people = [("From", message.from()), ("To", message.to()), ("Cc", message.cc()), ("Bcc", message.bcc())];
    let mut lines: Vec<String> =
        people.iter().filter_map(|(name, list)| Some(format!("{name}: {}", addresses((*list)?)))).collect();
    let date = message.date().map(|d| d.to_rfc3339());
    lines.extend(date.iter().map(|date| format!("Date: {date}")));
    lines.extend(message.subject().map(|subject| format!("Subject: {}", squeeze(subject))));
    lines.retain(|line| !line.ends_with(": "));
    let root = message.root_part();
    build.paragraph(&lines.join("\n"), Some(root.offset_header as usize..root.offset_body as usize));
    build.meta("title", message.subject().unwrap_or_default());
    build.meta("author", &message.from().map(addresses).unwrap_or_default());
    build.meta("date", &date.unwrap_or_default());
    build.meta("to", &message.to().map(addresses).unwrap_or_default());
    build.meta("cc", &message.cc().map(addresses).unwrap_or_default());
    build.meta("message_id", message.message_id().unwrap_or_default());
}

fn addresses(list: &Address<'_>) -> String {
    let one = |name: Option<&str>, address: Option<&str>| match (name, address) {
        (Some(name), Some(address)) => format!("{} <{address}>", squeeze(name)),
        (one, other) => one.or(other).map(squeeze).unwrap_or_default(),
    };
    list.iter().map(|a| one(a.name(), a.address())).collect::<Vec<_>>().join(", ")
}

/// Lines of a mailbox that begin with `From ` are written with a `>`.
fn unquoted(text: &str) -> String {
    text.replace("\r\n", "\n").replace("\n>From ", "\nFrom ")
}

fn attachment(part: &MessagePart<'_>, number: usize, build: &mut Build, around: &Around<'_>) -> Result<(), Refusal> {
    let kind = part.content_type().map(|c| format!("{}/{}", c.ctype(), c.subtype().unwrap_or("?")));
    let kind = kind.unwrap_or_else(|| "no type".into()).to_lowercase();
    let name = part.attachment_name().map(|n| squeeze(&n.replace(char::is_control, "\u{FFFD}")));
    let name = name.filter(|n| !n.is_empty()).unwrap_or_else(|| format!("part {number}"));
    if let PartType::Message(message) = &part.body {
        let mut inner = Build::new(Format::Eml, around.options);
        inner.part("message");
        match around.inside().and_then(|deeper| read(message, &mut inner, &deeper)) {
            Ok(()) => {
                build.paragraph(&format!("Attachment: {name} ({kind})"), None);
                build.append(&name, inner.finish()?);
            }
            Err((_, detail)) => build.warn(format!("`{name}` is not read: it {detail}")),
        }
        return Ok(());
    }
    read_attachment(&name, &kind, part.contents(), build, around)
}

/// Lists an attachment and, where there is a reader for it, reads it.
pub(super) fn read_attachment(
    name: &str,
    kind: &str,
    bytes: &[u8],
    build: &mut Build,
    around: &Around<'_>,
) -> Result<(), Refusal> {
    let size = size_text(bytes.len() as u64);
    build.paragraph(&format!("Attachment: {name} ({kind}, {size})"), None);
    if bytes.is_empty() {
        return Ok(());
    }
    // A part without a name is known by its type.
    let by_name = if name.contains('.') { name.to_owned() } else { format!("{name}.{}", extension_of(kind)) };
    let read = around.inside().and_then(|deeper| dispatch::parse(bytes, &by_name, &deeper));
    match read {
        Ok(document) if !document.text.trim().is_empty() => build.append(name, document),
        Ok(_) => build.warn(format!("`{name}` holds no text")),
        Err((_, detail)) => build.warn(format!("`{name}` is not read: it {detail}")),
    }
    Ok(())
}

fn extension_of(kind: &str) -> &'static str {
    match kind {
        "text/html" => "html",
        "text/csv" => "csv",
        "text/markdown" => "md",
        "message/rfc822" => "eml",
        "application/json" => "json",
        "text/calendar" => "ics",
        _ => "txt",
    }
}

#[cfg(test)]
mod tests;
