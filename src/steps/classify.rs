//! `classify`: one label of several, by how likely the model finds each as its answer.

use serde_json::{Map, Value, json};

use super::ask::{Asker, render_with};
use super::options::Reader;
use super::parts::{ByModel, coverage, pack};
use super::prompt::{Template, texts};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "classify",
    summary: "Gives a document one of several labels, with a probability for each",
    guide: "The model reads the text once, then each label is scored as a whole answer: the mean of the log-probabilities \
            of its tokens, so that long names are not at a disadvantage, less the same mean after a prompt without \
            text, so that a label the model likes for its sound is not either. The probabilities are the softmax over \
            the labels. A document longer than the window is judged by its beginning, and the coverage says how much \
            of it that was. Below `abstain_below` the label is none and `abstained` is true.",
    needs_model: true,
    keys: &[
        KeySpec::required("labels", ValueSpec::Map(&ValueSpec::Text), "Each label with a line on what it means"),
        KeySpec::optional("instruct", ValueSpec::Template, "What to go by, in words for the model"),
        KeySpec::optional(
            "abstain_below",
            ValueSpec::Number { min: 0.0, max: 1.0 },
            "The least probability for which a label is given",
        ),
        KeySpec::default(
            "size",
            ValueSpec::Amount { units: &["tokens"] },
            "1500 tokens",
            "How much of the document's beginning is read; never more than the window takes",
        ),
    ],
    outputs: &[
        Port { name: "label", kind: "text", help: "The likeliest label; none when the step abstains" },
        Port { name: "probability", kind: "number", help: "Its probability among the labels" },
        Port { name: "probabilities", kind: "object", help: "Every label's probability, in the order of the file" },
        Port { name: "abstained", kind: "boolean", help: "Whether no label was likely enough" },
    ],
    example: "id: kind\nuse: classify\nlabels:\n  standup: A short status round\n  decision: Options weighed and something settled\n  other: None of these\nabstain_below: 0.4\n",
    build,
};

struct Classify {
    labels: Vec<(String, String)>, // name, help
    instruct: Option<Template>,
    abstain_below: f64,
    size: usize, // tokens
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let labels: Vec<(String, String)> = read
        .at(&["labels"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, help)| (name.clone(), help.as_str().unwrap_or_default().to_owned()))
        .collect();
    if labels.len() < 2 {
        read.fault(&["labels"], "classifying takes at least two labels");
    }
    if labels.iter().any(|(name, _)| name.trim().is_empty()) {
        read.fault(&["labels"], "a label has no name");
    }
    let step = Classify {
        labels,
        instruct: read.template(&["instruct"]),
        abstain_below: read.number(&["abstain_below"]).unwrap_or(0.0),
        size: read.amount(&["size"]).map_or(1500, |(n, _)| n),
    };
    read.finish(Some(Box::new(step) as Box<dyn Step>))
}

impl Step for Classify {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let asker = Asker::new(cx)?;
        let instruct = self.instruct.as_ref().map(|t| render_with(cx, t, &[])).transpose()?.unwrap_or_default();
        let labels: Vec<Value> = self.labels.iter().map(|(n, h)| json!({ "name": n, "help": h })).collect();
        let prompt = |text: &str| {
            texts::render(&texts::CLASSIFY, &json!({ "text": text, "labels": labels, "instruct": instruct }))
        };
        let empty = prompt("")?;
        let room =
            asker.room(&empty, self.labels.iter().map(|(n, _)| asker.generator.count_tokens(n)).max().unwrap_or(0))?;
        let parts = pack(cx.document, self.size.min(room), 0, &ByModel(asker.generator));
        let Some(first) = parts.first() else {
            return Err(StepError { reason: Reason::NoTextFound, detail: "there is nothing to classify".into() });
        };
        let names: Vec<&str> = self.labels.iter().map(|(n, _)| n.as_str()).collect();
        let (after_text, mut usage) = asker.score(&prompt(&first.speech(cx.document))?, &names)?;
        let (after_nothing, more) = asker.score(&empty, &names)?;
        usage += more;
        let scores: Vec<f64> =
            after_text.iter().zip(&after_nothing).map(|(with, without)| mean(with) - mean(without)).collect();
        let probabilities = softmax(&scores);
        // The first of equals: the order of the file is the author's preference.
        let best = (0..names.len()).fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best });
        let probability = round(probabilities[best]);
        let abstained = probabilities[best] < self.abstain_below;

        let mut was_read = vec![false; parts.len()];
        was_read[0] = true;
        let coverage = coverage(cx.document, &parts, &was_read);
        let mut out = StepOutput { usage, ..StepOutput::default() };
        if coverage.read < coverage.total {
            out.notes.push(format!("judged by its first {} of {} {}s", coverage.read, coverage.total, coverage.unit));
        }
        if abstained {
            out.notes.push(format!(
                "no label reached {}: the likeliest was `{}` with {probability}",
                self.abstain_below, names[best]
            ));
        }
        let all: Map<String, Value> =
            names.iter().zip(&probabilities).map(|(n, p)| (n.to_string(), json!(round(*p)))).collect();
        out.value = json!({
            "label": if abstained { Value::Null } else { json!(names[best]) },
            "probability": probability, "probabilities": all, "abstained": abstained,
        });
        out.coverage = Some(coverage);
        Ok(out)
    }
}

fn mean(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|p| f64::from(*p)).sum::<f64>() / logprobs.len().max(1) as f64
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|w| w / all).collect()
}

fn round(p: f64) -> f64 {
    (p * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{self, Fake, meeting};

    fn options(abstain_below: f64) -> Value {
        json!({
            "labels": { "standup": "A status round", "a-very-long-decision-label": "Something settled" },
            "abstain_below": abstain_below, "size": { "n": 120, "unit": "tokens" },
        })
    }

    /// Likes "standup" for its sound, and the long label where the text decides something.
    fn odds(prompt: &str, label: &str) -> f32 {
        let decides = prompt.contains("We decided");
        if label == "standup" {
            -0.5
        } else if decides {
            -0.4
        } else {
            -1.5
        }
    }

    #[test]
    fn the_text_decides_and_not_the_sound_or_length_of_a_label() {
        let document = meeting(&[("Anna", "We decided on the small one."), ("Bo", &"Good. ".repeat(40))]);
        let fake = Fake::answering(|_| String::new()).with_odds(odds);
        let out = fakes::run(&KIND, options(0.5), &document, &fake).unwrap();
        assert_eq!(out.value["label"], "a-very-long-decision-label");
        assert!(out.value["probability"].as_f64().unwrap() > 0.7);
        let coverage = out.coverage.unwrap();
        assert!(coverage.read < coverage.total, "the second turn does not fit and is said to be unread");
    }

    #[test]
    fn a_close_call_abstains_and_says_what_it_would_have_been() {
        let document = meeting(&[("Anna", "Hello there.")]);
        let fake = Fake::answering(|_| String::new()).with_odds(odds);
        let out = fakes::run(&KIND, options(0.9), &document, &fake).unwrap();
        assert_eq!((&out.value["label"], &out.value["abstained"]), (&Value::Null, &json!(true)));
        assert!(out.notes[0].contains("standup"), "{:?}", out.notes);
    }

    #[test]
    fn one_label_is_no_choice() {
        assert_eq!(fakes::build(&KIND, json!({ "labels": { "a": "b" } })).err().unwrap()[0].path, ["labels"]);
    }
}
