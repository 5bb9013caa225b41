use super::*;
use crate::corpus::reader::budget::Budget;
use crate::corpus::reader::options::ReadOptions;

fn read_with(bytes: &[u8], options: &ReadOptions) -> Document {
    let budget = Budget::new(options);
    let around = Around::new(options, &budget);
    if bytes.starts_with(b"From ") { mbox(bytes, &around).unwrap() } else { parse(bytes, &around).unwrap() }
}

fn read(bytes: &[u8]) -> Document {
    read_with(bytes, &ReadOptions::default())
}

const MULTIPART: &str = "From: =?utf-8?q?M=C3=BCller?= <m@example.org>\r\nTo: a@example.org, B <b@example.org>\r\n\
Subject: The plan\r\nDate: Fri, 13 Mar 2026 09:45:00 +0100\r\nMIME-Version: 1.0\r\n\
Content-Type: multipart/mixed; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: text/html; charset=iso-8859-1\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\r\n<h1>Gr=FC=DFe</h1><p>an alle</p>\r\n--x\r\n\
Content-Type: text/csv; name=\"t.csv\"\r\nContent-Disposition: attachment; filename=\"../../t.csv\"\r\n\r\na,b\r\n1,2\r\n\
--x\r\nContent-Type: image/png; name=\"p.png\"\r\nContent-Transfer-Encoding: base64\r\n\
Content-Disposition: attachment\r\n\r\niVBORw0KGgo=\r\n--x--\r\n";

#[test]
fn a_message_gives_headers_body_and_attachments() {
    let document = read(MULTIPART.as_bytes());
    assert_eq!(
        document.text,
        "From: Müller <m@example.org>\nTo: a@example.org, B <b@example.org>\nDate: 2026-03-13T09:45:00+01:00\n\
         Subject: The plan\n\n# Grüße\n\nan alle\n\nAttachment: ../../t.csv (text/csv, 8 bytes)\n\n\
         | a | b |\n| --- | --- |\n| 1 | 2 |\n\nAttachment: p.png (image/png, 8 bytes)"
    );
    assert_eq!(document.meta["title"], "The plan");
    assert_eq!(document.warnings, ["`p.png` is not read: it is a PNG picture, a format that is not read"]);
    let located = document.locate(document.text.find("an alle").unwrap());
    assert!(MULTIPART[located.bytes.unwrap()].contains("Gr=FC=DFe"));
    let cell = document.locate(document.text.find("| 2 |").unwrap() + 2);
    assert_eq!((cell.part.as_deref(), cell.cell.as_deref()), (Some("../../t.csv"), Some("B2")));
}

#[test]
fn messages_of_a_mailbox_are_parts_of_one_document() {
    let mailbox = "From a@b Mon Jan  1 00:00:00 2024\nSubject: One\nFrom: a@b\n\nfirst\n>From here on\n\n\
                   From c@d Mon Jan  1 00:00:01 2024\nSubject: Two\nFrom: c@d\n\nsecond\n";
    assert!(is_mbox(mailbox) && !is_mbox("From here on: it goes\nwell"));
    let document = read(mailbox.as_bytes());
    assert_eq!(document.text, "From: a@b\nSubject: One\n\nfirst\nFrom here on\n\nFrom: c@d\nSubject: Two\n\nsecond");
    assert_eq!(document.locate(document.text.len() - 1).part.as_deref(), Some("message 2 > text"));
}

#[test]
fn messages_inside_messages_end_at_the_limit_of_depth() {
    let mut message = "Subject: innermost\r\nFrom: a@b\r\n\r\nwords\r\n".to_owned();
    for _ in 0..200 {
        message = format!(
            "Subject: outer\r\nFrom: a@b\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n{message}"
        );
    }
    let document = read_with(message.as_bytes(), &ReadOptions { max_depth: 3, ..Default::default() });
    assert!(document.warnings.iter().any(|w| w.contains("`max_depth`")), "{:?}", document.warnings);
}

#[test]
fn a_letter_is_no_message() {
    assert!(!looks_like("From: Anna\nTo: Ben\nSubject: Lunch\n\nat noon?", false));
    assert!(looks_like("From: Anna\nTo: Ben\nSubject: Lunch\n\nat noon?", true));
    assert!(looks_like("Received: from x\n by y\nFrom: a@b\nSubject: z\n\nhi", false));
    assert!(!looks_like("Anna: hello\nBen: hi\nX-ray: no", false));
}

#[test]
fn the_page_is_read_where_the_plain_text_is_blank() {
    let message = |plain: &str| {
        format!(
            "Subject: s\r\nFrom: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"x\"\r\n\r\n\
             --x\r\nContent-Type: text/plain\r\n\r\n{plain}\r\n--x\r\nContent-Type: text/html\r\n\r\n\
             <p>the page</p>\r\n--x--\r\n"
        )
    };
    assert_eq!(read(message(" \r\n").as_bytes()).text, "From: a@b\nSubject: s\n\nthe page");
    assert_eq!(read(message("the words").as_bytes()).text, "From: a@b\nSubject: s\n\nthe words");
}
