//! `quarry read` and `quarry chunk`: whole files through the real child process.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{quarry, root, run, skipped};

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_bad_file_never_stops_the_others() {
    let stage = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(stage.path().join(name), bytes).unwrap();
    put("a.txt", b"<!DOCTYPE html><h1>Title</h1><p>by content, not by name</p>");
    put("b.zip", &zip_of(&[("zeros.txt", &vec![b'0'; 64 << 20])]));
    put("c.html", format!("<html>{}words{}", "<div>".repeat(300_000), "</div>".repeat(300_000)).as_bytes());
    put("d.docx", b"PK\x03\x04 and nothing more");
    put("e.pdf", b"%PDF-1.7\nbroken");
    put(
        "f.docx",
        &zip_of(&[
            ("[Content_Types].xml", b"<Types/>"),
            (
                "word/document.xml",
                br#"<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/hostname"><!ENTITY b "&a;&a;">]><d><p><r><t>x &b; y</t></r></p></d>"#,
            ),
        ]),
    );
    put("g.eml", b"From: a@b.org\r\nSubject: Hi\r\nMIME-Version: 1.0\r\n\r\nbody\r\n");
    let mut command = quarry(&stage.path().join("cache"));
    command.current_dir(stage.path()).args(["read", "--json"]);
    command.args(["a.txt", "b.zip", "c.html", "d.docx", "e.pdf", "f.docx", "g.eml"]);
    let ran = run(&mut command).exits(3);
    assert!(ran.took < Duration::from_secs(60), "{ran}");
    let documents = lines(&ran.stdout);
    let states: Vec<&str> = documents.iter().map(|d| d["error"].as_str().unwrap_or("ok")).collect();
    assert_eq!(states, ["ok", "too-large", "ok", "unreadable", "unreadable", "ok", "ok"], "{ran}");
    assert_eq!(documents[0]["text"], "# Title\n\nby content, not by name");
    assert!(documents[1]["detail"].as_str().unwrap().contains("`max_ratio`"));
    assert_eq!(documents[5]["text"], "x &b; y");
    assert_eq!(documents[6]["meta"]["title"], "Hi");
    assert_eq!(ran.errors().len(), 3, "{ran}");
    // Nothing was unpacked beside the files, and nothing is left behind.
    assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 7);
}

#[test]
fn a_file_alone_that_is_not_read_is_the_callers_mistake() {
    let stage = tempfile::tempdir().unwrap();
    fs::write(stage.path().join("x.7z"), b"7z\xBC\xAF\x27\x1C").unwrap();
    let mut command = quarry(&stage.path().join("cache"));
    let ran = run(command.current_dir(stage.path()).args(["read", "x.7z"])).exits(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("7z archive"), "{ran}");
    let mut command = quarry(&stage.path().join("cache"));
    let ran = run(command.current_dir(stage.path()).args(["read", "--read", "max_page=3", "x.7z"])).exits(2);
    assert!(ran.stderr.contains("`max_page`") && ran.stderr.contains("max_pages"), "{ran}");
}

#[test]
fn chunks_cover_a_file_and_say_where_they_stand() {
    let stage = tempfile::tempdir().unwrap();
    let section = |n: usize| format!("<h2>Part {n}</h2><p>{}</p>", format!("word{n} ").repeat(60));
    let page = format!("<html><body>{}</body></html>", (0..6).map(section).collect::<String>());
    fs::write(stage.path().join("page.html"), &page).unwrap();
    let mut command = quarry(&stage.path().join("cache"));
    command.current_dir(stage.path()).args(["chunk", "page.html", "--size", "100 tokens", "--json"]);
    let ran = run(&mut command).exits(0);
    let chunks = lines(&ran.stdout);
    assert!(chunks.len() >= 4, "{ran}");
    let mut covered = 0;
    for chunk in &chunks {
        assert!(chunk["tokens"].as_u64().unwrap() <= 100, "{chunk}");
        assert_eq!(chunk["fresh"]["start"], covered, "{chunk}");
        covered = chunk["fresh"]["end"].as_u64().unwrap();
        assert!(chunk["from"].as_str().unwrap().starts_with("bytes "), "{chunk}");
    }
    assert_eq!(chunks[0]["heading_path"], json!(["Part 0"]));
    let shown =
        run(quarry(&stage.path().join("cache")).current_dir(stage.path()).args(["chunk", "page.html"])).exits(0);
    assert!(shown.stdout.starts_with("--- chunk 0, size ") && shown.stderr.contains("sizes are in words"), "{shown}");
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_shared_file_has_a_state_and_a_reason() {
    let named = std::env::var_os("QUARRY_SHARED").map(PathBuf::from);
    let shared = named.unwrap_or_else(|| root().join("../shared")).join("data");
    if !shared.is_dir() {
        skipped(&format!("{} is not there; QUARRY_SHARED names another place", shared.display()));
        return;
    }
    let mut paths = Vec::new();
    for folder in ["documents/tika", "documents/unstructured", "documents/email-mail-parser", "encodings", "hostile"] {
        files(&shared.join(folder), &mut paths);
    }
    paths.sort();
    let stage = tempfile::tempdir().unwrap();
    let ran = run(quarry(stage.path()).args(["read", "--json"]).args(&paths)).exits(3);
    let documents = lines(&ran.stdout);
    assert_eq!(documents.len(), paths.len());
    for document in &documents {
        let has_state = document["text"].is_string() != document["error"].is_string();
        assert!(has_state && document["detail"] != "", "{document}");
        let detail = document["detail"].as_str().unwrap_or_default();
        assert!(!detail.contains("the parser"), "no file of these ends its parser: {document}");
    }
}
