//! `sort`: a list in order.

use std::cmp::Ordering;

use serde_json::Value;

use super::{LIST, each, items};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::options::Reader;
use crate::steps::prompt::Expression;
use crate::steps::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};

pub static KIND: StepKind = StepKind {
    name: "sort",
    summary: "Puts the items of a list in order",
    guide: "By the first of `by`, then the next where it is equal; items equal in all keep their order. Numbers come \
            before text, and none comes last, whichever way the order goes.",
    needs_model: false,
    keys: &[
        LIST,
        KeySpec::required(
            "by",
            ValueSpec::List(&ValueSpec::Expression),
            "Expressions over `item`, the weightiest first",
        ),
        KeySpec::default("descending", ValueSpec::Boolean, "false", "From the largest to the smallest"),
    ],
    outputs: &[Port { name: "", kind: "list", help: "The same items in order" }],
    example: "id: by_speaker\nuse: sort\nlist: doc.turns\nby: [item.speaker, item.start_ms]\n",
    build,
};

struct Sort {
    list: Expression,
    by: Vec<Expression>,
    descending: bool,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let (by, descending) = (read.expressions(&["by"]), read.flag(&["descending"]));
    if by.is_empty() {
        read.fault(&["by"], "says nothing to sort by");
    }
    let list = read.expression(&["list"]);
    read.finish(list.map(|list| Box::new(Sort { list, by, descending }) as Box<dyn Step>))
}

impl Step for Sort {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let (items, mut bound) = items(cx, &self.list)?;
        let keys = self.by.iter().map(|by| each(&items, &mut bound, by)).collect::<Result<Vec<_>, _>>()?;
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|a, b| {
            let compared = keys.iter().map(|key| compare(&key[*a], &key[*b], self.descending));
            compared.fold(Ordering::Equal, Ordering::then)
        });
        let value = order.into_iter().map(|i| items[i].clone()).collect();
        Ok(StepOutput { value: Value::Array(value), ..StepOutput::default() })
    }
}

fn compare(a: &Value, b: &Value, descending: bool) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (false, false) => {}
        (a, b) => return a.cmp(&b),
    }
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN))
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let items = a.iter().zip(b).map(|(a, b)| compare(a, b, false));
            items.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)).then_with(|| a.to_string().cmp(&b.to_string())),
    };
    if descending { order.reverse() } else { order }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
