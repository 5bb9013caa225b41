//! `filter`: the items of a list for which something holds.

use serde_json::Value;

use super::{LIST, items};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::Reader;
use crate::steps::prompt::Expression;
use crate::steps::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};

pub static KIND: StepKind = StepKind {
    name: "filter",
    summary: "Keeps the items of a list for which something holds",
    guide: "`keep` is asked of each `item`; its order stays. How many were left out is said in a note.",
    needs_model: false,
    keys: &[LIST, KeySpec::required("keep", ValueSpec::Expression, "What has to hold of `item`")],
    outputs: &[Port { name: "", kind: "list", help: "The items kept" }],
    example: "id: long_turns\nuse: filter\nlist: doc.turns\nkeep: item.text | length > 40\n",
    build,
};

struct Filter {
    list: Expression,
    keep: Expression,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let step = read.expression(&["list"]).zip(read.expression(&["keep"]));
    read.finish(step.map(|(list, keep)| Box::new(Filter { list, keep }) as Box<dyn Step>))
}

impl Step for Filter {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let (items, mut bound) = items(cx, &self.list)?;
        let all = items.len();
        let mut kept = Vec::new();
        for item in items {
            bound.set("item", &item);
            if bound.test(&self.keep)? {
                kept.push(item);
            }
        }
        let left_out = all - kept.len();
        let notes = if left_out > 0 { vec![format!("left out {left_out} of {all}")] } else { Vec::new() };
        Ok(StepOutput { value: Value::Array(kept), notes, ..StepOutput::default() })
    }
}
