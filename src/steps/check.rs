//! `check`: what has to hold of what earlier steps made. No model.

use serde_json::json;

use super::options::Reader;
use super::prompt::{Expression, Templates};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "check",
    summary: "Holds what earlier steps made against conditions",
    guide: "Each of `assert` must hold. With `of` they are asked of each of these values, as `out`; values that are none \
            are passed over. Where one does not hold the document fails, or, with `on_error: mark`, is `partial` and \
            keeps everything else.",
    needs_model: false,
    keys: &[
        KeySpec::required("assert", ValueSpec::List(&ValueSpec::Expression), "Conditions that must hold"),
        KeySpec::optional(
            "of",
            ValueSpec::List(&ValueSpec::Expression),
            "Values that they are asked of, each as `out`",
        ),
    ],
    outputs: &[
        Port { name: "ok", kind: "boolean", help: "Whether every condition holds" },
        Port { name: "failed", kind: "list", help: "Those that do not, each as it is written" },
    ],
    example: "id: sane\nuse: check\nassert: [doc.text | length > 0]\non_error: mark\n",
    build,
};

struct Check {
    conditions: Vec<Expression>,
    of: Option<Vec<Expression>>,
    mark: bool,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let conditions = read.expressions(&["assert"]);
    if conditions.is_empty() {
        read.fault(&["assert"], "asks for nothing");
    }
    let of = read.at(&["of"]).is_some().then(|| read.expressions(&["of"]));
    let mark = read.text(&["on_error"]) == Some("mark");
    read.finish(Some(Box::new(Check { conditions, of, mark }) as Box<dyn Step>))
}

impl Step for Check {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let mut bound = Templates::new().bind(cx.names);
        let mut failed = Vec::new();
        let mut ask = |bound: &super::prompt::Bound, about: &str| -> Result<(), StepError> {
            for condition in &self.conditions {
                if !bound.test(condition)? {
                    failed.push(format!("{}{about}", condition.source().trim()));
                }
            }
            Ok(())
        };
        match &self.of {
            None => ask(&bound, "")?,
            Some(of) => {
                for expression in of {
                    let value = bound.eval(expression)?;
                    if !value.is_null() {
                        bound.set("out", &value);
                        ask(&bound, &format!(" (of {})", expression.source().trim()))?;
                    }
                }
            }
        }
        let told = || failed.iter().map(|f| format!("does not hold: {f}"));
        if !failed.is_empty() && !self.mark {
            return Err(StepError { reason: Reason::CheckFailed, detail: told().collect::<Vec<_>>().join("; ") });
        }
        let partial = told().collect();
        Ok(StepOutput { value: json!({ "ok": failed.is_empty(), "failed": failed }), partial, ..StepOutput::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::steps::fakes::{self, Fake, meeting};

    fn check(options: Value) -> Result<StepOutput, StepError> {
        let step = fakes::build(&KIND, options).unwrap_or_else(|faults| panic!("{faults:?}"));
        let names =
            json!({ "doc": {}, "steps": { "a": { "n": 1 }, "b": { "n": 5 }, "c": null }, "params": {}, "run": {} });
        fakes::run_with(step.as_ref(), &names, &meeting(&[]), &Fake::answering(|_| String::new()))
    }

    #[test]
    fn what_does_not_hold_fails_the_document_with_its_words() {
        let options = json!({ "assert": ["out.n < 3"], "of": ["steps.a", "steps.b", "steps.c"] });
        let error = check(options).unwrap_err();
        assert_eq!(
            (error.reason, error.detail.as_str()),
            (Reason::CheckFailed, "does not hold: out.n < 3 (of steps.b)")
        );
        assert_eq!(check(json!({ "assert": ["steps.a.n == 1"] })).unwrap().value, json!({ "ok": true, "failed": [] }));
    }

    #[test]
    fn marked_it_leaves_the_document_partial_and_the_rest_whole() {
        let out = check(json!({ "assert": ["steps.b.n < 3"], "on_error": "mark" })).unwrap();
        assert_eq!(out.value, json!({ "ok": false, "failed": ["steps.b.n < 3"] }));
        assert_eq!(out.partial, ["does not hold: steps.b.n < 3"]);
    }
}
