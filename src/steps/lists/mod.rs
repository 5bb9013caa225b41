//! Verbs that make one list of another: `filter`, `sort`, `dedupe`, `group`. Expressions only, no model.
//! What they leave out is counted in a note.

pub mod dedupe;
pub mod filter;
pub mod group;
pub mod sort;

use serde_json::Value;

use super::prompt::{Bound, Expression, Templates};
use super::{Reason, StepContext, StepError};
use crate::spec::{KeySpec, ValueSpec};

/// The key all of them have.
const LIST: KeySpec = KeySpec::required("list", ValueSpec::Expression, "The list, such as `steps.actions`");

/// Returns the items that an expression gives, and the names to look at each with; none is an empty list.
fn items(cx: &StepContext<'_>, list: &Expression) -> Result<(Vec<Value>, Bound), StepError> {
    let bound = Templates::new().bind(cx.names);
    match bound.eval(list)? {
        Value::Null => Ok((Vec::new(), bound)),
        Value::Array(items) => Ok((items, bound)),
        _ => {
            let detail = format!("`{}` gives no list", list.source().trim());
            Err(StepError { reason: Reason::TemplateFailed, detail })
        }
    }
}

/// Returns what an expression gives for each item.
fn each(items: &[Value], bound: &mut Bound, expression: &Expression) -> Result<Vec<Value>, StepError> {
    let of_one = |item| {
        bound.set("item", item);
        Ok(bound.eval(expression)?)
    };
    items.iter().map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::steps::fakes::{self, Fake, meeting};
    use crate::steps::{StepKind, StepOutput};

    fn run(kind: &StepKind, options: Value, items: Value) -> Result<StepOutput, StepError> {
        let step = fakes::build(kind, options).unwrap_or_else(|faults| panic!("{faults:?}"));
        let names = json!({ "doc": {}, "params": {}, "steps": { "x": items }, "run": {} });
        fakes::run_with(step.as_ref(), &names, &meeting(&[]), &Fake::answering(|_| String::new()))
    }

    #[test]
    fn filter_keeps_what_holds_and_counts_the_rest() {
        let options = json!({ "list": "steps.x", "keep": "item.n > 1" });
        let out = run(&filter::KIND, options.clone(), json!([{ "n": 1 }, { "n": 2 }, { "n": 3 }])).unwrap();
        assert_eq!(out.value, json!([{ "n": 2 }, { "n": 3 }]));
        assert_eq!(out.notes, ["left out 1 of 3"]);
        assert_eq!(run(&filter::KIND, options.clone(), Value::Null).unwrap().value, json!([]));
        assert!(run(&filter::KIND, options, json!("text")).unwrap_err().detail.contains("gives no list"));
    }

    #[test]
    fn sort_is_stable_and_puts_none_last_either_way() {
        let items = json!([{ "d": null, "i": 0 }, { "d": 10, "i": 1 }, { "d": 9, "i": 2 }, { "d": 10, "i": 3 }]);
        let order = |descending: bool| {
            let options = json!({ "list": "steps.x", "by": ["item.d"], "descending": descending });
            let out = run(&sort::KIND, options, items.clone()).unwrap().value;
            out.as_array().unwrap().iter().map(|i| i["i"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((order(false), order(true)), (vec![2, 1, 3, 0], vec![1, 3, 2, 0]));
    }

    #[test]
    fn dedupe_keeps_the_first_of_equals_and_of_those_alike() {
        let items = json!(["Repair the oven today", "Call Bo", "Repair the oven", "Call Bo"]);
        let equal =
            run(&dedupe::KIND, json!({ "list": "steps.x", "by": "item", "keep": "first" }), items.clone()).unwrap();
        assert_eq!(equal.value, json!(["Repair the oven today", "Call Bo", "Repair the oven"]));
        let alike = json!({ "list": "steps.x", "by": "item", "alike": 0.6, "keep": "last" });
        let out = run(&dedupe::KIND, alike, items).unwrap();
        assert_eq!((out.value, out.notes), (json!(["Repair the oven", "Call Bo"]), vec!["left out 2 of 4".to_owned()]));
    }

    #[test]
    fn group_keeps_every_item_under_its_key() {
        let items = json!([{ "o": "Bo", "t": 1 }, { "o": null, "t": 2 }, { "o": "Bo", "t": 3 }]);
        let out = run(&group::KIND, json!({ "list": "steps.x", "by": "item.o" }), items).unwrap();
        let expected = json!([
            { "key": "Bo", "count": 2, "items": [{ "o": "Bo", "t": 1 }, { "o": "Bo", "t": 3 }] },
            { "key": null, "count": 1, "items": [{ "o": null, "t": 2 }] },
        ]);
        assert_eq!(out.value, expected);
    }
}
