//! Pages made to harm whoever reads them: XML, HTML and PDF.

use super::documents::{docx_of, holds, read, refused, traced, warns, zip_of};
use super::tries;

/// A PDF of pages of one line each. `catalog` is added to the catalog and `objects` behind the pages; the numbers of the
/// latter begin at 100,000.
pub fn pdf(pages: &[&str], catalog: &str, objects: &str) -> Vec<u8> {
    finished(&body(pages, catalog, objects), "")
}

fn body(pages: &[&str], catalog: &str, objects: &str) -> String {
    let mut file = String::from("%PDF-1.4\n");
    let mut put = |number: usize, object: &str| file.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    put(1, &format!("<< /Type /Catalog /Pages 2 0 R {catalog} >>"));
    let kids: String = (0..pages.len()).map(|n| format!("{} 0 R ", 4 + n * 2)).collect();
    put(2, &format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", pages.len()));
    put(3, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
    for (n, words) in pages.iter().enumerate() {
        let page = "/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>";
        put(4 + n * 2, &format!("<< {page} /Contents {} 0 R >>", 5 + n * 2));
        let stream = format!("BT /F1 12 Tf 72 700 Td ({words}) Tj ET");
        put(5 + n * 2, &format!("<< /Length {} >>\nstream\n{stream}\nendstream", stream.len()));
    }
    for (n, object) in objects.split("\n---\n").filter(|o| !o.is_empty()).enumerate() {
        put(100_000 + n, object);
    }
    file
}

/// Adds the table of the objects' places, and a trailer.
fn finished(body: &str, trailer: &str) -> Vec<u8> {
    let mut file = body.to_owned();
    file.push_str("xref\n0 1\n0000000000 65535 f \n");
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if let Some(number) = line.strip_suffix(" 0 obj\n") {
            file.push_str(&format!("{number} 1\n{at:010} 00000 n \n"));
        }
        at += line.len();
    }
    file.push_str(&format!("trailer\n<< /Size 200000 /Root 1 0 R {trailer} >>\nstartxref\n{}\n%%EOF", body.len()));
    file.into_bytes()
}

// TRUST.md, 34
#[test]
fn no_entity_is_expanded_and_no_depth_overflows() {
    let laughs: String = (0..10)
        .map(|n| match n {
            0 => "<!ENTITY l0 \"lol\">".to_owned(),
            n => format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10)),
        })
        .collect();
    let body = |dtd: &str, words: &str| {
        docx_of(format!("<!DOCTYPE d [{dtd}]><d><p><r><t>seen {words}</t></r></p></d>").as_bytes())
    };
    let quadratic = format!("<!ENTITY q \"{}\">", "q".repeat(100_000));
    let depth = tries(200_000, 1_000_000);
    let deep = format!("<d>{}<r><t>deep words</t></r>{}</d>", "<p>".repeat(depth), "</p>".repeat(depth));
    let cells = "<tbl><tr><tc><p><r><t>cell</t></r></p>".repeat(20_000);
    let attribute = format!("<d a=\"{}\"><p><r><t>behind it</t></r></p></d>", "z".repeat(tries(5, 40) << 20));
    let workbook = zip_of(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("_rels/.rels", br#"<Relationships><Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ("xl/workbook.xml", br#"<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]><workbook xmlns:r="r"><sheets><sheet name="S&x;" sheetId="1" r:id="r1"/></sheets></workbook>"#),
        ("xl/_rels/workbook.xml.rels", br#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/s.xml"/></Relationships>"#),
        ("xl/worksheets/s.xml", br#"<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]><worksheet><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>cell &x;</t></is></c></row></sheetData></worksheet>"#),
    ]);
    let picture = br#"<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>"#;
    let documents = read(&[
        ("laughs.docx", body(&laughs, "&l9;")),
        ("quadratic.docx", body(&quadratic, &"&q;".repeat(1000))),
        ("file.docx", body("<!ENTITY x SYSTEM \"file:///etc/passwd\">", "&x;")),
        ("http.docx", body("<!ENTITY x SYSTEM \"http://127.0.0.1:9/\">", "&x;")),
        ("parameter.docx", body("<!ENTITY % p SYSTEM \"http://127.0.0.1:9/\"> %p;", "words")),
        ("deep.docx", docx_of(deep.as_bytes())),
        ("cells.docx", docx_of(format!("<d>{cells}</d>").as_bytes())),
        ("attribute.docx", docx_of(attribute.as_bytes())),
        ("book.xlsx", workbook),
        ("picture.svg", picture.to_vec()),
    ]);
    for (name, document) in &documents {
        assert!(!document.to_string().contains("root:"), "{name}: {document}");
        assert!(document["text"].as_str().is_none_or(|text| text.len() < 5 << 20), "{name} was expanded");
    }
    for name in ["laughs.docx", "quadratic.docx", "file.docx", "http.docx", "parameter.docx"] {
        holds(&documents, name, "seen");
    }
    // What is very deep or repeats itself may pass a limit of unpacking instead.
    for (name, words) in [("deep.docx", "deep words"), ("cells.docx", "cell"), ("attribute.docx", "behind it")] {
        match documents[name]["error"].as_str() {
            None => holds(&documents, name, words),
            Some(_) => refused(&documents, name, "too-large", "`max_"),
        }
    }
}

// TRUST.md, 35
#[test]
fn pages_of_the_web_that_are_deep_open_or_huge_give_their_words() {
    let num = tries(200_000, 1_000_000);
    let documents = read(&[
        ("deep.html", format!("<!doctype html>{}<p>deep words", "<div>".repeat(num)).into_bytes()),
        ("tables.html", format!("<!doctype html>{}", "<table><tr><td>open".repeat(num / 10)).into_bytes()),
        ("spans.html", format!("<!doctype html><table>{}", "<tr><td rowspan=99999 colspan=99999>cell".repeat(500)).into_bytes()),
        ("base64.html", format!("<!doctype html><img src=\"data:image/png;base64,{}\"><p>words behind", "A".repeat(tries(8, 40) << 20)).into_bytes()),
        ("script.html", b"<!doctype html><script>document.write('made')</script><style>p{}</style><p>written</p><noscript>none</noscript>".to_vec()),
        ("refresh.html", b"<!doctype html><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><img src=http://127.0.0.1:9/x><p>here</p>".to_vec()),
        ("charset.html", "<!doctype html><meta charset=iso-8859-1><p>Größe für später, schön grün</p>".as_bytes().to_vec()),
    ]);
    holds(&documents, "deep.html", "deep words");
    holds(&documents, "tables.html", "open");
    holds(&documents, "spans.html", "cell");
    holds(&documents, "base64.html", "words behind");
    holds(&documents, "script.html", "written");
    assert!(!documents["script.html"]["text"].as_str().unwrap().contains("made"));
    holds(&documents, "refresh.html", "here");
    holds(&documents, "charset.html", "Größe für später");
}

// TRUST.md, 36
#[test]
fn pdfs_that_run_in_circles_or_ask_for_actions_end_as_text_or_with_a_reason() {
    let whole = body(&["one", "two"], "", "");
    let replaced = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        finished(&whole.replacen(from, to, 1), "")
    };
    let actions = "/OpenAction << /S /JavaScript /JS (app.alert\\(1\\)) >> /AA << /O << /S /Launch /F (/bin/sh) >> >>";
    let attached = "/Names << /EmbeddedFiles << /Names [(../../evil.exe) 100000 0 R] >> >>";
    let image = "<< /Type /XObject /Subtype /Image /Width 100000 /Height 100000 /BitsPerComponent 8 /ColorSpace /DeviceRGB /Filter /JBIG2Decode /Length 4 >>\nstream\nabcd\nendstream";
    let filters = format!("/Filter [{}] ", "/FlateDecode ".repeat(50));
    let form = "<< /Type /Annot /Subtype /Widget /FT /Tx /T (Name) /V (Filled in) /Rect [0 0 9 9] >>";
    let form = body(&["one"], "", form).replacen("/Type /Page /Parent", "/Annots [100000 0 R] /Type /Page /Parent", 1);
    let documents = read(&[
        ("cycle.pdf", replaced("/Kids [4 0 R 6 0 R ]", "/Kids [4 0 R 2 0 R ]")),
        ("xref.pdf", finished(&whole, &format!("/Prev {}", whole.len()))),
        ("count.pdf", replaced("/Count 2", "/Count 1000000000")),
        ("filters.pdf", replaced("<< /Length", &format!("<< {filters} /Length"))),
        (
            "stream.pdf",
            pdf(
                &["one"],
                "",
                "<< /Type /ObjStm /N 1 /First 4 /Extends 100000 0 R /Length 9 >>\nstream\n100000 0 \nendstream",
            ),
        ),
        ("image.pdf", pdf(&["one"], "", image)),
        ("actions.pdf", pdf(&["one"], actions, "")),
        ("attached.pdf", pdf(&["one"], attached, "<< /Type /Filespec /F (evil.exe) >>")),
        ("form.pdf", finished(&form, "")),
    ]);
    for name in ["cycle.pdf", "count.pdf", "image.pdf", "actions.pdf", "attached.pdf", "stream.pdf"] {
        holds(&documents, name, "one");
    }
    warns(&documents, "count.pdf", "promised");
    warns(&documents, "attached.pdf", "../../evil.exe");
    holds(&documents, "form.pdf", "Filled in");
    let stage = tempfile::tempdir().unwrap();
    std::fs::write(stage.path().join("actions.pdf"), pdf(&["one"], actions, "")).unwrap();
    if let Some(trace) = traced(stage.path(), &["read", "actions.pdf"]) {
        assert!(!trace.contains("/bin/sh") && !trace.contains("AF_INET"), "{trace}");
    }
}
