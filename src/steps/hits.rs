//! What `retrieve` found, on its way through `rerank` to `answer`: one shape, written and read here.

use serde_json::{Value, json};

use super::prompt::{Expression, Templates};
use super::{Reason, StepContext, StepError};
use crate::corpus::index::{Found, Hit, Passage};

/// Returns a hit as templates see it.
pub fn value_of(hit: &Hit) -> Value {
    let p = &hit.passage;
    json!({
        "id": p.id(), "file": p.file, "index": p.index, "place": p.place(), "text": p.text, "title": p.title,
        "headings": p.headings, "pages": p.pages.map(|(first, last)| json!([first, last])),
        "turns": p.turns.map(|(first, last)| json!([format!("T{first}"), format!("T{last}")])),
        "at": p.start_ms.map(crate::corpus::document::timecode), "language": p.language, "fields": p.fields,
        "score": hit.score, "found": hit.found.describe(), "hit": hit,
    })
}

/// Reads what an expression gives: the value of `retrieve` or `rerank`, a list of their hits, or a list of texts.
pub fn read(cx: &StepContext<'_>, from: &Expression) -> Result<Vec<Hit>, StepError> {
    let value = Templates::new().eval(from, cx.names)?;
    let list = value.get("hits").unwrap_or(&value);
    let wrong = |what: &str| StepError {
        reason: Reason::TemplateFailed,
        detail: format!(
            "`{}` {what}: `from` takes what `retrieve` or `rerank` gives, or a list of texts",
            from.source()
        ),
    };
    let items = match list {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(wrong("is no list of passages")),
    };
    items.iter().enumerate().map(|(i, item)| hit_of(i, item).ok_or_else(|| wrong("holds what is no passage"))).collect()
}

fn hit_of(index: usize, item: &Value) -> Option<Hit> {
    if let Some(hit) = item.get("hit") {
        return serde_json::from_value(hit.clone()).ok();
    }
    let text = item.as_str().or_else(|| item.get("text")?.as_str())?;
    let file = item.get("file").and_then(Value::as_str).unwrap_or("given");
    let passage = Passage::given(file, index, text);
    // A text that was handed over by name is evidence by its author's word.
    let found = Found { covers: 1.0, ..Found::default() };
    Some(Hit { passage, score: 1.0, found })
}
