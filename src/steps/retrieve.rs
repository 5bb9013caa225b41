//! `retrieve`: passages of an index for a question. No model, unless it reranks or the index has vectors.

use std::time::Duration;

use serde_json::{Value, json};

use super::ask::render_with;
use super::options::Reader;
use super::prompt::Template;
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use super::{hits, rerank};
use crate::corpus::index::{Filter, Hit, IndexError, Query};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "retrieve",
    summary: "Finds passages for a question in an index",
    guide: "The question is plain words, not a query language: small words are left out and none of the others has to \
            be there. Filters apply before the best are taken. An index with vectors is searched by words and by \
            vectors, and both lists are fused by their ranks. `context` joins each passage with its neighbours. \
            `rerank` has the model read what was found, as a step of that verb would: the best `top` of it are kept, and \
            what was not reached in its `budget` stands behind.",
    needs_model: false,
    keys: &[
        KeySpec::required("from", ValueSpec::Text, "The index, a name under `indexes`"),
        KeySpec::required("query", ValueSpec::Template, "What is looked for"),
        KeySpec::default("top", ValueSpec::Integer { min: 1, max: 1000 }, "10", "Passages at most"),
        KeySpec::optional(
            "filter",
            ValueSpec::Map(&ValueSpec::OneOf(&[ValueSpec::Template, ValueSpec::List(&ValueSpec::Template)])),
            "Fields that passages must have, each with a value or several of which one is enough; `path` takes a glob",
        ),
        KeySpec::default(
            "context",
            ValueSpec::Integer { min: 0, max: 100 },
            "0",
            "Passages before and after each one in its file that are joined to it",
        ),
        KeySpec::optional(
            "rerank",
            ValueSpec::Object(RERANK),
            "Whether the model puts what was found in order; `explain` says how far it got",
        ),
        KeySpec::default("fuse", ValueSpec::Choice(&["rrf"]), "rrf", "How lists by words and by vectors become one"),
    ],
    outputs: &[
        Port {
            name: "hits",
            kind: "list",
            help: "Passages, the best first: `{place, text, file, pages, at, score, found}`",
        },
        Port { name: "best", kind: "number", help: "How much of the question the best passage covers, 0 to 1" },
        Port { name: "explain", kind: "list", help: "A line for each passage: where it stands and why it came" },
    ],
    example: "id: found\nuse: retrieve\nfrom: library\nquery: \"{{ doc.text }}\"\ntop: 12\n",
    build,
};

/// The keys of `rerank:` here; the verb has the same.
static RERANK: &[KeySpec] = &[
    KeySpec::default("top", ValueSpec::Integer { min: 1, max: 1000 }, "6", "Passages that are kept"),
    KeySpec::default("budget", ValueSpec::Duration, "5s", "The time it may take"),
];

/// Passages are put in order by the model.
struct Order {
    top: usize,
    budget: Duration,
}

struct Retrieve {
    index: String,
    rerank: Option<Order>,
    query: Template,
    top: usize,
    filter: Vec<(String, Vec<Template>)>,
    context: usize,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let index = read.text(&["from"]).unwrap_or_default().to_owned();
    if !cx.indexes.contains(&index) {
        let known = cx.indexes.iter().map(String::as_str);
        let hint = match crate::diagnostic::suggest(&index, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known indexes: {}", known.collect::<Vec<_>>().join(", ")),
        };
        read.fault_with_hint(&["from"], format!("there is no index `{index}` under `indexes`"), Some(hint));
    }
    let top = read.count(&["top"]).unwrap_or(10);
    let context = read.count(&["context"]).unwrap_or(0);
    let mut filter = Vec::new();
    let fields = read.at(&["filter"]).and_then(Value::as_object);
    for (name, value) in fields.into_iter().flatten() {
        let mut templates = Vec::new();
        match value {
            Value::Array(values) => {
                for i in 0..values.len() {
                    templates.extend(read.template_at(&["filter", name], i));
                }
            }
            _ => templates.extend(read.template(&["filter", name])),
        }
        filter.push((name.clone(), templates));
    }
    let rerank = read.at(&["rerank"]).is_some_and(Value::is_object).then(|| Order {
        top: read.count(&["rerank", "top"]).unwrap_or(6),
        budget: Duration::from_millis(read.at(&["rerank", "budget"]).and_then(Value::as_u64).unwrap_or(5000)),
    });
    if let Some(order) = rerank.as_ref().filter(|order| order.top > top) {
        let message = format!("keeps {} passages, and only {top} are found (`top`)", order.top);
        read.fault(&["rerank", "top"], message);
    }
    let query = read.template(&["query"]);
    read.finish(query.map(|query| Box::new(Retrieve { index, rerank, query, top, filter, context }) as Box<dyn Step>))
}

impl Step for Retrieve {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let Some(library) = cx.library else {
            let detail = format!("there is no index `{}`: the pipeline has no `indexes`", self.index);
            return Err(StepError { reason: Reason::Missing, detail });
        };
        let question = render_with(cx, &self.query, &[])?;
        let mut filter = Filter::default();
        for (name, templates) in &self.filter {
            let values = templates.iter().map(|t| render_with(cx, t, &[])).collect::<Result<Vec<_>, _>>()?;
            if name == "path" {
                for glob in &values {
                    let wrong =
                        |e| StepError { reason: Reason::TemplateFailed, detail: format!("filter.path {glob}: {e}") };
                    filter.add_path(glob).map_err(wrong)?;
                }
            } else {
                filter.fields.insert(name.clone(), values);
            }
        }
        let retriever = library.retriever(&self.index)?;
        let vector = library.question(&self.index, &question)?;
        let query = Query {
            text: question.trim(),
            vector: vector.as_deref(),
            filter: &filter,
            top: self.top,
            context: self.context,
        };
        let found = retriever.retrieve(&query)?;
        let line = |h: &Hit| format!("{}: {}", h.passage.place(), h.found.describe());
        let Some(order) = &self.rerank else {
            let explain: Vec<String> = found.iter().map(line).collect();
            let best = found.iter().map(|h| h.found.covers).fold(0.0, f64::max);
            let hits: Vec<Value> = found.iter().map(hits::value_of).collect();
            let value = json!({ "hits": hits, "best": best, "explain": explain });
            return Ok(StepOutput { value, ..StepOutput::default() });
        };
        let num_found = found.len();
        let judged = rerank::judge(cx, question.trim(), found, order.budget)?;
        let best = judged.order.iter().map(|(h, _)| h.found.covers).fold(0.0, f64::max);
        let kept = || judged.order.iter().take(order.top);
        let hits: Vec<Value> = kept().map(|(hit, odds)| rerank::value_of(hit, *odds)).collect();
        let how_far = rerank::how_far(judged.num_judged, num_found, order.budget);
        let mut explain: Vec<String> = kept().map(|(h, _)| line(h)).collect();
        explain.push(how_far.clone());
        let mut out = StepOutput { usage: judged.usage, ..StepOutput::default() };
        out.notes.extend((judged.num_judged < num_found).then_some(how_far));
        out.value = json!({ "hits": hits, "best": best, "explain": explain });
        Ok(out)
    }

    fn needs_model(&self) -> bool {
        self.rerank.is_some()
    }
}

impl From<IndexError> for StepError {
    fn from(error: IndexError) -> Self {
        let reason = match error {
            IndexError::Missing { .. } => Reason::Missing,
            IndexError::Cancelled => Reason::Cancelled,
            _ => Reason::Unreadable,
        };
        Self { reason, detail: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::index::{Passage, RamIndex, Retriever};
    use crate::inference::engine::CancelToken;
    use crate::steps::fakes::{self, Fake, plain};
    use crate::steps::{GenerationDefaults, Library};

    struct Memory(RamIndex);

    impl Library for Memory {
        fn digest(&self) -> String {
            self.0.digest()
        }

        fn retriever(&self, _: &str) -> Result<&dyn Retriever, StepError> {
            Ok(&self.0)
        }

        fn question(&self, _: &str, _: &str) -> Result<Option<Vec<f32>>, StepError> {
            Ok(None)
        }
    }

    fn run(options: Value) -> StepOutput {
        run_with(options, None)
    }

    fn run_with(options: Value, fake: Option<&Fake>) -> StepOutput {
        let passage = |file: &str, index, text: &str| Passage {
            range: index * 100..index * 100 + text.len(),
            ..Passage::of(file, index, text)
        };
        let library = Memory(RamIndex::new(vec![
            passage("hr/pay.md", 0, "Payroll records are kept for seven years."),
            passage("hr/pay.md", 1, "The archive is in the cellar."),
            passage("it/logs.md", 0, "Records of logins are kept for a month."),
        ]));
        let step = fakes::build(&KIND, options).unwrap_or_else(|f| panic!("{f:?}"));
        let names = json!({ "doc": { "text": "How long are records kept?" } });
        step.run(&StepContext {
            document: &plain("x"),
            names: &names,
            generator: fake.map(|f| f as &dyn crate::inference::engine::Generator),
            defaults: &GenerationDefaults::default(),
            cancel: &CancelToken::default(),
            progress: &|_, _| {},
            library: Some(&library),
        })
        .unwrap()
    }

    fn files(out: &StepOutput) -> Vec<&str> {
        out.value["hits"].as_array().unwrap().iter().filter_map(|h| h["file"].as_str()).collect()
    }

    #[test]
    fn passages_come_with_their_place_and_why() {
        let out = run(json!({ "from": "library", "query": "{{ doc.text }}", "top": 10, "context": 0 }));
        assert_eq!(files(&out), ["hr/pay.md", "it/logs.md"]);
        assert!(
            out.value["explain"][0].as_str().unwrap().starts_with("hr/pay.md: words 1 ("),
            "{}",
            out.value["explain"]
        );
        assert!(out.value["best"].as_f64().unwrap() > 0.4, "{}", out.value["best"]);
    }

    #[test]
    fn a_filter_and_a_context_are_kept_to() {
        let filter = json!({ "path": "it/*" });
        let out = run(json!({ "from": "library", "query": "records", "top": 1, "context": 0, "filter": filter }));
        assert_eq!(files(&out), ["it/logs.md"]);
        let out = run(json!({ "from": "library", "query": "payroll", "top": 1, "context": 1 }));
        assert!(out.value["hits"][0]["text"].as_str().unwrap().ends_with("cellar."), "{}", out.value);
    }

    #[test]
    fn the_model_puts_what_was_found_in_order_where_that_is_asked_for() {
        let fake = Fake::answering(|_| String::new()).with_odds(|prompt, answer| {
            let yes = answer.trim().eq_ignore_ascii_case("yes");
            if prompt.contains("logins") == yes { -0.1 } else { -3.0 }
        });
        let options = |top: u64| {
            let rerank = json!({ "top": top, "budget": 60_000 });
            json!({ "from": "library", "query": "{{ doc.text }}", "top": 10, "context": 0, "rerank": rerank })
        };
        let out = run_with(options(1), Some(&fake));
        assert_eq!(files(&out), ["it/logs.md"], "{}", out.value);
        assert!(out.value["hits"][0]["odds"].as_f64().unwrap() > 1.0, "{}", out.value);
        assert!(out.value["explain"][1].as_str().unwrap().starts_with("judged 2 of 2 passages"), "{}", out.value);
        let plain = json!({ "from": "library", "query": "x", "top": 10, "context": 0 });
        let asks = |options| fakes::build(&KIND, options).unwrap_or_else(|f| panic!("{f:?}")).needs_model();
        assert!(asks(options(1)) && !asks(plain));
        assert_eq!(fakes::build(&KIND, options(11)).err().unwrap()[0].path, ["rerank", "top"]);
    }

    #[test]
    fn an_index_that_is_not_there_is_the_authors_mistake() {
        let faults =
            fakes::build(&KIND, json!({ "from": "libary", "query": "x", "top": 1, "context": 0 })).err().unwrap();
        assert_eq!((faults[0].path.as_slice(), faults[0].hints.len()), (&["from".to_owned()][..], 1));
        assert!(faults[0].hints[0].contains("library"), "{faults:?}");
    }
}
