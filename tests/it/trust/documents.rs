//! Documents made to harm whoever reads them: each has a state, a reason that names the limit or the fault, and no effect
//! beside the text that came out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Dice, is_slow, tries};
use crate::support::{quarry, root, run, skipped};

/// What a parser may hold while it reads what is hostile (TRUST.md, 32).
const MAX_MEMORY: &str = "max_memory=512 MiB";

/// For a file, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(30);

/// Files in a folder of their own, read by one command. Returns what became of each, by its name.
#[track_caller]
pub fn read(files: &[(&str, Vec<u8>)]) -> BTreeMap<String, Value> {
    let stage = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(stage.path().join(name), bytes).unwrap();
    }
    let names: Vec<PathBuf> = files.iter().map(|(name, _)| name.into()).collect();
    read_in(stage.path(), &names)
}

#[track_caller]
fn read_in(folder: &Path, names: &[PathBuf]) -> BTreeMap<String, Value> {
    let before = fs::read_dir(folder).unwrap().count();
    let cache = tempfile::tempdir().unwrap();
    let mut command = quarry(cache.path());
    command.current_dir(folder).args(["read", "--json", "--read", MAX_MEMORY]).args(names);
    let ran = run(&mut command);
    assert!(matches!(ran.code, Some(0 | 2 | 3)), "{ran}");
    assert!(!ran.stderr.contains("panicked"), "{ran}");
    assert!(ran.took < SOON * names.len().max(2) as u32 / 2, "{ran}");
    let found: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), names.len(), "one line for each file: {ran}");
    for (name, document) in names.iter().zip(&found) {
        let name = name.display().to_string();
        assert_eq!(document["path"], name.as_str(), "{ran}");
        assert!(document["text"].is_string() != document["error"].is_string(), "{document}");
        if document["error"].is_string() {
            let told = ran.errors().iter().filter(|e| e.contains(&name)).count();
            assert_eq!(told, 1, "the file and the cause, in one line: {name}: {ran}");
        }
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), before, "nothing is written beside the files");
    names.iter().map(|n| n.display().to_string()).zip(found).collect()
}

#[track_caller]
pub fn refused(documents: &BTreeMap<String, Value>, name: &str, reason: &str, part: &str) {
    let document = &documents[name];
    assert_eq!(document["error"], reason, "{name}: {document}");
    assert!(document["detail"].as_str().unwrap().contains(part), "{name}: {document}");
}

#[track_caller]
pub fn holds(documents: &BTreeMap<String, Value>, name: &str, part: &str) {
    let document = &documents[name];
    assert!(document["text"].as_str().is_some_and(|text| text.contains(part)), "{name}: {document}");
}

#[track_caller]
pub fn warns(documents: &BTreeMap<String, Value>, name: &str, part: &str) {
    let document = &documents[name];
    let warnings = document["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains(part)), "{name}: {document}");
}

pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn docx_of(body: &[u8]) -> Vec<u8> {
    zip_of(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", body)])
}

/// An archive whose `num` members all are the same bytes of the file, as in Fifield's bombs.
fn overlapping(kernel: &[u8], num: u32) -> Vec<u8> {
    let whole = zip_of(&[("k.txt", kernel)]);
    let at = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = whole.windows(4).position(|w| w == b"PK\x05\x06").unwrap();
    let (local, entry) = (&whole[..at], &whole[at..end]);
    let mut zip = local.to_vec();
    (0..num).for_each(|_| zip.extend_from_slice(entry));
    let size = entry.len() as u32 * num;
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    zip.extend_from_slice(&(num as u16).to_le_bytes());
    zip.extend_from_slice(&(num as u16).to_le_bytes());
    zip.extend_from_slice(&size.to_le_bytes());
    zip.extend_from_slice(&(at as u32).to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

// TRUST.md, 32
#[test]
fn bombs_of_every_kind_are_stopped_by_a_limit_that_is_named() {
    let zeros = vec![b'0'; tries(64, 300) << 20];
    let bomb = zip_of(&[("zeros.txt", &zeros)]);
    let mut nested = bomb.clone();
    for _ in 0..12 {
        nested = zip_of(&[("in.zip", &nested)]);
    }
    let many: Vec<String> = (0..20_000).map(|n| format!("f{n}.txt")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    let mut claims = zip_of(&[("a.txt", b"x")]);
    let end = claims.len() - 12;
    claims[end..end + 2].copy_from_slice(&60_000u16.to_le_bytes());
    let slide = b"<p:sld><p:cSld><a:p><a:r><a:t>said</a:t></a:r></a:p></p:cSld></p:sld>";
    let documents = read(&[
        ("ratio.zip", bomb.clone()),
        ("ratio.gz", gzip_of(&zeros)),
        ("nested.zip", nested),
        ("many.zip", zip_of(&many)),
        ("claims.zip", claims),
        ("overlap.zip", overlapping(&vec![b'0'; 1 << 20], 5000)),
        ("big.docx", docx_of(&[b"<d><p><r><t>", zeros.as_slice(), b"</t></r></p></d>"].concat())),
        (
            "pixels.pptx",
            zip_of(&[
                ("[Content_Types].xml", b"<Types/>"),
                ("ppt/slides/slide1.xml", slide),
                ("ppt/media/a.png", &zeros),
            ]),
        ),
    ]);
    refused(&documents, "ratio.zip", "too-large", "`max_ratio`");
    refused(&documents, "ratio.gz", "too-large", "`max_ratio`");
    refused(&documents, "many.zip", "too-large", "`max_members`");
    refused(&documents, "claims.zip", "too-large", "`max_members`");
    refused(&documents, "big.docx", "too-large", "`max_ratio`");
    refused(&documents, "nested.zip", "too-large", "`max_depth`");
    // Five thousand members of one name and the same bytes are one member.
    assert!(documents["overlap.zip"]["text"].as_str().is_none_or(|text| text.len() <= 2 << 20));
    holds(&documents, "pixels.pptx", "said"); // a picture is not unpacked
}

// TRUST.md, 33
#[test]
fn members_with_names_that_climb_out_are_written_nowhere() {
    let long = "n".repeat(60_000);
    let names = [
        "../../../evil.txt",
        "/tmp/evil.txt",
        "C:\\evil.txt",
        "a/../../evil.txt",
        "nul\0l.txt",
        "cr\rlf\n.txt",
        &long,
        "Twin.txt",
        "twin.txt",
    ];
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, b"some words".as_slice())).collect();
    let mut link = zip::ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("to", "/etc", zip::write::SimpleFileOptions::default()).unwrap();
    link.start_file("to/passwd.txt", zip::write::SimpleFileOptions::default()).unwrap();
    link.write_all(b"behind a link").unwrap();
    // The same name twice: the library refuses to write it, so it is put there by hand.
    let mut twice = zip_of(&[("one.txt", b"first"), ("two.txt", b"second")]);
    while let Some(at) = twice.windows(7).position(|w| w == b"two.txt") {
        twice[at..at + 3].copy_from_slice(b"one");
    }
    let documents = read(&[
        ("slip.zip", zip_of(&members)),
        ("link.zip", link.finish().unwrap().into_inner()),
        ("twice.zip", twice),
    ]);
    assert_eq!(documents["slip.zip"]["text"].as_str().unwrap().matches("some words").count(), names.len());
    holds(&documents, "link.zip", "behind a link");
    assert!(!documents["link.zip"].to_string().contains("root:"), "{}", documents["link.zip"]);
    assert!(documents["twice.zip"]["text"].is_string() || documents["twice.zip"]["detail"].is_string());
    for path in ["/tmp/evil.txt", "../evil.txt", "C:\\evil.txt"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}

// TRUST.md, 37
#[test]
fn mail_that_nests_lies_or_swells_is_read_or_refused() {
    let nested = "From: a@b\nSubject: n\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n".repeat(10_000);
    let parts: String =
        (0..5000).map(|n| format!("Content-Type: multipart/mixed; boundary=\"b{n}\"\n\n--b{n}\n")).collect();
    let head = "From: a@b.org\nTo: c@d.org\nSubject: s\nMIME-Version: 1.0\n";
    let attached = format!(
        "{head}Content-Type: multipart/mixed; boundary=x\n\n--x\n\nsee the file\n--x\nContent-Type: text/plain\n\
         Content-Disposition: attachment; filename=\"../../evil.txt\"\n\nattached words\n--x--\n"
    );
    let documents = read(&[
        ("nested.eml", format!("{nested}From: a@b\nSubject: in\n\nwords").into_bytes()),
        ("parts.eml", format!("From: a@b\nSubject: n\nMIME-Version: 1.0\n{parts}Content-Type: text/plain\n\nwords").into_bytes()),
        ("header.eml", format!("From: a@b\nSubject: x\nX-Big: {}\n\nbody words", "y".repeat(10_000_000)).into_bytes()),
        ("open.eml", format!("{head}Content-Type: multipart/mixed; boundary=x\n\n--x\n\nnever closed").into_bytes()),
        ("same.eml", format!("{head}Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\ninner\n--x--\n--x--\n").into_bytes()),
        ("base64.eml", format!("{head}Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!! aGVsbG8gd29ybGQ= ???\n").into_bytes()),
        ("charset.eml", [format!("{head}Content-Type: text/plain; charset=x-none-such\n\n").as_bytes(), b"gr\xFC\xDFe aus K\xF6ln"].concat()),
        ("attached.eml", attached.into_bytes()),
    ]);
    let is_told = |name: &str| {
        let document = documents[name].to_string();
        document.contains("max_depth") || document.contains("deep")
    };
    assert!(is_told("nested.eml"), "{}", documents["nested.eml"]);
    holds(&documents, "header.eml", "body words");
    holds(&documents, "open.eml", "never closed");
    holds(&documents, "same.eml", "inner");
    assert!(documents["base64.eml"]["text"].is_string(), "{}", documents["base64.eml"]);
    holds(&documents, "charset.eml", "aus K");
    holds(&documents, "attached.eml", "attached words");
    assert!(!Path::new("../../evil.txt").exists());
}

// TRUST.md, 38
#[test]
fn text_in_no_encoding_is_read_with_a_count_of_what_was_replaced() {
    let utf16 = |units: &[u16]| units.iter().flat_map(|u| u.to_le_bytes()).collect::<Vec<u8>>();
    let mixed =
        [&encoding_rs::WINDOWS_1252.encode("Größe ").0[..], "für alle, schön und grün und süß".as_bytes()].concat();
    let documents = read(&[
        ("broken.txt", b"gr\xC3\xBC\xC3\x9Fe \xFF und sch\xC3\xB6n und \xC3\xA4 und \xC3\xB6 und \xC3\xBC".to_vec()),
        ("surrogate.txt", utf16(&[0xFEFF, 0x41, 0xD800, 0x42])),
        ("mixed.txt", mixed),
        ("mark.txt", b"\xEF\xBB\xBF".to_vec()),
        ("empty.txt", Vec::new()),
        ("nul.txt", [b"before \0 after ".repeat(20)].concat()),
        (
            "mainframe.txt",
            b"\xe3\x88\x85@\x83\x96\x95\xa3\x99\x81\x83\xa3@\x85\x95\x84\xa2@\x96\x95@\xd4\x81\xa8@\xf1K".to_vec(),
        ),
    ]);
    warns(&documents, "broken.txt", "1 place is no character");
    warns(&documents, "surrogate.txt", "1 place is no character");
    warns(&documents, "mixed.txt", "it is not UTF-8");
    refused(&documents, "mark.txt", "no-text-found", "white space");
    refused(&documents, "empty.txt", "no-text-found", "empty");
    holds(&documents, "nul.txt", "before");
    warns(&documents, "mainframe.txt", "EBCDIC");
    holds(&documents, "mainframe.txt", "The contract ends on May 1.");
}

// TRUST.md, 39
#[test]
fn tables_without_end_are_limited_and_no_formula_is_computed() {
    let sheet = |cells: &str| {
        let sheet = format!("<worksheet><dimension ref=\"A1:XFD1048576\"/><sheetData>{cells}</sheetData></worksheet>");
        let strings = format!("<sst>{}</sst>", "<si><t>word</t></si>".repeat(3));
        zip_of(&[
            ("[Content_Types].xml", b"<Types/>"),
            ("_rels/.rels", br#"<Relationships><Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
            ("xl/workbook.xml", br#"<workbook xmlns:r="r"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>"#),
            ("xl/_rels/workbook.xml.rels", br#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/s.xml"/><Relationship Id="r2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>"#),
            ("xl/sharedStrings.xml", strings.as_bytes()),
            ("xl/worksheets/s.xml", sheet.as_bytes()),
        ])
    };
    let far = r#"<row r="1"><c r="A1"><f>1+1</f><v>7</v></c></row><row r="1048576"><c r="XFD1048576" t="s"><v>2</v></c></row>"#;
    let calls = r#"<row r="1"><c r="A1"><f>WEBSERVICE("http://127.0.0.1/")</f></c><c r="B1"><v>5</v></c></row>"#;
    let strings = [b"<sst>".as_slice(), &b"<si><t>0</t></si>".repeat(3_000_000)].concat();
    let big = docx_of(&strings);
    let documents = read(&[
        ("far.xlsx", sheet(far)),
        ("calls.xlsx", sheet(calls)),
        ("strings.docx", big),
        ("open.csv", format!("a,b\n\"never closed{}", "x,y\n".repeat(300_000)).into_bytes()),
        ("wide.csv", ",".repeat(2_000_000).into_bytes()),
    ]);
    holds(&documents, "far.xlsx", "7");
    holds(&documents, "far.xlsx", "word");
    assert!(documents["far.xlsx"]["text"].as_str().unwrap().len() < 10_000, "empty cells are no text");
    holds(&documents, "calls.xlsx", "5");
    // Fifty megabytes of strings that no cell shows: read in little memory, and none of them is text.
    refused(&documents, "strings.docx", "no-text-found", "white space");
    holds(&documents, "open.csv", "never closed");
    assert!(documents["wide.csv"]["text"].is_string() || documents["wide.csv"]["error"].is_string());
}

// TRUST.md, 20
#[test]
fn files_that_are_too_large_are_refused_by_a_limit_and_the_largest_that_are_not_are_read() {
    let stage = tempfile::tempdir().unwrap();
    // Holes take no room on the disk.
    fs::File::create(stage.path().join("giant.txt")).unwrap().set_len(1 << 30).unwrap();
    fs::write(stage.path().join("line.txt"), "word ".repeat(tries(1, 9) << 20)).unwrap();
    fs::write(stage.path().join("lines.txt"), "a\n".repeat(tries(1_000_000, 10_000_000))).unwrap();
    fs::write(stage.path().join("pages.pdf"), super::pages::pdf(&vec!["words"; tries(500, 5000)], "", "")).unwrap();
    fs::write(stage.path().join("more.pdf"), super::pages::pdf(&vec![""; 5001], "", "")).unwrap();
    let names = ["giant.txt", "line.txt", "lines.txt", "pages.pdf", "more.pdf"].map(PathBuf::from);
    let documents = read_in(stage.path(), &names);
    refused(&documents, "giant.txt", "too-large", "`max_size`");
    holds(&documents, "line.txt", "word");
    holds(&documents, "lines.txt", "a\na");
    assert_eq!(documents["pages.pdf"]["pages"].as_array().unwrap().len(), tries(500, 5000));
    refused(&documents, "more.pdf", "too-large", "`max_pages`");
}

fn shared_files(folders: &[&str]) -> Option<Vec<PathBuf>> {
    let named = std::env::var_os("QUARRY_SHARED").map(PathBuf::from);
    let data = named.unwrap_or_else(|| root().join("../shared")).join("data");
    if !data.is_dir() {
        skipped(&format!("{} is not there; QUARRY_SHARED names another place", data.display()));
        return None;
    }
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| data.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
            false => found.push(path),
        }
    }
    found.sort();
    Some(found)
}

// TRUST.md, 31
#[test]
fn office_files_cut_bent_and_misnamed_are_told_by_what_they_hold() {
    let Some(files) = shared_files(&["documents"]) else { return };
    let of = |path: &PathBuf| path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let kinds = ["docx", "pptx", "xlsx", "xls", "odt", "odp", "epub", "html", "eml", "msg", "rtf", "mbox"];
    let is_small = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.len() < 600_000);
    let mut dice = Dice::new();
    let mut bent: Vec<(String, Vec<u8>)> = Vec::new();
    for kind in kinds {
        let mut of_kind: Vec<&PathBuf> = files.iter().filter(|path| of(path) == kind && is_small(path)).collect();
        for n in 0..tries(1, 20).min(of_kind.len()) {
            let path = of_kind.swap_remove(dice.below(of_kind.len() as u64) as usize);
            let whole = fs::read(path).unwrap();
            for quarter in 1..4 {
                bent.push((format!("{kind}-{n}-cut{quarter}.{kind}"), whole[..whole.len() * quarter / 4].to_vec()));
            }
            for flip in 0..tries(2, 10) {
                let mut flipped = whole.clone();
                for _ in 0..10 {
                    let at = dice.below(whole.len().max(1) as u64) as usize;
                    flipped.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << dice.below(8));
                }
                bent.push((format!("{kind}-{n}-bent{flip}.{kind}"), flipped));
            }
            bent.push((format!("{kind}-{n}-named.pdf"), whole));
        }
    }
    let bent: Vec<(&str, Vec<u8>)> = bent.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let documents = read(&bent);
    for (name, document) in &documents {
        let is_pdf = document["format"] == "pdf" || document["detail"].as_str().is_some_and(|d| d.contains("a PDF"));
        assert!(!is_pdf, "seed {}: its name is believed: {name}: {document}", dice.seed);
    }
}

// TRUST.md, 30
#[test]
fn every_pdf_and_every_hostile_file_of_the_shared_data_has_a_state() {
    if !is_slow() {
        skipped("all PDFs and hostile files at once take minutes; QUARRY_SLOW_TESTS=1 reads them");
        return;
    }
    let Some(files) = shared_files(&["documents", "hostile"]) else { return };
    let files: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pdf") || path.to_string_lossy().contains("/hostile/"))
        .collect();
    let cache = tempfile::tempdir().unwrap();
    let ran = run(quarry(cache.path()).args(["read", "--json"]).args(&files)).exits(3);
    assert!(ran.took < Duration::from_secs(15 * 60), "{:?}", ran.took);
    assert_eq!(ran.stdout.lines().count(), files.len());
    for line in ran.stdout.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        assert!(document["text"].is_string() != document["error"].is_string(), "{document}");
    }
}

/// The programs that a command starts and the addresses that it connects to, as strace sees them; `None`, said aloud,
/// where it is not installed or may not look.
pub fn traced(folder: &Path, args: &[&str]) -> Option<String> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=execve,connect", "-o"]).arg(log.path());
    command.arg(env!("CARGO_BIN_EXE_quarry")).args(args).env("QUARRY_CACHE_DIR", cache.path()).current_dir(folder);
    match command.output() {
        Ok(_) => {}
        Err(error) => {
            skipped(&format!("strace does not start: {error}"));
            return None;
        }
    }
    let trace = fs::read_to_string(log.path()).unwrap();
    if trace.is_empty() {
        skipped("strace may not look into processes here");
        return None;
    }
    Some(trace)
}

#[test]
fn one_child_process_reads_a_folder_and_connects_to_nothing() {
    let stage = tempfile::tempdir().unwrap();
    for n in 0..12 {
        let page = format!(
            "<!DOCTYPE html><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><img src='http://127.0.0.1:9/{n}'><p>page {n}</p>"
        );
        fs::write(stage.path().join(format!("{n}.html")), page).unwrap();
    }
    let names: Vec<String> = (0..12).map(|n| format!("{n}.html")).collect();
    let args: Vec<&str> = ["read", "--json"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let Some(trace) = traced(stage.path(), &args) else { return };
    let started = trace.lines().filter(|l| l.contains("execve(") && l.contains("__read")).count();
    assert_eq!(started, 1, "{trace}");
    assert!(!trace.contains("AF_INET"), "{trace}");
}
