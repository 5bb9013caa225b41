//! `dedupe`: one item of each that are the same.

use serde_json::Value;

use super::{LIST, each, items};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::Reader;
use crate::steps::prompt::Expression;
use crate::steps::text::similarity;
use crate::steps::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};

pub static KIND: StepKind = StepKind {
    name: "dedupe",
    summary: "Keeps one item of each that are the same",
    guide: "Two items are the same where `by` gives the same for both, or, with `alike`, where that share of the content \
            words of their texts is common to both. How many were left out is said in a note.",
    needs_model: false,
    keys: &[
        LIST,
        KeySpec::default("by", ValueSpec::Expression, "item", "What is compared, an expression over `item`"),
        KeySpec::optional(
            "alike",
            ValueSpec::Number { min: 0.01, max: 1.0 },
            "The least share of words that two texts have in common to be the same",
        ),
        KeySpec::default("keep", ValueSpec::Choice(&["first", "last"]), "first", "Which one stays"),
    ],
    outputs: &[Port { name: "", kind: "list", help: "The items kept, each at the place of the first of its kind" }],
    example: "id: voices\nuse: dedupe\nlist: doc.turns\nby: item.speaker\n",
    build,
};

struct Dedupe {
    list: Expression,
    by: Expression,
    alike: Option<f64>,
    keep_last: bool,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let (alike, keep_last) = (read.number(&["alike"]), read.text(&["keep"]) == Some("last"));
    let both = read.expression(&["list"]).zip(read.expression(&["by"]));
    read.finish(both.map(|(list, by)| Box::new(Dedupe { list, by, alike, keep_last }) as Box<dyn Step>))
}

impl Step for Dedupe {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let (items, mut bound) = items(cx, &self.list)?;
        let keys = each(&items, &mut bound, &self.by)?;
        let all = items.len();
        let mut kept: Vec<(usize, Value)> = Vec::new(); // index of the key that others are held against, item
        for (at, item) in items.into_iter().enumerate() {
            match kept.iter_mut().find(|(first, _)| self.are_same(&keys[*first], &keys[at])) {
                Some((_, stays)) if self.keep_last => *stays = item,
                Some(_) => {}
                None => kept.push((at, item)),
            }
        }
        let left_out = all - kept.len();
        let notes = if left_out > 0 { vec![format!("left out {left_out} of {all}")] } else { Vec::new() };
        let value = kept.into_iter().map(|(_, item)| item).collect();
        Ok(StepOutput { value: Value::Array(value), notes, ..StepOutput::default() })
    }
}

impl Dedupe {
    fn are_same(&self, a: &Value, b: &Value) -> bool {
        match (self.alike, a.as_str(), b.as_str()) {
            (Some(share), Some(a), Some(b)) => a == b || similarity(a, b) >= share,
            _ => a == b,
        }
    }
}
