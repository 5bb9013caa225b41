//! `classify`: one label of several, or all that apply, by how likely the model finds each as its answer.

mod calibrate;
mod labelled;

use std::sync::Mutex;

use serde_json::{Map, Value, json};

use self::calibrate::{Calibration, Target};
use self::labelled::{Labelled, Shots};
use super::ask::{Asker, render_with};
use super::options::{LAYOUTS, Reader};
use super::parts::{ByModel, coverage, pack};
use super::prompt::{Template, texts};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput};
use crate::inference::engine::Usage;
use crate::spec::{KeySpec, ValueSpec};

/// Examples shown beside a text, where the file does not say.
const SHOTS: usize = 4;
/// With several labels, the least probability for one that the file does not set: likelier than not. A text that tells
/// nothing of a label leaves it at 0.5.
const APPLIES: f64 = 0.501;
/// How the answer to the question for one label begins. With it the starter finds the right topic of 20 of 30 texts of
/// AG News, without it of 11, and of 7 where the text stands before the labels: hence the order of the prompt.
const OPENING: &str = "Kind:";
/// A text with more tokens stands before the labels all the same, as in the prompts of all other steps: then what was
/// read for those is not read again. A long text is far from its labels either way.
const SHARED_FROM: usize = 2000;

const EXAMPLE: &[KeySpec] = &[
    KeySpec::required("text", ValueSpec::Text, "What it says"),
    KeySpec::required(
        "label",
        ValueSpec::OneOf(&[ValueSpec::Text, ValueSpec::List(&ValueSpec::Text)]),
        "Its label; with `multi` a list of them",
    ),
];

pub static KIND: StepKind = StepKind {
    name: "classify",
    summary: "Gives a document one of several labels, with a probability for each",
    guide: "The model reads the labels and then the text, once, and each label is scored as a whole answer: the mean of the log-probabilities \
            of its tokens, so that long names are not at a disadvantage, less the same mean after a prompt without \
            text, so that a label the model likes for its sound is not either. The probabilities are the softmax over \
            the labels. A document longer than `size` is judged by its beginning, and the coverage says how much \
            of it that was. More than 2000 tokens are read before the labels, so that other steps over the same text \
            share the reading. Below `abstain_below` the label is none and `abstained` is true.\n\n\
            With `multi` each label is asked for by itself, yes or no, and `labels` are those at or above \
            `abstain_below`, else those likelier than not; `abstained` then says that none applies.\n\n\
            `examples` are texts with their labels, in the file or in a CSV file with the columns `text` and `label` \
            (several labels of one text apart by `|`); the `top` likest in words are shown with each document.\n\n\
            `calibrate` fits probabilities to a small labelled file of the same kind: before the first document its \
            texts are classified, and a temperature and a bias for each label are set so that the right labels become \
            likely. With `target: precision 0.97` the step abstains below the probability from which on so large a \
            share of that file was right, as found on parts of it that were not fitted.",
    needs_model: true,
    keys: &[
        KeySpec::required(
            "labels",
            ValueSpec::OneOf(&[ValueSpec::Map(&ValueSpec::Text), ValueSpec::Text]),
            "Each label with a line on what it means, or the name of a set under `labels`",
        ),
        KeySpec::optional("instruct", ValueSpec::Template, "What to go by, in words for the model"),
        KeySpec::optional(
            "layout",
            LAYOUTS,
            "Whether the text stands before the labels, so that steps over one text share the work of reading it, or after \
             them. By default a long text stands before them; with `calibrate` it always stands after them",
        ),
        KeySpec::default("multi", ValueSpec::Boolean, "false", "Several labels may apply"),
        KeySpec::optional(
            "abstain_below",
            ValueSpec::Number { min: 0.0, max: 1.0 },
            "The least probability for which a label is given",
        ),
        KeySpec::optional(
            "examples",
            ValueSpec::OneOf(&[
                ValueSpec::List(&ValueSpec::Object(EXAMPLE)),
                ValueSpec::Object(&[
                    KeySpec::required("file", ValueSpec::File, "A CSV file with the columns `text` and `label`"),
                    KeySpec::default("top", ValueSpec::Integer { min: 1, max: 32 }, "4", "How many are shown at most"),
                ]),
            ]),
            "Texts with their labels; those likest the document are shown with it",
        ),
        KeySpec::optional(
            "calibrate",
            ValueSpec::Object(&[
                KeySpec::required("file", ValueSpec::File, "A CSV file with the columns `text` and `label`"),
                KeySpec::optional("target", ValueSpec::Setting, "Such as `precision 0.97`: abstain below it"),
            ]),
            "Fits the probabilities to a labelled file",
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
        Port { name: "labels", kind: "list", help: "The labels given: one, or with `multi` all that apply" },
        Port { name: "probability", kind: "number", help: "The probability of the likeliest label" },
        Port { name: "probabilities", kind: "object", help: "Every label's probability, in the order of the file" },
        Port { name: "abstained", kind: "boolean", help: "Whether no label was likely enough" },
    ],
    example: "id: kind\nuse: classify\nlabels:\n  standup: A short status round\n  decision: Options weighed and something settled\n  other: None of these\nabstain_below: 0.4\n",
    build,
};

struct Classify {
    labels: Vec<(String, String)>, // name, help
    instruct: Option<Template>,
    multi: bool,
    abstain_below: Option<f64>,
    size: usize, // tokens
    shots: Option<Shots>,
    calibrate: Option<Calibrate>,
    text_first: Option<bool>, // in the prompt; `None`: where the text is long
}

/// What is to be fitted, and what came of it once the first document asked.
struct Calibrate {
    rows: Vec<Labelled>,
    target: Option<Target>,
    fitted: Mutex<Option<Calibration>>,
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
    let multi = read.flag(&["multi"]);
    if labels.len() < 2 && !multi || labels.is_empty() {
        read.fault(&["labels"], "classifying takes at least two labels");
    }
    if labels.iter().any(|(name, _)| name.trim().is_empty()) {
        read.fault(&["labels"], "a label has no name");
    }
    let names: Vec<&str> = labels.iter().map(|(n, _)| n.as_str()).collect();
    let examples = labelled::read(&mut read, "examples", &names, multi, cx.read_file);
    let top = read.count(&["examples", "top"]).unwrap_or(SHOTS);
    let rows = labelled::read(&mut read, "calibrate", &names, multi, cx.read_file);
    if let Some(rows) = rows.as_ref().filter(|r| r.len() < calibrate::ROWS_MIN) {
        let least = calibrate::ROWS_MIN;
        read.fault(
            &["calibrate", "file"],
            format!("has {} labelled texts, fewer than the least of {least}", rows.len()),
        );
    }
    let text_first = read.text(&["layout"]).map(|layout| layout == "text-first");
    if text_first == Some(true) && rows.is_some() {
        read.fault(
            &["layout"],
            "what is calibrated is fitted with the text behind the labels: `text-first` does not go with it",
        );
    }
    let target = match read.text(&["calibrate", "target"]).map(Target::parse) {
        Some(Err(hint)) => {
            read.fault_with_hint(&["calibrate", "target"], "is no target to calibrate for", Some(hint));
            None
        }
        Some(Ok(target)) => Some(target),
        None => None,
    };
    let step = Classify {
        labels: labels.clone(),
        instruct: read.template(&["instruct"]),
        multi,
        abstain_below: read.number(&["abstain_below"]),
        size: read.amount(&["size"]).map_or(1500, |(n, _)| n),
        shots: examples.filter(|e| !e.is_empty()).map(|e| Shots::new(e, top)),
        text_first,
        calibrate: rows.map(|rows| Calibrate { rows, target, fitted: Mutex::new(None) }),
    };
    read.finish(Some(Box::new(step) as Box<dyn Step>))
}

impl Step for Classify {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let asker = Asker::new(cx)?;
        let instruct = self.instruct.as_ref().map(|t| render_with(cx, t, &[])).transpose()?.unwrap_or_default();
        let mut scorer = Scorer { step: self, asker: &asker, instruct: &instruct, text_first: false };
        let room = scorer.room()?;
        let parts = pack(cx.document, self.size.min(room), 0, &ByModel(asker.generator));
        let Some(first) = parts.first() else {
            return Err(StepError { reason: Reason::NoTextFound, detail: "there is nothing to classify".into() });
        };
        let mut out = StepOutput::default();
        let calibration = self.calibration(&scorer, room, &mut out)?;
        let text = first.shown(cx.document, asker.window());
        // What was fitted holds for the order it was fitted in.
        scorer.text_first = self.text_first.unwrap_or(first.num_tokens > SHARED_FROM) && calibration.is_none();
        let (mut scores, usage) = scorer.scores(&[(&text, None)])?;
        out.usage += usage;
        let scores = scores.pop().unwrap_or_default();
        let probabilities = match &calibration {
            Some(calibration) => calibration.probabilities(&scores),
            None if self.multi => scores.iter().map(|s| calibrate::sigmoid(*s)).collect(),
            None => calibrate::softmax(&scores),
        };
        let threshold = calibration.as_ref().and_then(|c| c.threshold).unwrap_or(0.0);
        let least = self.abstain_below.unwrap_or(if self.multi && threshold == 0.0 { APPLIES } else { 0.0 });
        self.decide(&probabilities, least.max(threshold), &mut out);

        let mut was_read = vec![false; parts.len()];
        was_read[0] = true;
        let coverage = coverage(cx.document, &parts, &was_read);
        if coverage.read < coverage.total {
            let (read, total, unit) = (coverage.read, coverage.total, &coverage.unit);
            out.notes.push(format!("judged by its first {read} of {total} {unit}s"));
        }
        out.coverage = Some(coverage);
        Ok(out)
    }
}

impl Classify {
    /// Gives the labels at or above `least`: one, or with `multi` all of them.
    fn decide(&self, probabilities: &[f64], least: f64, out: &mut StepOutput) {
        let name = |i: usize| self.labels[i].0.as_str();
        // The first of equals: the order of the file is the author's preference.
        let best = (0..self.labels.len()).fold(0, |b, i| if probabilities[i] > probabilities[b] { i } else { b });
        let probability = round(probabilities[best]);
        let abstained = probabilities[best] < least;
        let given: Vec<&str> = if self.multi {
            (0..self.labels.len()).filter(|i| probabilities[*i] >= least).map(name).collect()
        } else {
            Some(name(best)).filter(|_| !abstained).into_iter().collect()
        };
        if abstained {
            let shown = round(least);
            out.notes.push(format!("no label reached {shown}: the likeliest was `{}` with {probability}", name(best)));
        }
        let all: Map<String, Value> =
            probabilities.iter().enumerate().map(|(i, p)| (name(i).to_owned(), json!(round(*p)))).collect();
        out.value = json!({
            "label": if abstained { Value::Null } else { json!(name(best)) }, "labels": given,
            "probability": probability, "probabilities": all, "abstained": abstained,
        });
    }

    /// Returns what was fitted to the labelled file; the first document to ask has it fitted. A failure is that
    /// document's own: the next one tries again.
    fn calibration(
        &self,
        scorer: &Scorer<'_>,
        room: usize,
        out: &mut StepOutput,
    ) -> Result<Option<Calibration>, StepError> {
        let Some(calibrate) = &self.calibrate else { return Ok(None) };
        let mut fitted = calibrate.fitted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if fitted.is_none() {
            let most = self.size.min(room);
            let begins: Vec<String> = calibrate.rows.iter().map(|r| scorer.beginning(&r.text, most)).collect();
            // An example is not shown with itself: it would give its own label away.
            let asked: Vec<(&str, Option<&str>)> =
                begins.iter().zip(&calibrate.rows).map(|(b, row)| (b.as_str(), Some(row.text.as_str()))).collect();
            let (scores, usage) = scorer.scores(&asked)?;
            out.usage += usage;
            let right: Vec<&[usize]> = calibrate.rows.iter().map(|r| r.labels.as_slice()).collect();
            let calibration = Calibration::fit(&scores, &right, self.multi, calibrate.target);
            out.notes.push(calibration.describe(calibrate.rows.len()));
            *fitted = Some(calibration);
        }
        Ok(fitted.clone())
    }
}

/// Scores texts for one document's step.
struct Scorer<'a> {
    step: &'a Classify,
    asker: &'a Asker<'a>,
    instruct: &'a str,
    text_first: bool,
}

impl Scorer<'_> {
    /// The tokens that a text may have.
    fn room(&self) -> Result<usize, StepError> {
        let generator = self.asker.generator;
        let names = self.step.labels.iter().map(|(n, _)| generator.count_tokens(n));
        let shots = self.step.shots.as_ref().map_or(0, |s| s.tokens_max(&|text| generator.count_tokens(text)));
        let around = names.max().unwrap_or(0) + generator.count_tokens(OPENING) + shots;
        self.asker.room(&self.prompt("", &[], None)?, around)
    }

    /// As much of a text's beginning as is read of a document.
    fn beginning(&self, text: &str, most: usize) -> String {
        let ends = self.asker.generator.token_ends(text);
        let end = ends.get(most.saturating_sub(1)).copied().filter(|_| ends.len() > most).unwrap_or(text.len());
        text.get(..end).unwrap_or(text).to_owned()
    }

    /// Returns each label's score for each text: the higher, the likelier. Beside a text stands the example that is
    /// not shown with it. All prompts are scored in one call.
    fn scores(&self, asked: &[(&str, Option<&str>)]) -> Result<(Vec<Vec<f64>>, Usage), StepError> {
        let mut prompts = Vec::new();
        for (text, own) in asked {
            let shots = self.step.shots.as_ref().map(|s| s.near(text, *own)).transpose()?.unwrap_or_default();
            for label in self.asked_labels() {
                prompts.push(self.prompt(text, &shots, label)?);
            }
        }
        // What the model says without a text and without examples is its habit. Less the habit the starter has 28 of 84
        // texts (AG News, TREC, SMS), with it 25; with four examples 59 and 57.
        for label in self.asked_labels() {
            prompts.push(self.prompt("", &[], label)?);
        }
        let num_labels = self.step.labels.len();
        if self.step.multi {
            let (odds, usage) = self.asker.odds_of_yes_all(&prompts)?;
            let (odds, habit) = odds.split_at(odds.len().saturating_sub(num_labels));
            let less_habit = |row: &[f64]| row.iter().zip(habit).map(|(with, without)| with - without).collect();
            return Ok((odds.chunks(num_labels).map(less_habit).collect(), usage));
        }
        let names: Vec<String> = self.step.labels.iter().map(|(n, _)| format!(" {n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let requests: Vec<(&str, &str, &[&str])> =
            prompts.iter().map(|p| (p.as_str(), OPENING, names.as_slice())).collect();
        let (mut scores, usage) = self.asker.score_all(&requests)?;
        let habit: Vec<f64> = scores.pop().unwrap_or_default().iter().map(|tokens| mean(tokens)).collect();
        let less_habit =
            |row: &Vec<Vec<f32>>| row.iter().zip(&habit).map(|(tokens, habit)| mean(tokens) - habit).collect();
        Ok((scores.iter().map(less_habit).collect(), usage))
    }

    /// The labels that a prompt is made for: each one with `multi`, else one prompt for all.
    fn asked_labels(&self) -> Vec<Option<usize>> {
        if self.step.multi { (0..self.step.labels.len()).map(Some).collect() } else { vec![None] }
    }

    fn prompt(&self, text: &str, shots: &[&Labelled], label: Option<usize>) -> Result<String, StepError> {
        let shown = |i: usize| json!({ "name": self.step.labels[i].0, "help": self.step.labels[i].1 });
        let labels: Vec<Value> = (0..self.step.labels.len()).map(shown).collect();
        let examples: Vec<Value> = shots
            .iter()
            .map(|shot| {
                let names: Vec<&str> = shot.labels.iter().map(|&i| self.step.labels[i].0.as_str()).collect();
                json!({ "text": shot.text, "label": names.join(", "), "applies": label.map(|l| shot.labels.contains(&l)) })
            })
            .collect();
        let names = json!({
            "text": text, "labels": labels, "instruct": self.instruct, "examples": examples, "one": label.map(shown),
            "text_first": self.text_first,
        });
        Ok(texts::render(&texts::CLASSIFY, &names)?)
    }
}

fn mean(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|p| f64::from(*p)).sum::<f64>() / logprobs.len().max(1) as f64
}

fn round(p: f64) -> f64 {
    (p * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests;
