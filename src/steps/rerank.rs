//! `rerank`: the model reads passages and puts them in order, within a time that it keeps.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask::{Asker, render_with};
use super::options::Reader;
use super::prompt::{Expression, Template, texts};
use super::{BuildContext, OptionFault, Port, Reason, Step, StepContext, StepError, StepKind, StepOutput, hits};
use crate::corpus::index::Hit;
use crate::inference::engine::Usage;
use crate::spec::{KeySpec, ValueSpec};

pub static KIND: StepKind = StepKind {
    name: "rerank",
    summary: "Puts passages in the order in which the model thinks they answer a question",
    guide: "Each passage is judged by how much likelier the model finds yes than no, to whether it answers the question. \
            The best of `from` come first, so what is reached within `budget` is what was most promising; a passage \
            that was not reached stands behind those that were, in its old order. There are never fewer passages than \
            `top` asks for, as long as there were so many; `explain` says how far it got.",
    needs_model: true,
    keys: &[
        KeySpec::required("from", ValueSpec::Expression, "What `retrieve` gave, or a list of texts"),
        KeySpec::required("question", ValueSpec::Template, "What the passages are to answer"),
        KeySpec::default("top", ValueSpec::Integer { min: 1, max: 1000 }, "6", "Passages that are kept"),
        KeySpec::default("budget", ValueSpec::Duration, "5s", "The time it may take"),
    ],
    outputs: &[
        Port {
            name: "hits",
            kind: "list",
            help: "Passages, the best first, each with `odds`: none where it was not reached",
        },
        Port { name: "best", kind: "number", help: "How much of the question the best passage covers, 0 to 1" },
        Port { name: "explain", kind: "object", help: "How far it got: `{given, judged, top, budget_ms, spent_ms}`" },
    ],
    example: "id: best\nuse: rerank\nfrom: \"[doc.text]\"\nquestion: \"{{ doc.text }}\"\ntop: 6\nbudget: 5s\n",
    build,
};

struct Rerank {
    from: Expression,
    question: Template,
    top: usize,
    budget: Duration,
}

fn build(cx: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    let mut read = Reader::new(cx);
    let top = read.count(&["top"]).unwrap_or(6);
    let budget = Duration::from_millis(read.at(&["budget"]).and_then(Value::as_u64).unwrap_or(5000));
    let from = read.expression(&["from"]);
    let question = read.template(&["question"]);
    let step =
        from.zip(question).map(|(from, question)| Box::new(Rerank { from, question, top, budget }) as Box<dyn Step>);
    read.finish(step)
}

impl Step for Rerank {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let question = render_with(cx, &self.question, &[])?;
        let given = hits::read(cx, &self.from)?;
        let num_given = given.len();
        let judged = judge(cx, question.trim(), given, self.budget)?;
        let best = judged.order.iter().map(|(h, _)| h.found.covers).fold(0.0, f64::max);
        let kept: Vec<Value> = judged.order.iter().take(self.top).map(|(hit, odds)| value_of(hit, *odds)).collect();
        let mut out = StepOutput { usage: judged.usage, ..StepOutput::default() };
        if judged.num_judged < num_given {
            out.notes.push(how_far(judged.num_judged, num_given, self.budget));
        }
        out.value = json!({ "hits": kept, "best": best, "explain": {
            "given": num_given, "judged": judged.num_judged, "top": self.top,
            "budget_ms": self.budget.as_millis() as u64, "spent_ms": judged.spent.as_millis() as u64,
        } });
        Ok(out)
    }
}

/// Returns a passage as templates see it, with its odds: none where it was not reached.
pub fn value_of(hit: &Hit, odds: Option<f64>) -> Value {
    let mut value = hits::value_of(hit);
    value["odds"] = json!(odds.map(|o| (o * 1000.0).round() / 1000.0));
    value
}

/// Returns a line on how many passages were judged.
pub fn how_far(judged: usize, given: usize, budget: Duration) -> String {
    format!("judged {judged} of {given} passages in the {} s of `budget`", budget.as_secs_f64())
}

/// Passages in their new order, each with its odds where it was reached.
pub struct Judged {
    pub order: Vec<(Hit, Option<f64>)>,
    pub num_judged: usize,
    pub spent: Duration,
    pub usage: Usage,
}

/// Judges passages in the order they are given until the time is over: a call that it catches is given up.
pub fn judge(cx: &StepContext<'_>, question: &str, given: Vec<Hit>, budget: Duration) -> Result<Judged, StepError> {
    let started = Instant::now();
    let deadline = started + budget;
    // The system message and the question stand before the passage: every prompt begins with them.
    let asker = Asker::new(cx)?.with_system(String::new()).until(deadline);
    let total = given.len();
    let mut usage = Usage::default();
    let mut judged: Vec<(Hit, f64)> = Vec::new();
    let mut longest = Duration::ZERO;
    let mut rest = given.into_iter();
    let mut unreached: Vec<Hit> = Vec::new();
    for hit in rest.by_ref() {
        // What would surely be given up is not begun.
        if started.elapsed() + longest / 2 >= budget {
            unreached.push(hit);
            break;
        }
        let names = json!({ "question": question, "passage": hit.passage.text });
        let began = Instant::now();
        match asker.odds_of_yes(&texts::render(&texts::RELEVANT, &names)?) {
            Ok((odds, used)) => {
                usage += used;
                judged.push((hit, odds));
                longest = longest.max(began.elapsed());
                (cx.progress)(judged.len(), total);
            }
            Err(error) if error.reason == Reason::TimedOut => {
                cx.cancel.check()?; // the step's own time is another matter
                unreached.push(hit);
                break;
            }
            // It cannot be read whole, and is not judged by half.
            Err(error) if error.reason == Reason::OverTheWindow => unreached.push(hit),
            Err(error) => return Err(error),
        }
    }
    unreached.extend(rest);
    let num_judged = judged.len();
    judged.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable: equals stay as they were
    let order = judged.into_iter().map(|(h, odds)| (h, Some(odds))).chain(unreached.into_iter().map(|h| (h, None)));
    Ok(Judged { order: order.collect(), num_judged, spent: started.elapsed(), usage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::{self, Fake, plain};

    fn options(top: usize, budget_ms: u64) -> Value {
        json!({ "from": "doc.list", "question": "Where is the key?", "top": top, "budget": budget_ms })
    }

    fn texts_of(out: &StepOutput) -> Vec<&str> {
        out.value["hits"].as_array().unwrap().iter().filter_map(|h| h["text"].as_str()).collect()
    }

    fn run(fake: &Fake, options: Value, list: &[&str]) -> StepOutput {
        let document = plain("Where is the key?");
        let step = fakes::build(&KIND, options).unwrap_or_else(|f| panic!("{f:?}"));
        fakes::run_with(step.as_ref(), &json!({ "doc": { "list": list } }), &document, fake).unwrap()
    }

    #[test]
    fn the_passage_that_the_model_says_yes_to_comes_first() {
        let fake = Fake::answering(|_| String::new()).with_odds(|prompt, answer| {
            let yes = answer.trim().eq_ignore_ascii_case("yes");
            if prompt.contains("under the mat") == yes { -0.1 } else { -3.0 }
        });
        let out = run(&fake, options(2, 60_000), &["It rains.", "The key is under the mat.", "It snows."]);
        assert_eq!(texts_of(&out), ["The key is under the mat.", "It rains."]);
        assert_eq!(out.value["explain"]["judged"], 3);
        assert_eq!(out.notes, [""; 0]);
    }

    #[test]
    fn when_the_time_is_over_the_rest_keeps_its_order_and_none_is_lost() {
        let fake = Fake::answering(|_| String::new()).with_odds(|_, _| {
            std::thread::sleep(Duration::from_millis(4)); // eight answers to a passage
            -1.0
        });
        let list: Vec<String> = (0..30).map(|i| format!("Passage {i}.")).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        // A second's work in four tenths: how closely the budget is kept is measured, not asserted on a busy machine.
        let out = run(&fake, options(20, 400), &list);
        let explain = &out.value["explain"];
        let judged = explain["judged"].as_u64().unwrap();
        assert!((1..30).contains(&judged), "{explain}");
        assert_eq!(texts_of(&out), &list[..20], "equals and the unreached stay as they were");
        assert!(out.notes[0].contains("of 30 passages"), "{:?}", out.notes);
        let none = run(&fake, options(20, 0), &list);
        assert_eq!((texts_of(&none).len(), none.value["explain"]["judged"].as_u64()), (20, Some(0)));
    }
}
