//! `retrieve`: passages of an index for a question. No model, unless it reranks or the index has vectors.

use serde_json::{Value, json};

use super::ask::render_with;
use super::hits;
use super::options::Reader;
use super::prompt::Template;
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::corpus::index::{Filter, IndexError, Query};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "retrieve",
    summary: "Finds passages for a question in an index",
    guide: "The question is plain words, not a query language: small words are left out and none of the others has to \
            be there. Filters apply before the best are taken. An index with vectors is searched by words and by \
            vectors, and both lists are fused by their ranks. `context` joins each passage with its neighbours. \
            A `rerank` step after it has the model read what was found.",
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

struct Retrieve {
    index: String,
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
    let query = read.template(&["query"]);
    read.finish(query.map(|query| Box::new(Retrieve { index, query, top, filter, context }) as Box<dyn Step>))
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
        let explain: Vec<String> =
            found.iter().map(|h| format!("{}: {}", h.passage.place(), h.found.describe())).collect();
        let best = found.iter().map(|h| h.found.covers).fold(0.0, f64::max);
        let hits: Vec<Value> = found.iter().map(hits::value_of).collect();
        let value = json!({ "hits": hits, "best": best, "explain": explain });
        Ok(StepOutput { value, ..StepOutput::default() })
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
    use crate::steps::fakes::{self, plain};
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
            generator: None,
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
    fn an_index_that_is_not_there_is_the_authors_mistake() {
        let faults =
            fakes::build(&KIND, json!({ "from": "libary", "query": "x", "top": 1, "context": 0 })).err().unwrap();
        assert_eq!((faults[0].path.as_slice(), faults[0].hints.len()), (&["from".to_owned()][..], 1));
        assert!(faults[0].hints[0].contains("library"), "{faults:?}");
    }
}
