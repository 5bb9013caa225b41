//! `set`: values worked out of what is known, by name. No model.

use serde_json::{Map, Value};

use super::options::Reader;
use super::prompt::{Expression, Templates};
use super::{BuildContext, OptionFault, Port, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "set",
    summary: "Works out values from what is known",
    guide: "Each value is an expression over `params`, `doc`, `steps` and `run`, and with `foreach` over `item`. What they \
            give stands under the step's id by name: numbers stay numbers and lists stay lists.",
    needs_model: false,
    keys: &[KeySpec::required("values", ValueSpec::Map(&ValueSpec::Expression), "Names and what they are")],
    outputs: &[Port { name: "", kind: "object", help: "The values by name" }],
    example: "id: about\nuse: set\nvalues:\n  title: doc.meta.title | default(doc.stem)\n  num_turns: doc.turns | length\n",
    build,
};

struct Set {
    values: Vec<(String, Expression)>,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let names: Vec<&String> = read.at(&["values"]).and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    if names.is_empty() {
        read.fault(&["values"], "names no value");
    }
    let values = names.into_iter().filter_map(|n| Some((n.clone(), read.expression(&["values", n])?))).collect();
    read.finish(Some(Box::new(Set { values }) as Box<dyn Step>))
}

impl Step for Set {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let bound = Templates::new().bind(cx.names);
        let mut values = Map::new();
        for (name, expression) in &self.values {
            values.insert(name.clone(), bound.eval(expression)?);
        }
        Ok(StepOutput { value: Value::Object(values), ..StepOutput::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::Reason;
    use crate::steps::fakes::{self, Fake, meeting};

    #[test]
    fn values_keep_their_types_and_a_missing_name_fails_the_document() {
        let fake = Fake::answering(|_| String::new());
        let document = meeting(&[("Anna", "Hello."), ("Bo", "Yes.")]);
        let set = |values: Value| fakes::run(&KIND, json!({ "values": values }), &document, &fake);
        let out =
            set(json!({ "n": "doc.turns | length", "who": "doc.speakers", "last": "doc.turns[-1].text" })).unwrap();
        assert_eq!(out.value, json!({ "n": 2, "who": ["Anna", "Bo"], "last": "Yes." }));
        assert_eq!(set(json!({ "x": "doc.nothing" })).unwrap_err().reason, Reason::TemplateFailed);
    }

    #[test]
    fn a_step_that_sets_nothing_is_a_mistake() {
        assert_eq!(fakes::build(&KIND, json!({ "values": {} })).err().unwrap()[0].path, ["values"]);
    }
}
