use std::fs;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::corpus::reader::pdf::{self, tests::pdf_of};
use crate::testing::skipped;

/// Letters made of strokes: what a scanned page is to a reader of text. Ends and begins a text object around them.
const DRAWN: &str = ") Tj ET q .2 0 0 .2 60 500 cm 18 w \
    72 500 m 72 650 l S 72 575 m 150 575 l S 150 500 m 150 650 l S \
    190 500 m 190 650 l S 190 643 m 260 643 l S 190 575 m 250 575 l S 190 507 m 260 507 l S \
    300 500 m 300 650 l S 300 507 m 370 507 l S \
    410 500 m 410 650 l S 410 643 m 470 643 l S 470 643 m 470 575 l S 410 575 m 470 575 l S Q BT (";

fn options() -> ReadOptions {
    ReadOptions { ocr: Ocr::Tesseract, ..Default::default() }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

#[test]
fn a_drawn_page_is_read_by_the_installed_programs() {
    if !is_installed("pdftoppm") || !is_installed("tesseract") {
        return skipped("pdftoppm or tesseract is not installed: no page was recognised");
    }
    let bytes = pdf_of(&[Some("Before."), Some(DRAWN), Some("After.")], 3, "");
    let mut document = pdf::parse(&bytes, &options(), true).unwrap();
    assert_eq!(document.meta["needs_ocr"], "2");
    recognize(&mut document, &bytes, &options(), &Programs::default()).unwrap();
    let pages: Vec<_> = document.pages.iter().map(|p| document.text[p.range.clone()].trim()).collect();
    assert_eq!(pages, ["Before.", "HELP", "After."]);
    assert_eq!((document.meta.get("needs_ocr"), document.meta["ocr"].as_str()), (None, "2"));
    assert_eq!(document.warnings, ["page 2 read from images by tesseract, which makes mistakes"]);
}

#[test]
fn what_was_not_recognised_is_said_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let draw = program("draw", "cat >/dev/null; [ $2 = 3 ] && { echo 'no image' >&2; exit 1; }; echo page $2");
    let recognize_with = |script: &str, pages: &[Option<&str>]| {
        let reader = program("reader", script);
        let bytes = pdf_of(pages, pages.len(), "");
        let mut document = pdf::parse(&bytes, &options(), true).unwrap();
        let programs = Programs { draw: &draw, recognize: &reader };
        let mut refused = loop {
            match recognize(&mut document, &bytes, &options(), &programs) {
                // Another test's child may hold the new file open for writing for a moment.
                Err((_, detail)) if detail.contains("busy") => std::thread::sleep(Duration::from_millis(5)),
                other => break other.err(),
            }
        };
        (document, refused.take())
    };
    let pages = [Some("words"), Some(""), Some(""), Some("")];
    let (document, refused) = recognize_with("read line; [ \"$line\" = 'page 4' ] || echo \"seen: $line\"", &pages);
    assert_eq!(refused, None);
    assert_eq!(document.text, "words\n\nseen: page 2\n\n\n\n\n\n");
    assert_eq!(document.meta["needs_ocr"], "3, 4");
    assert_eq!(
        document.warnings[..2],
        ["page 2 read from images by tesseract, which makes mistakes", "page 4 without text, and tesseract found none"]
    );
    assert!(document.warnings[2].starts_with("page 3 without text, and not recognised"), "{:?}", document.warnings);

    let (_, refused) = recognize_with("cat >/dev/null", &[Some(""), Some("")]);
    let (reason, detail) = refused.unwrap();
    assert_eq!((reason, detail.as_str()), (ReadReason::NoTextFound, "is a PDF without text, and tesseract found none"));
    let (_, refused) = recognize_with("echo \"Could not initialize tesseract.\" >&2; exit 1", &pages);
    assert!(refused.unwrap().1.contains("`ocr_languages: eng`"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let bytes = pdf_of(&[Some("")], 1, "");
    let mut document = pdf::parse(&bytes, &options(), true).unwrap();
    let programs = Programs { draw: Path::new("/nonexistent/pdftoppm"), ..Default::default() };
    let (reason, detail) = recognize(&mut document, &bytes, &options(), &programs).unwrap_err();
    assert_eq!(reason, ReadReason::ReadFailed);
    assert!(detail.contains("/nonexistent/pdftoppm") && detail.contains("install"), "{detail}");
}
