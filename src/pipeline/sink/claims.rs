//! What a step's value says, one claim for each thing a person can call right or wrong, with its evidence. Reads values
//! as steps give them and is patient with keys it does not know.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::pipeline::evidence::{BESIDE, Block, Mark, Pointers, Source};

/// One thing that a step says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    pub path: Vec<Value>, // keys and indices below the step's value
    pub label: String,
    /// The item of a list that it belongs to, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    pub value: Value,
    /// What else it could be, each with its probability.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<(String, Option<f64>)>,
    /// How sure the step is of it, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(usize, usize, usize)>, // block, first and last UTF-16 unit of its text
    /// Evidence that is not in the source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Worth a word beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Further keys that stand beside the fields of an item and are shown in another place.
const ABOUT: &[&str] = &["provenance", "probability", "probabilities"];

/// Returns the claims of a step's value. Passages that it cites are added to the source.
pub fn claims(verb: &str, value: &Value, source: &mut Vec<Block>, index: &Source) -> Vec<Claim> {
    match value {
        Value::Null => Vec::new(),
        _ if value.get("probabilities").is_some_and(Value::is_object) => label(value),
        _ if verb == "answer" || value.get("citations").is_some_and(Value::is_array) => answer(value, source),
        _ if value.get("sentences").is_some_and(Value::is_array) => sentences(value, index),
        Value::Object(_) => item(value, None, &[], index),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let of = |(i, one): (usize, &Value)| match one {
                Value::Object(_) => item(one, Some(i), &[json!(i)], index),
                other => vec![claim(vec![json!(i)], format!("{}", i + 1), other.clone())],
            };
            items.iter().enumerate().flat_map(of).collect()
        }
        other => vec![claim(Vec::new(), verb.to_owned(), other.clone())],
    }
}

fn claim(path: Vec<Value>, label: String, value: Value) -> Claim {
    Claim {
        path,
        label,
        item: None,
        value,
        options: Vec::new(),
        p: None,
        marks: Vec::new(),
        missing: Vec::new(),
        remarks: Vec::new(),
    }
}

fn label(value: &Value) -> Vec<Claim> {
    let mut options: Vec<(String, Option<f64>)> =
        value["probabilities"].as_object().into_iter().flatten().map(|(name, p)| (name.clone(), p.as_f64())).collect();
    options.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)));
    // Of several labels each has a probability of its own; of one they make up 1.
    let given = value.get("labels").and_then(Value::as_array).map_or(0, Vec::len);
    let sum: f64 = options.iter().filter_map(|(_, p)| *p).sum();
    let is_multi = given > 1 || value.get("labels").is_some() && (sum - 1.0).abs() > 0.01;
    let key = if is_multi { "labels" } else { "label" };
    let mut made = claim(vec![json!(key)], key.into(), value.get(key).cloned().unwrap_or_default());
    made.p = value.get("probability").and_then(Value::as_f64);
    if is_multi {
        let shown = options.iter().filter_map(|(name, p)| p.map(|p| format!("{name} {p:.2}")));
        made.remarks.push(shown.collect::<Vec<_>>().join(", "));
    } else {
        made.options = options;
    }
    if value.get("abstained") == Some(&Value::Bool(true)) {
        made.remarks.push("no label was likely enough".into());
    }
    vec![made]
}

/// The fields of an item, each with its own evidence, or with that of the item.
fn item(value: &Value, number: Option<usize>, path: &[Value], index: &Source) -> Vec<Claim> {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let of_item = Pointers::of_item(value);
    let support = value.get("support").and_then(Value::as_f64);
    let quoted = value.get("quoted").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut made = Vec::new();
    let is_value = |(name, field): &(&String, &Value)| {
        let is_failed_checks = *name == "failed" && texts(field).is_some();
        ![BESIDE, ABOUT].iter().any(|keys| keys.contains(&name.as_str())) && !is_failed_checks
    };
    for (name, field) in fields.iter().filter(is_value) {
        let mut one = claim(path.iter().cloned().chain([json!(name)]).collect(), name.clone(), field.clone());
        let own = Pointers::of_field(value, name);
        let has_own_evidence = value.get("evidence").is_some_and(Value::is_object);
        // Nothing is claimed where a value is not stated.
        let pointers = match (own, field.is_null()) {
            (Some(own), _) => own,
            (None, false) if !has_own_evidence => of_item.clone(),
            _ => Pointers::default(),
        };
        place(&mut one, &pointers, index);
        let beside = |key: &str| value.get(key).and_then(|all| all.get(name)).and_then(Value::as_f64);
        let evidence = value.get("evidence").and_then(|all| all.get(name));
        let in_evidence = |key: &str| evidence.and_then(|e| e.get(key)).and_then(Value::as_f64);
        one.p = beside("support")
            .or_else(|| in_evidence("support"))
            .or_else(|| beside("probabilities"))
            .or_else(|| in_evidence("probability"))
            .or_else(|| in_evidence(if field.is_null() { "p_null" } else { "p_value" }))
            .or(support);
        one.item = number;
        if quoted.iter().any(|q| q == name) {
            one.remarks.push("the words said, in place of what the model wrote".into());
        }
        if field.is_null() {
            one.remarks.push("not stated".into());
        }
        made.push(one);
    }
    for (key, conflict) in fields.iter().filter(|(key, _)| key.starts_with("conflict")) {
        if let Some(first) = made.first_mut().filter(|_| !conflict.is_null()) {
            first.remarks.push(format!("{key}: {conflict}"));
        }
    }
    if let Some((checks, first)) = value.get("failed").and_then(texts).zip(made.first_mut()) {
        first.remarks.push(format!("does not hold: {checks}"));
    }
    made
}

/// Returns a list of texts as one; `None` where it is none.
fn texts(value: &Value) -> Option<String> {
    let all: Vec<&str> = value.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    (!all.is_empty()).then(|| all.join("; "))
}

fn place(claim: &mut Claim, pointers: &Pointers, index: &Source) {
    let (marks, missing) = pointers.locate(index);
    claim.marks.extend(marks.iter().map(|m| units(&index.blocks[m.block].text, m)));
    claim.missing.extend(missing);
}

/// Returns a mark as browsers count: UTF-16 units.
fn units(text: &str, mark: &Mark) -> (usize, usize, usize) {
    let count = |upto: usize| text.get(..upto).unwrap_or(text).encode_utf16().count();
    (mark.block, count(mark.range.start), count(mark.range.end))
}

/// A summary, sentence by sentence.
fn sentences(value: &Value, index: &Source) -> Vec<Claim> {
    let mut made = Vec::new();
    for (i, sentence) in value["sentences"].as_array().into_iter().flatten().enumerate() {
        let text = sentence.get("text").cloned().unwrap_or_else(|| sentence.clone());
        let mut one = claim(vec![json!("sentences"), json!(i), json!("text")], format!("{}", i + 1), text);
        place(&mut one, &Pointers::of_item(sentence), index);
        one.p = sentence.get("support").or_else(|| sentence.get("score")).and_then(Value::as_f64);
        if sentence.get("quoted") == Some(&Value::Bool(true)) {
            one.remarks.push("quoted".into());
        }
        made.push(one);
    }
    if let Some(coverage) = value.get("coverage").and_then(Value::as_f64).filter(|c| *c < 1.0)
        && let Some(first) = made.first_mut()
    {
        first.remarks.push(format!("{:.0} % of the document was read", coverage * 100.0));
    }
    made
}

/// An answer: whether there is one, then its sentences. Its passages become blocks of the source.
fn answer(value: &Value, source: &mut Vec<Block>) -> Vec<Claim> {
    let mut places: Vec<(u64, usize, (usize, usize))> = Vec::new(); // number, block, units
    let mut missing: Vec<(u64, String)> = Vec::new();
    for citation in value["citations"].as_array().into_iter().flatten() {
        let number = citation.get("number").and_then(Value::as_u64).unwrap_or(0);
        let word = |key: &str| citation.get(key).and_then(Value::as_str).unwrap_or_default();
        let passage = word("text");
        let head = if word("place").is_empty() { word("file") } else { word("place") };
        let block = match source.iter().position(|b| b.id.is_empty() && b.head == head && b.text == passage) {
            Some(at) => at,
            None => {
                let page = citation.get("pages").and_then(|p| p.get(0)).and_then(Value::as_u64);
                let at = citation.get("at").and_then(Value::as_str).map(str::to_owned);
                source.push(Block { id: String::new(), head: head.to_owned(), at, page, text: passage.to_owned() });
                source.len() - 1
            }
        };
        let byte = |key: &str| citation.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let stated = byte("start").zip(byte("end")).filter(|(s, e)| passage.get(*s..*e) == Some(word("quote")));
        let range = stated.map(|(s, e)| s..e).or_else(|| {
            let at = passage.find(word("quote")).filter(|_| !word("quote").is_empty())?;
            Some(at..at + word("quote").len())
        });
        match range {
            Some(range) => {
                let (_, start, end) = units(passage, &Mark { block, range });
                places.push((number, block, (start, end)));
            }
            None => missing.push((number, format!("“{}”", word("quote")))),
        }
    }
    let is_refusal = value.get("abstained") == Some(&Value::Bool(true));
    let mut state = claim(vec![json!("abstained")], "in the documents".into(), json!(is_refusal));
    state.options = vec![("answered".into(), None), ("not in the documents".into(), None)];
    state.value = json!(if is_refusal { "not in the documents" } else { "answered" });
    state.p = value.get("probability").and_then(Value::as_f64);
    state.remarks.extend(value.get("because").and_then(Value::as_str).map(str::to_owned));
    let mut made = vec![state];
    let said = value.get("sentences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if said.is_empty() {
        let text = value.get("text").cloned().unwrap_or_default();
        made.push(claim(vec![json!("text")], "answer".into(), text));
    }
    for (i, sentence) in said.iter().enumerate() {
        let text = sentence.get("text").cloned().unwrap_or_default();
        let mut one = claim(vec![json!("sentences"), json!(i), json!("text")], format!("{}", i + 1), text);
        let number = sentence.get("citation").and_then(Value::as_u64);
        let cited = |n: &u64| Some(*n) == number;
        one.marks = places.iter().filter(|(n, ..)| cited(n)).map(|(_, b, (s, e))| (*b, *s, *e)).collect();
        one.missing = missing.iter().filter(|(n, _)| cited(n)).map(|(_, quote)| quote.clone()).collect();
        if sentence.get("supported") == Some(&Value::Bool(false)) {
            one.remarks.push("no passage supports it".into());
        }
        made.push(one);
    }
    made
}

/// Returns how sure the least sure of these claims is; 1 where none says. Evidence that is not there counts as 0.
pub fn least_support(claims: &[Claim]) -> f64 {
    let of = |c: &Claim| if c.missing.is_empty() { c.p.unwrap_or(1.0) } else { 0.0 };
    claims.iter().map(of).fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source::of_document(&json!({ "text": "Total: 120 €.\n\nDue on 3 May." }))
    }

    fn of(verb: &str, value: Value) -> (Vec<Claim>, Vec<Block>) {
        let index = source();
        let mut blocks = index.blocks.clone();
        (claims(verb, &value, &mut blocks, &index), blocks)
    }

    #[test]
    fn each_field_has_its_own_evidence_or_that_of_its_item() {
        let value = json!({ "total": 120, "due": "3 May", "tax": null,
            "evidence": { "total": { "quote": "120 €", "page": 1, "support": 0.9 }, "due": { "quote": "4 May" } } });
        let (made, _) = of("extract", value);
        assert_eq!(made.iter().map(|c| c.label.as_str()).collect::<Vec<_>>(), ["total", "due", "tax"]);
        assert_eq!((made[0].marks.as_slice(), made[0].p), (&[(0, 7, 12)][..], Some(0.9)));
        assert_eq!(made[1].missing, ["“4 May”"]);
        assert_eq!(made[2].remarks, ["not stated"]);
        assert_eq!(least_support(&made), 0.0);
        let (made, _) = of("extract", json!([{ "said": "Due on 3 May.", "task": "pay", "support": 0.4 }]));
        assert_eq!((made.len(), made[0].item, made[0].path.clone()), (1, Some(0), vec![json!(0), json!("task")]));
        assert_eq!((made[0].marks.as_slice(), least_support(&made)), (&[(1, 0, 13)][..], 0.4));
    }

    #[test]
    fn labels_come_with_their_alternatives_the_likeliest_first() {
        let value =
            json!({ "label": "b", "probability": 0.7, "probabilities": { "a": 0.3, "b": 0.7 }, "abstained": false });
        let (made, _) = of("classify", value);
        assert_eq!(made[0].options, [("b".to_owned(), Some(0.7)), ("a".to_owned(), Some(0.3))]);
        assert_eq!((&made[0].value, made[0].p), (&json!("b"), Some(0.7)));
    }

    #[test]
    fn what_extract_says_beside_the_fields_is_no_field() {
        let value = json!({ "total": null, "lines": { "net": 100 }, "min_support": 0.4, "failed": ["out.total > 0"],
            "conflicts": [{ "total": 9 }],
            "evidence": { "total": { "p_null": 0.7, "p_value": 0.3 }, "lines": { "net": { "quote": "Total: 120", "start": 0 } } } });
        let (made, _) = of("extract", value);
        assert_eq!(made.iter().map(|c| c.label.as_str()).collect::<Vec<_>>(), ["total", "lines"]);
        assert_eq!((made[0].p, made[1].marks.len()), (Some(0.7), 1));
        assert!(made[0].remarks.iter().any(|r| r.contains("out.total > 0")), "{:?}", made[0].remarks);
    }

    #[test]
    fn one_label_of_several_is_chosen_and_several_are_listed() {
        let one = json!({ "label": "a", "labels": ["a"], "probability": 0.9, "probabilities": { "a": 0.9, "b": 0.1 } });
        assert_eq!(of("classify", one).0[0].path, [json!("label")]);
        let several =
            json!({ "label": "a", "labels": ["a"], "probability": 0.9, "probabilities": { "a": 0.9, "b": 0.4 } });
        let (made, _) = of("classify", several);
        assert_eq!((made[0].path.as_slice(), made[0].options.len()), (&[json!("labels")][..], 0));
    }

    #[test]
    fn passages_of_an_answer_become_blocks_with_the_quote_in_them() {
        let value = json!({ "text": "Ten years.", "abstained": false, "probability": 0.8,
            "sentences": [{ "text": "Ten years.", "citation": 1, "supported": true }],
            "citations": [{ "number": 1, "quote": "zehn Jahre", "text": "Fünf? zehn Jahre.", "start": 7, "end": 17,
                "place": "r.md, A", "file": "r.md" }] });
        let (made, blocks) = of("answer", value.clone());
        assert_eq!((blocks.len(), blocks[2].head.as_str()), (3, "r.md, A"));
        assert_eq!(made[1].marks, [(2, 6, 16)], "in UTF-16 units");
        let mut made_up = value;
        made_up["citations"][0]["quote"] = json!("elf Jahre");
        assert_eq!(of("answer", made_up).0[1].missing, ["“elf Jahre”"]);
    }

    #[test]
    fn a_summary_is_its_sentences() {
        let value =
            json!({ "text": "x", "coverage": 0.5, "sentences": [{ "text": "A.", "turns": ["T7"], "score": 0.5 }] });
        let (made, _) = of("summarize", value);
        assert_eq!((made[0].missing.as_slice(), made[0].p), (&["T7".to_owned()][..], Some(0.5)));
        assert_eq!(made[0].remarks, ["50 % of the document was read"]);
    }
}
