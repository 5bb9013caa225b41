//! `group`: the items of a list under what they have in common.

use serde_json::{Value, json};

use super::{LIST, each, items};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::Reader;
use crate::steps::prompt::Expression;
use crate::steps::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};

pub static KIND: StepKind = StepKind {
    name: "group",
    summary: "Puts the items of a list under what they have in common",
    guide: "One group for each value of `by`, in the order in which the values come up; items keep their order inside. \
            Items for which it is none are a group too: nothing is left out.",
    needs_model: false,
    keys: &[LIST, KeySpec::required("by", ValueSpec::Expression, "What the items of a group share, over `item`")],
    outputs: &[Port { name: "", kind: "list", help: "Each group as `{key, count, items}`" }],
    example: "id: by_speaker\nuse: group\nlist: doc.turns\nby: item.speaker\n",
    build,
};

struct Group {
    list: Expression,
    by: Expression,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let both = read.expression(&["list"]).zip(read.expression(&["by"]));
    read.finish(both.map(|(list, by)| Box::new(Group { list, by }) as Box<dyn Step>))
}

impl Step for Group {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let (items, mut bound) = items(cx, &self.list)?;
        let keys = each(&items, &mut bound, &self.by)?;
        let mut places = std::collections::HashMap::<String, usize>::new();
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for (key, item) in keys.into_iter().zip(items) {
            let at = *places.entry(key.to_string()).or_insert(groups.len());
            if at == groups.len() {
                groups.push((key, Vec::new()));
            }
            groups[at].1.push(item);
        }
        let groups = groups.into_iter().map(|(key, items)| json!({ "key": key, "count": items.len(), "items": items }));
        Ok(StepOutput { value: groups.collect(), ..StepOutput::default() })
    }
}
