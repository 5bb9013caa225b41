use std::io::{Cursor, Write};

use super::*;
use crate::corpus::document::Document;
use crate::corpus::reader::budget::Budget;
use crate::corpus::reader::dispatch;
use crate::corpus::reader::options::ReadOptions;

fn zip_of(members: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn try_read(bytes: &[u8], options: &ReadOptions) -> Result<Document, Refusal> {
    let budget = Budget::new(options);
    dispatch::parse(bytes, "file.bin", &Around::new(options, &budget))
}

fn read(members: &[(&str, &str)]) -> Document {
    try_read(&zip_of(members), &ReadOptions::default()).unwrap()
}

const RELS: &str =
    r#"<Relationships><Relationship Id="rId1" Type="x/officeDocument" Target="word/document.xml"/></Relationships>"#;

fn docx(body: &str) -> Vec<(&'static str, String)> {
    let document = format!(r#"<w:document xmlns:w="w" xmlns:r="r" xmlns:mc="mc"><w:body>{body}</w:body></w:document>"#);
    let relations = r#"<Relationships>
        <Relationship Id="s" Type="x/styles" Target="styles.xml"/><Relationship Id="n" Type="x/numbering" Target="numbering.xml"/>
        <Relationship Id="f" Type="x/footnotes" Target="footnotes.xml"/><Relationship Id="c" Type="x/comments" Target="comments.xml"/>
        <Relationship Id="h1" Type="x/header" Target="header1.xml"/><Relationship Id="h2" Type="x/header" Target="header2.xml"/>
        <Relationship Id="l" Type="x/hyperlink" Target="https://example.org/" TargetMode="External"/></Relationships>"#;
    let styles = r#"<w:styles><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
        <w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift2"/></w:style></w:styles>"#;
    let numbering = r#"<w:numbering><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/>
        <w:lvlText w:val="%1."/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>
        <w:num w:numId="5"><w:abstractNumId w:val="0"/></w:num></w:numbering>"#;
    let footnotes = r#"<w:footnotes><w:footnote w:id="-1" w:type="separator"><w:p/></w:footnote>
        <w:footnote w:id="2"><w:p><w:r><w:t>the note</w:t></w:r></w:p></w:footnote></w:footnotes>"#;
    let comments = r#"<w:comments><w:comment w:id="0" w:author="Eva"><w:p><w:r><w:t>why?</w:t></w:r></w:p></w:comment></w:comments>"#;
    let header = "<w:hdr><w:p><w:r><w:t>Secret</w:t></w:r></w:p></w:hdr>";
    let core =
        "<cp:p><dc:title>The &amp; title</dc:title><dc:creator>Eva</dc:creator><dc:language>de-DE</dc:language></cp:p>";
    vec![
        ("[Content_Types].xml", "<Types/>".into()),
        ("_rels/.rels", RELS.into()),
        ("word/document.xml", document),
        ("word/_rels/document.xml.rels", relations.into()),
        ("word/styles.xml", styles.into()),
        ("word/numbering.xml", numbering.into()),
        ("word/footnotes.xml", footnotes.into()),
        ("word/comments.xml", comments.into()),
        ("word/header1.xml", header.into()),
        ("word/header2.xml", header.into()),
        ("docProps/core.xml", core.into()),
    ]
}

fn read_docx(body: &str) -> Document {
    let members = docx(body);
    read(&members.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>())
}

fn p(words: &str) -> String {
    format!("<w:p><w:r><w:t>{words}</w:t></w:r></w:p>")
}

#[test]
fn a_word_document_keeps_its_structure() {
    let item = |level: u8, words: &str| {
        format!(
            r#"<w:p><w:pPr><w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="5"/></w:numPr></w:pPr><w:r><w:t>{words}</w:t></w:r></w:p>"#
        )
    };
    let body = [
        r#"<w:p><w:pPr><w:pStyle w:val="Mine"/><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>"#.to_owned(),
        r#"<w:p><w:r><w:t>see </w:t></w:r><w:hyperlink r:id="l"><w:r><w:t>here</w:t></w:r></w:hyperlink><w:r><w:footnoteReference w:id="2"/>
           <w:t>&amp; now</w:t><w:commentReference w:id="0"/></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"#.to_owned(),
        item(0, "one"),
        item(1, "inner"),
        item(0, "two"),
        format!("<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val=\"2\"/></w:tcPr>{}</w:tc><w:tc>{}</w:tc></w:tr>\
                 <w:tr><w:tc>{}{}</w:tc><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr></w:tbl>", p("wide"), p("x|y"), p("a"), p("b"), p("c"), p("d")),
        format!("<w:p><w:r><w:t>box:</w:t></w:r><mc:AlternateContent><mc:Choice>{}</mc:Choice><mc:Fallback>{}</mc:Fallback></mc:AlternateContent></w:p>", p("inside"), p("inside")),
    ]
    .concat();
    let document = read_docx(&body);
    assert_eq!(
        document.text,
        "## Head\n\nsee [here](https://example.org/)[^2]& now[^c0]\n\n1. one\n  - inner\n2. two\n\n\
         | wide |  | x\\|y |\n| --- | --- | --- |\n| a b | c | d |\n\ninside\n\nbox:\n\n\
         [^2]: the note\n\n[^c0]: Comment by Eva: why?\n\nSecret"
    );
    assert_eq!(document.format, Format::Docx);
    assert_eq!((document.meta["title"].as_str(), document.meta["language"].as_str()), ("The & title", "de"));
    assert_eq!(document.headings[0].level, 2);
    assert_eq!(document.warnings, ["1 tracked deletion is not part of the text"]);
    let located = document.locate(document.text.find("| c").unwrap() + 2);
    let members = docx(&body);
    let xml = &members.iter().find(|(name, _)| Some(*name) == located.part.as_deref()).unwrap().1;
    assert!(xml[located.bytes.unwrap()].contains("<w:t>c</w:t>"));
}

#[test]
fn a_meeting_saved_by_teams_gives_turns_that_know_their_paragraphs() {
    let cue = |times: &str, name: &str, words: &str| {
        format!("<w:p><w:r><w:t>{times}</w:t><w:br/><w:t>{name}</w:t><w:br/><w:t>{words}</w:t></w:r></w:p>")
    };
    let body = [
        cue("0:0:0.0 --&gt; 0:0:1.800", "Anna Berg", "Hello there."),
        cue("0:0:2.0 --&gt; 0:0:3.5", "Anna Berg", "Shall we?"),
        cue("0:0:9.25 --&gt; 0:0:11.0", "Ben", "Yes."),
    ]
    .concat();
    let document = read_docx(&body);
    assert!(document.text.starts_with("Anna Berg: Hello there. Shall we?\nBen: Yes."), "{}", document.text);
    assert_eq!((document.turns[1].start_ms, document.turns[1].end_ms), (Some(9250), Some(11_000)));
    let located = document.locate(document.turns[1].range.start);
    let members = docx(&body);
    assert!(members[2].1[located.bytes.unwrap()].contains("<w:t>Ben</w:t>"), "{:?}", located.part);
}

#[test]
fn slides_are_pages_with_their_notes() {
    let presentation = r#"<p:presentation xmlns:r="r"><p:sldIdLst><p:sldId id="9" r:id="b"/><p:sldId id="8" r:id="a"/></p:sldIdLst></p:presentation>"#;
    let relations = r#"<Relationships><Relationship Id="a" Type="x/slide" Target="slides/slide1.xml"/>
        <Relationship Id="b" Type="x/slide" Target="/ppt/slides/slide2.xml"/></Relationships>"#;
    let slide = |title: &str, body: &str| {
        format!(
            r#"<p:sld><p:sp><p:nvPr><p:ph type="title"/></p:nvPr><p:txBody><a:p><a:r><a:t>{title}</a:t></a:r></a:p></p:txBody></p:sp>
               <p:sp><p:txBody><a:p><a:pPr lvl="1"/><a:r><a:t>{body}</a:t></a:r></a:p></p:txBody></p:sp>
               <a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>k</a:t></a:r></a:p></a:txBody></a:tc><a:tc><a:txBody><a:p><a:r><a:t>v</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl></p:sld>"#
        )
    };
    let document = read(&[
        ("[Content_Types].xml", "<Types/>"),
        ("ppt/presentation.xml", presentation),
        ("ppt/_rels/presentation.xml.rels", relations),
        ("ppt/slides/slide1.xml", &slide("Second", "b")),
        ("ppt/slides/slide2.xml", &slide("First", "a")),
        (
            "ppt/slides/_rels/slide2.xml.rels",
            r#"<R><Relationship Id="n" Type="x/notesSlide" Target="../notesSlides/n.xml"/></R>"#,
        ),
        ("ppt/notesSlides/n.xml", "<p:notes><p:sp><a:p><a:r><a:t>say this</a:t></a:r></a:p></p:sp></p:notes>"),
    ]);
    assert_eq!(
        document.text,
        "# First\n\n  - a\n\n| k | v |\n| --- | --- |\n\nNotes: say this\n\n# Second\n\n  - b\n\n| k | v |\n| --- | --- |\n"
    );
    let second = document.text.find("Second").unwrap();
    assert_eq!(document.locate(second).page, Some(2));
    assert_eq!(
        document.locate(document.text.find("say").unwrap()).to_string(),
        "ppt/notesSlides/n.xml, page 1, bytes 15-56"
    );
}

#[test]
fn an_open_document_keeps_its_structure() {
    let content = r#"<office:document-content><office:body><office:text><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>
        <text:h text:outline-level="2">Head</text:h><text:p>a<text:s text:c="2"/>b<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>the note</text:p></text:note-body></text:note> c</text:p>
        <text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>inner</text:p></text:list-item></text:list></text:list-item></text:list>
        <table:table><table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>x</text:p></table:table-cell><table:table-cell><text:p>y</text:p></table:table-cell></table:table-row></table:table>
        <text:p><office:annotation><dc:creator>Eva</dc:creator><dc:date>2026</dc:date><text:p>why?</text:p></office:annotation>end</text:p>
        </office:text></office:body></office:document-content>"#;
    let document = read(&[
        ("mimetype", "application/vnd.oasis.opendocument.text"),
        ("content.xml", content),
        ("meta.xml", "<m><dc:title>T</dc:title><meta:initial-creator>Eva</meta:initial-creator></m>"),
    ]);
    assert_eq!(
        document.text,
        "## Head\n\na  b[^1] c\n\n[^1]: the note\n\n- one\n  - inner\n\n| x | y |\n| --- | --- |\n\nend\n\nComment by Eva: why?"
    );
    assert_eq!(document.meta["author"], "Eva");
    let locked = try_read(
        &zip_of(&[
            ("mimetype", "application/vnd.oasis.opendocument.text"),
            ("META-INF/manifest.xml", "<m><manifest:encryption-data/></m>"),
        ]),
        &ReadOptions::default(),
    );
    assert_eq!(locked.unwrap_err().0, ReadReason::Encrypted);
}

fn read_odt(content: &str, more: &[(&str, &str)]) -> Document {
    let first = [("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", content)];
    read(&[&first[..], more].concat())
}

#[test]
fn dates_and_creators_of_the_text_are_words() {
    let content = r#"<o><text:p>Made on <text:date>1 May</text:date> by <text:creator>Eva</text:creator>.<office:annotation><dc:creator>Ben</dc:creator>
        <dc:date>2026</dc:date><text:p>not <text:date>2 May</text:date>?</text:p></office:annotation></text:p></o>"#;
    assert_eq!(read_odt(content, &[]).text, "Made on 1 May by Eva.\n\nComment by Ben: not 2 May?");
}

#[test]
fn headers_of_an_open_document_are_read_once_and_deletions_and_objects_are_named() {
    let content = r#"<o><text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion></text:changed-region></text:tracked-changes>
        <text:p>body</text:p></o>"#;
    let styles = r#"<s><style:style><text:p>sample</text:p></style:style><style:header-style/><style:master-page><style:header><text:p>Secret</text:p></style:header>
        <style:footer><text:p>Foot</text:p></style:footer></style:master-page><style:master-page><style:header-first><text:p>Secret</text:p></style:header-first></style:master-page></s>"#;
    let document = read_odt(content, &[("styles.xml", styles), ("Object 1/content.xml", "<o/>")]);
    assert_eq!(document.text, "body\n\nSecret\n\nFoot");
    assert_eq!(
        document.warnings,
        ["1 tracked deletion is not part of the text", "1 embedded file is not read: Object 1/content.xml"]
    );
}

#[test]
fn embedded_files_and_parts_that_are_damaged_are_named() {
    let mut members = docx(&p("words"));
    members[3].1 = r#"<R><Relationship Id="a" Type="x/aFChunk" Target="chunk.html"/><Relationship Id="d" Type="x/diagramData" Target="d.xml"/>
        <Relationship Id="c" Type="x/chart" Target="charts/c.xml"/></R>"#.into();
    members.push(("word/chunk.html", "<p>more</p>".into()));
    members.push(("word/embeddings/book.xlsx", "PK".into()));
    members.push(("word/d.xml", "<d><a:p><a:t>seen</a:t></a:p><".into()));
    members.push(("word/charts/c.xml", "<c><a:p><a:t>T</a:t></a:p><".into()));
    let document = read(&members.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    assert_eq!(document.text, "words\n\nChart: T\n\nseen");
    let warned = |start: &str| document.warnings.iter().any(|w| w.starts_with(start));
    assert!(
        warned("2 embedded files are not read: word/chunk.html, word/embeddings/book.xlsx"),
        "{:?}",
        document.warnings
    );
    assert!(warned("`word/d.xml` is damaged at byte 29"), "{:?}", document.warnings);
    assert!(warned("`word/charts/c.xml` is damaged at byte 26"), "{:?}", document.warnings);
}

#[test]
fn parts_that_are_missing_are_named_and_parts_that_lost_their_list_are_found() {
    let mut members = docx(&p("words"));
    members.retain(|(name, _)| *name != "word/header2.xml" && *name != "word/comments.xml");
    let document = read(&members.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    let missing =
        ["word/comments.xml", "word/header2.xml"].map(|n| format!("`{n}` is named as a part of it and is missing"));
    assert_eq!(document.warnings, missing);
    let mut members = docx(&p("words"));
    members.retain(|(name, _)| *name != "word/_rels/document.xml.rels");
    let document = read(&members.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    assert!(document.text.contains("the note") && document.text.contains("Secret"), "{}", document.text);
    assert_eq!(document.warnings, ["its list of parts is missing or damaged; they were found by their names"]);
}

#[test]
fn comments_headers_and_boxes_of_an_open_workbook_are_read() {
    let content = r#"<office:document-content><office:body><office:spreadsheet><table:table table:name="Prices">
        <table:table-row table:number-rows-repeated="2"><table:table-cell/></table:table-row>
        <table:table-row><table:table-cell table:number-columns-repeated="2"/><table:table-cell office:value-type="string">
        <office:annotation><dc:creator>Eva</dc:creator><dc:date>2026</dc:date><text:p>too</text:p><text:p>dear</text:p></office:annotation>
        <text:p>Wheat</text:p></table:table-cell></table:table-row>
        <table:shapes><draw:frame><draw:text-box><text:p>In a box</text:p></draw:text-box></draw:frame></table:shapes>
        </table:table></office:spreadsheet></office:body></office:document-content>"#;
    let styles = r#"<s><style:master-page><style:header><text:p>Draft <text:sheet-name>?</text:sheet-name> of May 2026</text:p></style:header>
        <style:footer><text:p>Page <text:page-number>1</text:page-number></text:p></style:footer></style:master-page></s>"#;
    let document = read(&[
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", "<manifest/>"),
        ("content.xml", content),
        ("styles.xml", styles),
    ]);
    let text = document.text.as_str();
    assert!(text.contains("Wheat") && text.contains("Comment at Prices!C3 by Eva: too dear"), "{text}");
    assert!(text.contains("In a box") && text.contains("Draft of May 2026") && !text.contains("Page"), "{text}");
}

#[test]
fn what_slides_share_is_read_once() {
    let content = r#"<o><office:presentation><presentation:header-decl>For the board</presentation:header-decl>
        <presentation:footer-decl>Confidential</presentation:footer-decl><draw:page><text:p>One</text:p></draw:page></office:presentation></o>"#;
    let members = [("mimetype", "application/vnd.oasis.opendocument.presentation"), ("content.xml", content)];
    assert_eq!(read(&members).text, "For the board\n\nConfidential\n\nOne");
}

#[test]
fn a_book_is_read_in_the_order_of_its_spine() {
    let document = read(&[
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml", r#"<c><rootfile full-path="O/p.opf"/></c>"#),
        (
            "O/p.opf",
            r#"<package><metadata><dc:title>Book</dc:title></metadata><manifest><item id="a" href="t/a%20b.xhtml"/><item id="b" href="b.xhtml"/></manifest>
               <spine><itemref idref="b"/><itemref idref="a"/><itemref idref="gone"/></spine></package>"#,
        ),
        ("O/b.xhtml", "<html><body><h1>One</h1><p>first</p></body></html>"),
        ("O/t/a b.xhtml", "<html><body><p>second</p></body></html>"),
    ]);
    assert_eq!((document.text.as_str(), document.format), ("# One\n\nfirst\n\nsecond", Format::Epub));
    assert_eq!(document.locate(9).to_string(), "O/b.xhtml, bytes 27-32");
    assert_eq!(document.warnings, ["its spine names pages that are not in it: gone"]);
}

#[test]
fn a_workbook_gives_cells_with_their_names() {
    let sheet = r#"<worksheet><sheetData><row r="2"><c r="B2" t="inlineStr"><is><t>name</t></is></c><c r="C2"><v>0.30000000000000004</v></c></row>
        <row r="1048576"><c r="XFD1048576"><f>1+1</f><v>7</v></c></row></sheetData></worksheet>"#;
    let document = read(&[
        ("[Content_Types].xml", "<Types/>"),
        (
            "_rels/.rels",
            r#"<Relationships><Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="r"><sheets><sheet name="Data" sheetId="1" r:id="r1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
        ),
        ("xl/worksheets/sheet1.xml", sheet),
        ("xl/comments1.xml", r#"<comments><comment ref="B2"><text><r><t>look</t></r></text></comment></comments>"#),
    ]);
    assert_eq!(document.text, "## Data\n\n| name | 0.3 |  |\n| --- | --- | --- |\n|  |  | 7 |\n\nComment at B2: look");
    let cell = |word: &str| document.locate(document.text.find(word).unwrap()).cell.unwrap();
    assert_eq!((cell("0.3"), cell("7 |")), ("Data!C2".to_owned(), "Data!XFD1048576".to_owned()));
}

#[test]
fn sheets_without_cells_and_damaged_comments_are_named() {
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let document = read(&[
        ("[Content_Types].xml", "<Types/>"),
        (
            "_rels/.rels",
            &format!(
                r#"<Relationships><Relationship Id="r" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>"#
            ),
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="r"><sheets><sheet name="Sales" sheetId="1" r:id="r1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            &format!(
                r#"<Relationships><Relationship Id="r1" Type="{office}/chartsheet" Target="chartsheets/sheet1.xml"/></Relationships>"#
            ),
        ),
        ("xl/chartsheets/sheet1.xml", "<chartsheet/>"),
        ("xl/comments1.xml", r#"<c><comment ref="B2"><text><t>look</t></text></comment><"#),
    ]);
    assert_eq!(document.text, "Comment at B2: look");
    assert_eq!(document.warnings.len(), 2, "{:?}", document.warnings);
    assert_eq!(document.warnings[0], "the sheet `Sales` is a chart alone, which is not read");
    assert!(document.warnings[1].starts_with("`xl/comments1.xml` is damaged at byte"), "{:?}", document.warnings);
}

#[test]
fn members_are_parts_and_what_is_not_read_is_named() {
    let document = read(&[
        ("a.txt", "plain words"),
        ("b/", ""),
        ("b/c.md", "# Head"),
        ("../../evil.sh", "echo"),
        ("p.png", "\u{89}PNG"),
        ("__MACOSX/a", "x"),
        ("empty.txt", ""),
    ]);
    assert_eq!(document.text, "plain words\n\n# Head\n\necho\n\n\u{89}PNG");
    assert_eq!(document.parts[2].name, "../../evil.sh");
    assert_eq!(document.locate(13).to_string(), "b/c.md, bytes 0-6");
    assert!(document.warnings.iter().any(|w| w == "`empty.txt` is not read: it is empty"), "{:?}", document.warnings);
    let alone = read(&[("calls/monday.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\n<v Anna>hi")]);
    assert_eq!((alone.turns.len(), alone.parts[0].name.as_str()), (1, "calls/monday.vtt"));
}

#[test]
fn members_that_share_a_name_are_told() {
    let mut bytes = zip_of(&[("a.txt", "first"), ("b.txt", "second"), ("c.txt", "third")]);
    while let Some(at) = bytes.windows(5).position(|w| w == b"b.txt") {
        bytes[at] = b'a';
    }
    let document = try_read(&bytes, &ReadOptions::default()).unwrap();
    assert_eq!(document.parts.len(), 2);
    assert_eq!(document.warnings, ["1 member has the name of another one and was not read"]);
}

#[test]
fn archives_in_archives_end_at_the_limit_of_depth() {
    let mut bytes = zip_of(&[("a.txt", "words")]);
    for _ in 0..10 {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("inner.zip", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
        bytes = zip.finish().unwrap().into_inner();
    }
    let (reason, detail) = try_read(&bytes, &ReadOptions::default()).unwrap_err();
    assert_eq!((reason, detail.contains("`max_depth`")), (ReadReason::TooLarge, true), "{detail}");
    assert_eq!(try_read(&bytes, &ReadOptions { max_depth: 16, ..Default::default() }).unwrap().text, "words");
}

#[test]
fn bombs_are_stopped_by_the_limit_they_pass() {
    let zeros = "0".repeat(8 << 20);
    let check = |bytes: &[u8], options: &ReadOptions, limit: &str| {
        let (reason, detail) = try_read(bytes, options).unwrap_err();
        assert_eq!((reason, detail.contains(limit)), (ReadReason::TooLarge, true), "{detail}");
    };
    let bomb = zip_of(&[("a.txt", &zeros)]);
    check(&bomb, &ReadOptions::default(), "`max_ratio`");
    check(&bomb, &ReadOptions { max_ratio: 1 << 20, max_unpacked: 1 << 20, ..Default::default() }, "`max_unpacked`");
    let mut members = docx("");
    members[2].1 = zeros;
    let members: Vec<_> = members.iter().map(|(name, text)| (*name, text.as_str())).collect();
    check(&zip_of(&members), &ReadOptions::default(), "`max_ratio`");
    let many: Vec<String> = (0..50).map(|n| format!("{n}.txt")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    check(&zip_of(&many), &ReadOptions { max_members: 49, ..Default::default() }, "`max_members`");
}

#[test]
fn a_tar_in_a_gzip_is_read() {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("a.txt", "words"), ("d/b.csv", "x,y\n1,2\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let document = try_read(&gzip.finish().unwrap(), &ReadOptions::default()).unwrap();
    assert_eq!((document.text.trim(), document.format), ("words\n\n| x | y |\n| --- | --- |\n| 1 | 2 |", Format::Tar));
    assert!(try_read(b"\x1F\x8B\x08\0broken", &ReadOptions::default()).is_err());
}

#[test]
fn files_cut_or_damaged_anywhere_are_read_or_refused_and_nothing_else() {
    let members = docx(&p("some words"));
    let whole = zip_of(&members.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    let options = ReadOptions::default();
    for at in (0..whole.len()).step_by(17) {
        let _ = try_read(&whole[..at], &options);
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let _ = try_read(&damaged, &options);
    }
}
