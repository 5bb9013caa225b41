//! Whether citations exist, and whether they say it: measured on the source, whatever the step says of itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::pipeline::evidence::Source;
use crate::pipeline::sink::claims::{Claim, claims};
use crate::steps::text::{carried_by, content};

/// The share of a claim's words that what it cites must hold.
const CARRIED_LEAST: f64 = 0.5;

/// Citations of one value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cited {
    pub citations: f64,
    pub valid: f64, // of the citations
    pub claims: f64,
    pub supported: f64, // of the claims
}

impl std::ops::AddAssign for Cited {
    fn add_assign(&mut self, other: Self) {
        self.citations += other.citations;
        self.valid += other.valid;
        self.claims += other.claims;
        self.supported += other.supported;
    }
}

/// Counts the citations of a step's value. A value of a kind that cites nothing by itself has none to count; once any of
/// it does, each claim must.
pub fn cited(verb: &str, value: &Value, source: &Source) -> Cited {
    let mut blocks = source.blocks.clone();
    let all = claims(verb, value, &mut blocks, source);
    let is_statement = |c: &&Claim| !c.value.is_null() && c.options.is_empty();
    let cites = |c: &Claim| !c.marks.is_empty() || !c.missing.is_empty();
    let must_cite = matches!(verb, "summarize" | "answer") || all.iter().any(cites);
    let is_refusal = value.get("abstained") == Some(&Value::Bool(true));
    let mut counted = Cited::default();
    // Claims of one item share its citations, which count once.
    let mut seen = BTreeSet::new();
    for claim in all.iter().filter(|c| cites(c)) {
        if seen.insert((claim.item, claim.marks.clone(), claim.missing.clone())) {
            counted.citations += (claim.marks.len() + claim.missing.len()) as f64;
            counted.valid += claim.marks.len() as f64;
        }
    }
    if !must_cite || is_refusal {
        return counted;
    }
    for claim in all.iter().filter(is_statement) {
        let shown: String = claim
            .marks
            .iter()
            .map(|(block, ..)| format!("{} {}\n", blocks[*block].head, blocks[*block].text))
            .collect();
        let said = match &claim.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        counted.claims += 1.0;
        let holds = !claim.marks.is_empty() && carried_by(&said, &content(&shown)) >= CARRIED_LEAST;
        counted.supported += f64::from(u8::from(holds));
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source() -> Source {
        Source::of_document(&json!({ "turns": [
            { "id": "T1", "speaker": "Anna", "text": "The kiln is broken since Monday." },
            { "id": "T2", "speaker": "Bo", "text": "I will repair the kiln on Friday." },
        ] }))
    }

    #[test]
    fn a_citation_must_exist_and_say_it() {
        let value = json!({ "sentences": [
            { "text": "Bo repairs the kiln on Friday.", "turns": ["T2"] },
            { "text": "Anna sold the bakery to Cem.", "turns": ["T1"] },
            { "text": "The kiln is broken.", "turns": ["T1", "T7"] },
            { "text": "The kiln is broken.", "turns": [] },
        ] });
        let counted = cited("summarize", &value, &source());
        assert_eq!(counted, Cited { citations: 4.0, valid: 3.0, claims: 4.0, supported: 2.0 });
    }

    #[test]
    fn items_share_their_evidence_and_records_without_any_are_not_asked() {
        let items = json!([{ "task": "repair the kiln", "owner": "Bo", "evidence": ["T2"], "due": null }]);
        assert_eq!(
            cited("extract", &items, &source()),
            Cited { citations: 1.0, valid: 1.0, claims: 2.0, supported: 2.0 }
        );
        assert_eq!(cited("extract", &json!({ "total": 3 }), &source()), Cited::default());
        let refused = json!({ "abstained": true, "text": "Not found.", "citations": [], "sentences": [] });
        assert_eq!(cited("answer", &refused, &source()), Cited::default());
    }
}
