use super::*;

/// Writes a PDF with one page per content stream; `None` is a page whose MediaBox is missing, on which pdf-extract
/// panics.
pub(in super::super) fn pdf_of(pages: &[Option<&str>], promised: usize, trailer: &str) -> Vec<u8> {
    let mut objects = vec![String::new(); 3];
    let mut kids = String::new();
    for page in pages {
        let number = objects.len() + 1;
        kids.push_str(&format!("{number} 0 R "));
        let media_box = if page.is_some() { "/MediaBox [0 0 612 792]" } else { "" };
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R {media_box} /Contents {} 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
            number + 1
        ));
        let words = page.unwrap_or("lost");
        let stream = if words.is_empty() { String::new() } else { format!("BT /F1 12 Tf 72 700 Td ({words}) Tj ET") };
        objects.push(format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()));
    }
    objects[0] = "<< /Type /Catalog /Pages 2 0 R >>".into();
    objects[1] = format!("<< /Type /Pages /Kids [{kids}] /Count {promised} >>");
    objects[2] = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".into();
    objects.push("<< /Title (The report) /CreationDate (D:20260313094500Z) >>".into());
    let mut file = String::from("%PDF-1.4\n");
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(file.len());
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let xref = file.len();
    file.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    places.iter().for_each(|place| file.push_str(&format!("{place:010} 00000 n \n")));
    let (size, info) = (objects.len() + 1, objects.len());
    file.push_str(&format!(
        "trailer\n<< /Size {size} /Root 1 0 R /Info {info} 0 R {trailer} >>\nstartxref\n{xref}\n%%EOF"
    ));
    file.into_bytes()
}

#[test]
fn pages_cover_the_text_and_the_file_describes_itself() {
    let bytes = pdf_of(&[Some("First page."), Some("Second page.")], 2, "");
    let document = parse(&bytes, &ReadOptions::default(), false).unwrap();
    let pages: Vec<_> = document.pages.iter().map(|p| document.text[p.range.clone()].trim()).collect();
    assert_eq!(pages, ["First page.", "Second page."]);
    assert_eq!(document.pages[1].range, document.pages[0].range.end..document.text.len());
    assert_eq!((document.meta["title"].as_str(), document.meta["date"].as_str()), ("The report", "2026-03-13"));
    assert!(document.warnings.is_empty(), "{:?}", document.warnings);
}

#[test]
fn a_page_on_which_the_first_engine_panics_is_read_by_the_second() {
    let bytes = pdf_of(&[Some("one"), None, Some("three"), Some("")], 9, "");
    let document = parse(&bytes, &ReadOptions::default(), false).unwrap();
    assert_eq!(document.text.trim_end(), "one\n\nlost\n\nthree");
    assert_eq!(
        document.warnings,
        ["page 4 without text, perhaps scanned", "9 pages are promised by the file and 4 were found"]
    );
}

#[test]
fn a_pdf_without_words_or_over_a_limit_is_refused_by_name() {
    let check = |bytes: &[u8], options: ReadOptions, reason: ReadReason, part: &str| {
        let (found, detail) = parse(bytes, &options, false).unwrap_err();
        assert_eq!(found, reason, "{detail}");
        assert!(detail.contains(part), "{detail}");
    };
    let empty = pdf_of(&[Some(""), Some("")], 2, "");
    check(&empty, ReadOptions::default(), ReadReason::NoTextFound, "2 pages without text");
    let two = pdf_of(&[Some("a"), Some("b")], 2, "");
    check(&two, ReadOptions { max_pages: 1, ..Default::default() }, ReadReason::TooLarge, "`max_pages`");
    check(&two, ReadOptions { max_text: 4, ..Default::default() }, ReadReason::TooLarge, "`max_text`");
    check(b"%PDF-1.4\nnothing", ReadOptions::default(), ReadReason::Unreadable, "cannot be opened");
    check(&pdf_of(&[], 0, ""), ReadOptions::default(), ReadReason::Unreadable, "without a page");
}

#[test]
fn the_second_engine_is_taken_where_the_first_lost_letters_or_words() {
    let check = |first: Option<&str>, second: Option<&str>, taken: Option<&str>| {
        assert_eq!(better(first.map(str::to_owned), second.map(str::to_owned)).as_deref(), taken);
    };
    check(None, None, None);
    check(None, Some("b"), Some("b"));
    check(Some("a"), None, Some("a"));
    check(Some("words"), Some(""), Some("words"));
    check(Some("the same"), Some("the  same"), Some("the same"));
    check(Some("ot rin"), Some("footprint"), Some("footprint"));
    check(Some("\u{FFFD}\u{FFFD}\u{FFFD}ab"), Some("abc"), Some("abc"));
    check(Some("H e r e i s s o m e"), Some("Here is some"), Some("Here is some"));
    assert!(is_doubtful("Ä¿¡¡¡¡Â¼¹ØÓÚºì¾ü×÷Õ½µÄÔÔò") && !is_doubtful("Größe für später, œuvre d'été à l'hôtel"));
}

#[test]
fn a_truncated_or_flipped_pdf_never_panics() {
    let bytes = pdf_of(&[Some("First page."), Some("Second page.")], 2, "");
    for end in (0..bytes.len()).step_by(7) {
        let _ = parse(&bytes[..end], &ReadOptions::default(), false);
    }
    for at in (0..bytes.len()).step_by(5) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x11;
        let _ = parse(&flipped, &ReadOptions::default(), false);
    }
}

#[test]
fn pages_are_named_in_runs() {
    assert_eq!(pages_text(&[3]), "page 3");
    assert_eq!(pages_text(&[1, 2, 3, 7]), "pages 1-3, 7");
    let odd: Vec<u32> = (0..20).map(|n| n * 2 + 1).collect();
    assert_eq!(pages_text(&odd), "pages 1, 3, 5, 7, 9, 11, 13, 15 and 12 more");
}
