//! The review page: records beside their source on one HTML page that needs nothing else. The page's frame is fixed;
//! what is from documents stands in it as JSON, which no browser runs, and is shown as text.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claims::{self, Claim};
use super::provenance::Provenance;
use crate::pipeline::evaluate::Scope;
use crate::pipeline::evidence::{Block, Source};
use crate::pipeline::journal::Entry;

/// Characters of one document's text on the page; of a longer one, only the blocks around evidence are shown.
pub const SOURCE_CHARS_MAX: usize = 400_000;
/// Blocks shown before and after evidence then.
const AROUND: usize = 3;

const STYLE: &str = include_str!("../../../templates/review/review.css");
const SCRIPT: &str = include_str!("../../../templates/review/review.js");
const BODY: &str = include_str!("../../../templates/review/body.html");

const OPEN: &str = "<script type=\"application/json\" class=\"record\">";
const CLOSE: &str = "</script>";
const FOOT: &str = "</body>\n</html>";

/// Returns the hash by which a page's policy allows one script or style of its own.
pub fn policy_hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// Returns the page up to its records.
pub fn head(title: &str) -> String {
    static FRAME: LazyLock<(String, String)> = LazyLock::new(|| {
        // Nothing is fetched, and nothing runs but this very script: whatever stands in a document.
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
            policy_hash(SCRIPT),
            policy_hash(STYLE)
        );
        let before = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
        );
        (before, format!("<style>{STYLE}</style>\n</head>\n<body>\n{BODY}"))
    });
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("{}<title>{title}</title>\n{}", FRAME.0, FRAME.1.trim_end())
}

/// Returns the page from its records on.
pub fn foot() -> String {
    format!("<script>{SCRIPT}</script>\n{FOOT}")
}

/// Puts `min_support` where `only` can name it, and returns one document's record as it stands on the page; `None`
/// where `only` does not hold.
pub fn row(
    steps: &[(String, &str)], // id, verb
    only: Option<&str>,
    scope: &mut Scope,
    provenance: &Provenance,
) -> Result<Option<String>, String> {
    let doc = scope.evaluate("doc")?;
    let index = Source::of_document(&doc);
    let num_blocks = index.blocks.len();
    let mut blocks = index.blocks.clone();
    let mut told = Vec::new();
    let mut all: Vec<Claim> = Vec::new();
    for (id, verb) in steps {
        let value = scope.evaluate(&format!("steps.{id}"))?;
        let claims = claims::claims(verb, &value, &mut blocks, &index);
        told.push(json!({ "id": id, "verb": verb, "value": value, "claims": claims }));
        all.extend(claims);
    }
    let least = claims::least_support(&all);
    scope.set("min_support", &json!(least));
    if let Some(only) = only
        && !scope.holds(only)?
    {
        return Ok(None);
    }
    let text = |key: &str| doc.get(key).cloned().unwrap_or_default();
    let (shown, left_out) = shown_blocks(&blocks, num_blocks, &all);
    let record = json!({
        "document": provenance.document, "name": text("name"), "sha256": provenance.sha256, "state": text("state"),
        "remarks": text("remarks"), "warnings": text("warnings"), "min_support": least, "steps": told,
        "blocks": shown, "passages_from": num_blocks, "left_out": left_out, "provenance": provenance.value(),
    });
    Ok(Some(line(&record)))
}

/// Returns the record of a document that has none because it failed.
pub fn failed_row(entry: &Entry) -> String {
    let name = entry.document.rsplit('/').next().unwrap_or_default();
    let why = entry.failure.as_ref().map(ToString::to_string);
    line(&json!({
        "document": entry.document, "name": name, "sha256": entry.sha256, "state": "failed",
        "remarks": why.into_iter().chain(entry.partial.iter().cloned()).collect::<Vec<_>>(), "warnings": [],
        "min_support": 0.0, "steps": [], "blocks": [], "passages_from": 0, "left_out": 0,
        "provenance": { "document": entry.document, "sha256": entry.sha256, "pipeline_hash": *entry.pipeline },
    }))
}

/// A record on one line that ends no script element and begins no comment.
fn line(record: &Value) -> String {
    let json = record.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    format!("{OPEN}{json}{CLOSE}")
}

/// Returns the blocks that are shown, `null` for each that is not so that marks keep their numbers, and how many are
/// not.
fn shown_blocks(blocks: &[Block], num_own: usize, claims: &[Claim]) -> (Vec<Value>, usize) {
    let chars: usize = blocks.iter().map(|b| b.text.chars().count()).sum();
    let is_near = |at: usize| claims.iter().flat_map(|c| &c.marks).any(|(block, ..)| block.abs_diff(at) <= AROUND);
    let is_shown = |at: usize| chars <= SOURCE_CHARS_MAX || at >= num_own || at < 2 * AROUND || is_near(at);
    let shown: Vec<Value> =
        blocks.iter().enumerate().map(|(at, block)| if is_shown(at) { json!(block) } else { Value::Null }).collect();
    let left_out = shown.iter().filter(|b| b.is_null()).count();
    (shown, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::evaluate::Evaluator;
    use crate::pipeline::sink::QUARRY_VERSION;

    fn provenance() -> Provenance {
        Provenance {
            document: "in/<a>.txt".into(),
            sha256: "ab".into(),
            model: None,
            pipeline: "p".into(),
            pipeline_hash: "h".into(),
            quarry: QUARRY_VERSION,
        }
    }

    fn row_of(text: &str, value: Value, only: Option<&str>) -> Option<String> {
        let names = json!({ "doc": { "text": text, "state": "ok", "name": "<a>.txt" }, "steps": { "x": value } });
        let mut scope = Evaluator::default().bind(&names);
        row(&[("x".to_owned(), "extract")], only, &mut scope, &provenance()).unwrap()
    }

    #[test]
    fn nothing_of_a_document_can_leave_its_record() {
        let nasty = "</script><script>alert(1)</script><!-- \u{2028} <img src=x onerror=alert(2)>";
        let line = row_of(nasty, json!({ "a": nasty }), None).unwrap();
        let inside = line.strip_prefix(OPEN).unwrap().strip_suffix(CLOSE).unwrap();
        assert!(!inside.contains('<') && !inside.contains('\n') && !inside.contains('\u{2028}'), "{inside}");
        let back: Value = serde_json::from_str(inside).unwrap();
        assert_eq!((&back["steps"][0]["value"]["a"], &back["document"]), (&json!(nasty), &json!("in/<a>.txt")));
        assert!(head("a</title><script>").contains("<title>a&lt;/title&gt;&lt;script&gt;</title>"));
    }

    #[test]
    fn the_page_names_the_hash_of_its_one_script_and_loads_nothing() {
        let page = format!("{}\n{}", head("t"), foot());
        let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
        assert!(page.contains(&format!("script-src 'sha256-{hash}'")) && page.contains("default-src 'none'"));
        for word in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "eval(", " style=", "onclick"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn only_sees_the_least_support() {
        let weak = json!([{ "a": 1, "support": 0.5 }, { "a": 2, "support": 0.9 }]);
        assert!(row_of("x", weak.clone(), Some("doc.state != 'ok' or min_support < 0.6")).is_some());
        assert!(row_of("x", weak, Some("doc.state != 'ok' or min_support < 0.4")).is_none());
    }

    #[test]
    fn of_a_very_long_text_the_parts_around_the_evidence_are_shown_and_the_rest_is_counted() {
        let long = (0..3000).map(|i| format!("{i} {}\n\n", "word ".repeat(40))).collect::<String>();
        let line = row_of(&long, json!({ "a": "x", "said": "1500 word" }), None).unwrap();
        let back: Value = serde_json::from_str(&line[OPEN.len()..line.len() - CLOSE.len()]).unwrap();
        assert_eq!(back["left_out"], json!(3000 - 6 - 7));
        assert!(back["blocks"][1500].is_object() && back["blocks"][1000].is_null());
    }
}
