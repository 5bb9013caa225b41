use std::path::PathBuf;

use super::*;
use crate::corpus::document::Format;

/// Reads bytes as a file of this name.
fn read_as(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<Document, ReadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path, options)
}

fn check_refused(name: &str, bytes: &[u8], options: &ReadOptions, reason: ReadReason, part: &str) {
    let error = read_as(name, bytes, options).unwrap_err();
    assert_eq!(error.reason, reason, "{error}");
    let line = error.to_string();
    assert!(line.contains(part) && line.contains(name) && !line.contains('\n'), "{line}");
}

#[test]
fn a_document_knows_its_file_hash_format_and_language() {
    let words = "Wir haben gestern beschlossen, dass die neue Fassung nach der Prüfung veröffentlicht wird.";
    let document = read_as("note.txt", words.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!((document.format, document.text.as_str()), (Format::Text, words));
    assert_eq!(document.path.file_name().unwrap(), "note.txt");
    assert_eq!(document.meta["language"], "de");
    let abc = read_as("a.txt", b"abc", &ReadOptions::default()).unwrap();
    assert_eq!(abc.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn the_language_a_file_names_is_not_guessed() {
    let file =
        "WEBVTT\nLanguage: nl\n\n00:00.000 --> 00:09.000\nWe agreed yesterday that the new version is out soon.\n";
    assert_eq!(read_as("a.vtt", file.as_bytes(), &ReadOptions::default()).unwrap().meta["language"], "nl");
}

#[test]
fn each_reason_names_the_file_and_the_fact() {
    let options = ReadOptions::default();
    check_refused("empty.txt", b"", &options, ReadReason::NoTextFound, "is empty");
    check_refused("bom.txt", b"\xEF\xBB\xBF", &options, ReadReason::NoTextFound, "white space");
    check_refused("blank.md", b" \n\t\n", &options, ReadReason::NoTextFound, "white space");
    check_refused("x.docx", b"PK\x03\x04....", &options, ReadReason::Unreadable, "ZIP");
    check_refused("nocue.vtt", b"WEBVTT\n\nNOTE only\n", &options, ReadReason::NoTextFound, "no cue");
    check_refused("bad.json", b"{\"a\": ", &options, ReadReason::Unreadable, "JSON");
    let small = ReadOptions { max_bytes: 3, ..Default::default() };
    check_refused("big.txt", b"1234", &small, ReadReason::TooLarge, "`max_size`");
    let timed = ReadOptions { no_timestamps: NoTimestamps::Error, ..Default::default() };
    check_refused("a.txt", b"Anna: a\nBen: b\nAnna: c\n", &timed, ReadReason::Unreadable, "`no_timestamps`");
    let error = read(&PathBuf::from("/nonexistent/x.txt"), &options).unwrap_err();
    assert_eq!(error.reason, ReadReason::Missing);
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path(), &options).unwrap_err();
    assert_eq!((error.reason, error.detail.as_str()), (ReadReason::Unreadable, "is a folder"));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let error = read(&PathBuf::from("/dev/zero"), &ReadOptions::default()).unwrap_err();
    assert_eq!((error.reason, error.detail.as_str()), (ReadReason::Unreadable, "is no regular file"));
}

#[test]
fn a_line_break_in_a_name_does_not_break_the_line_of_the_error() {
    let error = read(&PathBuf::from("/nonexistent/a\nb"), &ReadOptions::default()).unwrap_err();
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn the_extension_is_not_believed_against_the_content() {
    let options = ReadOptions::default();
    let vtt = b"\xEF\xBB\xBFWEBVTT\n\n00:00.000 --> 00:01.000\n<v Anna>hi\n";
    assert_eq!(read_as("a.txt", vtt, &options).unwrap().format, Format::Vtt);
    let pdf = pdf::tests::pdf_of(&[Some("Hello")], 1, "");
    assert_eq!(read_as("a.txt", &pdf, &options).unwrap().format, Format::Pdf);
    let turns = b"[{\"speaker\": \"A\", \"text\": \"x\"}]";
    assert_eq!(read_as("a.txt", turns, &options).unwrap().format, Format::Json);
}

#[test]
fn markdown_is_no_transcript_unless_asked_for() {
    let minutes = b"# Sync\n\n**Anna:** Hello.\n\n**Ben:** Yes.\n\n**Anna:** Good.\n";
    assert_eq!(read_as("a.md", minutes, &ReadOptions::default()).unwrap().format, Format::Markdown);
    let asked = ReadOptions { as_: ReadAs::Transcript, ..Default::default() };
    let document = read_as("a.md", minutes, &asked).unwrap();
    assert_eq!(document.text, "# Sync\nAnna: Hello.\nBen: Yes.\nAnna: Good.");
}

#[test]
fn warnings_of_the_decoder_reach_the_document() {
    let document = read_as("a.txt", b"Caf\xE9 au lait, d\xE9j\xE0 vu, gar\xE7on", &ReadOptions::default()).unwrap();
    assert!(document.text.contains("Café au lait, déjà vu"), "{}", document.text);
    assert_eq!(document.warnings.len(), 1);
}

/// For every transcript format: the words of a turn stand, in order, in the place of the file it names.
#[test]
fn every_turn_leads_back_to_its_place_in_the_file() {
    let files = [
        "WEBVTT\n\n00:00.000 --> 00:01.000\n<v Anna>Hi <i>there</i>\nBen\n\n00:01.000 --> 00:02.000\n<v Anna>and you\n",
        "WEBVTT\n\n00:00.000 --> 00:01.000\nAnna: Hi\n\n00:01.000 --> 00:02.000\nBen: Ho, &amp; ha\n\n00:03.000 --> 00:04.000\nAnna: Hu\n",
        "1\n00:00:00,000 --> 00:00:01,000\nAnna: Grüße an\n- Ben: alle\n\n2\n00:00:01,000 --> 00:00:02,000\nund\nTschüß\n",
        "Title: x\n\nAnna: one\n  two\n\nBen: three\nAnna: four\nBen: five six\n",
        "[{\"speaker\":\"A\",\"text\":\"x y\"},{\"speaker\":\"B\",\"text\":\"z\"}]",
    ];
    for file in files {
        let document = read_as("a.txt", file.as_bytes(), &ReadOptions::default()).unwrap();
        assert!(!document.turns.is_empty(), "{file}");
        for turn in &document.turns {
            let place = &file[turn.source.clone()];
            let mut at = 0;
            for word in document.turn_text(turn).split(' ') {
                let word = if word == "&" { "&amp;" } else { word };
                at += place[at..].find(word).unwrap_or_else(|| panic!("{word} of {turn:?} is not in {place}"));
            }
        }
    }
}

#[test]
fn hostile_texts_are_read_in_linear_time() {
    use std::time::{Duration, Instant};
    type Form = (&'static str, fn(usize) -> String);
    let forms: [Form; 8] = [
        ("a.vtt", |n| format!("WEBVTT\n\n00:00.000 --> 00:01.000\nx{}", "<".repeat(n))),
        ("a.vtt", |n| format!("WEBVTT\n\n00:00.000 --> 00:01.000\nx{}", "<v ".repeat(n / 3))),
        ("a.vtt", |n| format!("WEBVTT\n\n{}", "00:00.000 --> 00:01.000\nx\n\n".repeat(n / 27))),
        ("a.srt", |n| format!("1\n00:00:00,000 --> 00:00:01,000\nx\n{}", "1\n\n".repeat(n / 3))),
        ("a.txt", |n| "Anna: ".repeat(n / 6)),
        ("a.txt", |n| "A:\n".repeat(n / 3)),
        ("a.md", |n| "#\n".repeat(n / 2)),
        ("a.json", |n| format!("[{}1]", "[],".repeat(n / 3))),
    ];
    for (name, form) in forms {
        let text = form(2_000_000);
        let started = Instant::now();
        let _ = read_as(name, text.as_bytes(), &ReadOptions::default());
        assert!(started.elapsed() < Duration::from_secs(60), "{name} {}: {:?}", &text[..20], started.elapsed());
    }
}

#[test]
fn any_bytes_give_a_document_or_a_reason() {
    let seeds: [&[u8]; 5] = [
        b"WEBVTT\n\nNOTE Date: x\n\n1\n00:00.000 --> 00:01.000\n<v A>hi</v> &amp; <c>x</c>\n",
        b"1\n00:00:00,000 --> 00:00:01,000\nA: {\\an8}hi\n\n2\n00:00:01,000 --> 00:00:02,000\n- B: ho\n",
        b"Date: x\nAttendees:\n- A\n\n[00:01] A: hi\nB (00:02): ho\nA  00:03\nhu\n",
        b"{\"t\": [{\"speaker\": \"A\", \"content\": \"\\u00e9\", \"start\": 1e3}, {\"from\": null}]}",
        b"---\na: b\n---\n# H #\n```\n# x\n```\nT\n==\n",
    ];
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3000 {
        let mut bytes = seeds[next(seeds.len())].to_vec();
        for _ in 0..1 + next(6) {
            let at = next(bytes.len().max(1));
            match next(4) {
                _ if bytes.is_empty() => bytes.push(b'x'),
                0 => bytes[at] = next(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, [b'\n', b':', b'<', 0xFF, b'[', b'-', 0xE3, b' '][next(8)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let path = folder.path().join(["a.vtt", "a.srt", "a.txt", "a.json", "a.md"][round % 5]);
        std::fs::write(&path, &bytes).unwrap();
        for as_ in [ReadAs::Auto, ReadAs::Transcript, ReadAs::Text] {
            let options = ReadOptions { as_, ..Default::default() };
            if let Ok(document) = read(&path, &options) {
                for turn in &document.turns {
                    assert!(!document.turn_text(turn).is_empty());
                }
            }
        }
    }
}
