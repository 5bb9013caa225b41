//! What a run would do and take, told before it: which documents and why, what the model would be asked, and how long.
//!
//! Every document that is to be done is walked twice with a stand-in for the model, with other answers each time. A call
//! that both walks ask in the same words depends on the document alone: its tokens are counted, exactly. The others
//! depend on answers; how many they are and how long is the mean of the two walks, a guess, and told as one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dry::{Call, Dry, DryRun, is_certain};
use super::look::{look, passes_over, read};
use super::replay::{Group, replay};
use super::standing::{Because, Standing};
use super::{RunEnvironment, RunError};
use crate::inference::engine::{GenerateError, Speeds};
use crate::pipeline::model::{Foresight, Measured, ModelError, ModelErrorCause, ModelIdentity};
use crate::pipeline::panics;
use crate::pipeline::plan::{Plan, StepPlan};
use crate::steps::Reason;

/// Changes when a key of the JSON form changes its name or meaning.
pub const ESTIMATE_SCHEMA_VERSION: u32 = 1;

/// What a process takes beside weights, keys and values: documents, buffers, the program itself.
pub const OTHER_BYTES: usize = 200 << 20;

/// What a run would do and take.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    pub schema_version: u32,
    pub pipeline: String,
    pub model: Option<ModelIdentity>,
    pub counts: Standings,
    pub documents: Vec<DocumentEstimate>, // those to be done, in the order of the inputs
    pub steps: Vec<StepEstimate>,
    pub calls: Tokens, // of all steps
    pub memory: Option<Memory>,
    pub time: Option<Time>,
    pub notes: Vec<String>,
}

/// How the documents stand before the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standings {
    pub inputs: usize,
    pub to_do: usize,
    pub unchanged: usize,
    /// Failed for a reason that trying again would not change.
    pub failed_before: usize,
    pub unreadable: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct DocumentEstimate {
    pub document: String,
    pub because: Because,
    pub calls: Tokens,
    /// Why it will fail, where that is certain already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will_fail: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StepEstimate {
    pub step: String,
    pub verb: &'static str,
    pub documents: usize, // in which it is done, as far as `when` can be told
    #[serde(flatten)]
    pub calls: Tokens,
}

/// Calls and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub calls: usize,         // that depend on documents alone
    pub prompt_tokens: usize, // of these: exact
    pub calls_guessed: usize, // that depend on answers
    pub prompt_tokens_guessed: usize,
    pub from_cache: usize,    // further calls, which are answered already
    pub shared_tokens: usize, // of all prompts, computed for an earlier prompt of the document
    pub answer_tokens_guessed: usize,
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.prompt_tokens += other.prompt_tokens;
        self.calls_guessed += other.calls_guessed;
        self.prompt_tokens_guessed += other.prompt_tokens_guessed;
        self.from_cache += other.from_cache;
        self.shared_tokens += other.shared_tokens;
        self.answer_tokens_guessed += other.answer_tokens_guessed;
    }
}

impl Tokens {
    /// Returns them with what two walks guessed, summed, as its mean; a call that one of them has is one.
    fn mean_of_guesses(self) -> Self {
        let (calls_guessed, tokens) = (self.calls_guessed.div_ceil(2), self.prompt_tokens_guessed.div_ceil(2));
        Self { calls_guessed, prompt_tokens_guessed: tokens, ..self }
    }
}

/// The most memory a run would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub weight_bytes: usize,
    pub kv_bytes: usize,
    pub other_bytes: usize,
    pub total_bytes: usize,
}

/// How long a run would take on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Time {
    pub seconds: f64,
    pub load_seconds: f64,
    pub prompt_seconds: f64, // reading prompts
    pub answer_seconds: f64, // writing answers
    pub other_seconds: f64,  // reading files, filling templates, checking answers
    pub speeds: Speeds,
}

/// Reckons what a run would do and take; `model` also stands in the environment. Writes nothing.
///
/// Without `with_time` the model is not loaded. Documents are walked in the order of the inputs; `told` is called after
/// each with (done, of).
pub fn estimate(
    plan: &Plan,
    env: &RunEnvironment<'_>,
    model: &dyn Foresight,
    with_time: bool,
    told: &dyn Fn(usize, usize),
) -> Result<Estimate, RunError> {
    let look = look(plan, env)?;
    let standings = look.standings(plan, env);
    let mut counts = Standings { inputs: standings.len(), ..Standings::default() };
    for standing in &standings {
        *match standing {
            Standing::Unchanged => &mut counts.unchanged,
            Standing::FailedBefore => &mut counts.failed_before,
            Standing::Unreadable(_) => &mut counts.unreadable,
            Standing::ToDo { .. } => &mut counts.to_do,
        } += 1;
    }
    let asks = plan.needs_model() && counts.to_do > 0;
    let stand_in = |seed| if asks { model.stand_in(seed).map(Some) } else { Ok(None) };
    let walks = [DryRun::new(plan, env, &look, stand_in(1)?), DryRun::new(plan, env, &look, stand_in(2)?)];
    let mut sum = Sum::default();
    let mut documents = Vec::new();
    for (index, standing) in look.selected.iter().zip(&standings) {
        let Standing::ToDo { because, .. } = standing else { continue };
        if matches!(env.cancel.check(), Err(GenerateError::Cancelled)) {
            return Err(ModelError { cause: ModelErrorCause::Cancelled, ..ModelError::new("stopped") }.into());
        }
        let input = &look.inputs[*index];
        let mut one = DocumentEstimate {
            document: input.document.clone(),
            because: because.clone(),
            calls: Tokens::default(),
            will_fail: None,
        };
        let read = panics::caught(|| read(plan, env, input));
        match read {
            Ok(Ok(document)) => {
                let first = walks[0].walk(&document, input)?;
                let second = walks[1].walk(&document, input)?;
                one.will_fail = will_fail(&first, &second);
                one.calls = sum.add(&first, &second);
            }
            Ok(Err(error)) if passes_over(plan, input, &error) => {}
            Ok(Err(error)) => one.will_fail = Some(error.to_string()),
            Err(panic) => one.will_fail = Some(format!("the reader has a bug: {panic}")),
        }
        documents.push(one);
        told(documents.len(), counts.to_do);
    }
    let mut notes = look.notes.clone();
    if plan.has_whole() {
        notes.push("what is done over all documents is not in these figures: it depends on what comes of each".into());
    }
    let step = |s: &StepPlan| StepEstimate {
        step: s.id.clone(),
        verb: s.kind.name,
        documents: sum.steps.get(&s.id).map_or(0, |(documents, _)| *documents),
        calls: sum.steps.get(&s.id).map(|(_, calls)| *calls).unwrap_or_default(),
    };
    let steps: Vec<StepEstimate> = plan.steps.iter().map(step).collect();
    let mut calls = Tokens::default();
    steps.iter().for_each(|s| calls += s.calls);
    let stand_in = walks[0].stand_in.as_ref();
    let is_asked = calls.calls + calls.calls_guessed > 0;
    let measured = match with_time && is_asked && stand_in.is_some_and(|s| !s.is_the_model) {
        true => model.measure()?,
        false => None,
    };
    let jobs = env.options.jobs.unwrap_or(plan.run.in_flight).clamp(1, counts.to_do.max(1));
    let memory = stand_in.filter(|_| is_asked).map(|s| {
        let footprint = s.footprint;
        let weight_bytes = measured.as_ref().map_or(footprint.weight_bytes, |m| m.weight_bytes);
        // A long run comes to use all the room there is: what is done is kept for prompts that begin alike.
        let kv_bytes = footprint.kv_token_bytes * sum.num_computed.min(footprint.kv_tokens_max);
        let other_bytes = OTHER_BYTES;
        Memory { weight_bytes, kv_bytes, other_bytes, total_bytes: weight_bytes + kv_bytes + other_bytes }
    });
    let time = measured.map(|measured| time(&sum, jobs, measured));
    Ok(Estimate {
        schema_version: ESTIMATE_SCHEMA_VERSION,
        pipeline: plan.name.clone(),
        model: look.names.model.clone(),
        counts,
        documents,
        steps,
        calls,
        memory,
        time,
        notes,
    })
}

fn time(sum: &Sum, jobs: usize, measured: Measured) -> Time {
    let replayed = replay(&sum.groups, jobs, &measured.speeds);
    // The engine computes on every core: what documents do beside it takes its share of them.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let other_seconds = sum.own_seconds / cores as f64;
    Time {
        seconds: measured.load_seconds + replayed.seconds + other_seconds,
        load_seconds: measured.load_seconds,
        prompt_seconds: replayed.prompt_seconds,
        answer_seconds: replayed.seconds - replayed.prompt_seconds,
        other_seconds,
        speeds: measured.speeds,
    }
}

/// What is certain to fail does so whatever is answered, and for a reason that is the document's.
fn will_fail(first: &Dry, second: &Dry) -> Option<String> {
    let certain = [Reason::OverTheWindow, Reason::NoTextFound, Reason::TooLarge];
    let is_certain = |fault: &&String| certain.iter().any(|reason| fault.contains(&format!(": {reason}: ")));
    first.faults.iter().filter(is_certain).find(|fault| second.faults.contains(fault)).cloned()
}

/// What the walks come to.
#[derive(Default)]
struct Sum {
    steps: BTreeMap<String, (usize, Tokens)>, // (documents, calls)
    groups: Vec<Vec<Group>>,                  // of each document
    num_computed: usize,                      // tokens, prompts and answers
    own_seconds: f64,
}

impl Sum {
    /// Takes in both walks over a document and returns its calls.
    fn add(&mut self, first: &Dry, second: &Dry) -> Tokens {
        let mut all = Tokens::default();
        let mut of_steps: BTreeMap<String, Tokens> = BTreeMap::new();
        for step in &first.steps {
            self.steps.entry(step.clone()).or_default().0 += 1;
        }
        let certain = [is_certain(&first.calls, &second.calls), is_certain(&second.calls, &first.calls)];
        for (number, (dry, certain)) in [first, second].into_iter().zip(certain).enumerate() {
            for (call, is_certain) in dry.calls.iter().zip(certain) {
                let mut one = Tokens::default();
                let counts = number == 0;
                match (is_certain, call.from_cache) {
                    // Answers that mean nothing are alike more often than a model's: that one is known says nothing.
                    (false, _) => (one.calls_guessed, one.prompt_tokens_guessed) = (1, call.prompt_tokens),
                    (true, true) => one.from_cache = usize::from(counts),
                    (true, false) if counts => (one.calls, one.prompt_tokens) = (1, call.prompt_tokens),
                    (true, false) => {}
                }
                if !call.from_cache && counts {
                    one.shared_tokens = call.shared_tokens;
                    one.answer_tokens_guessed = call.answer_tokens;
                }
                *of_steps.entry(call.step.clone()).or_default() += one;
            }
        }
        for (step, calls) in of_steps {
            let calls = calls.mean_of_guesses();
            all += calls;
            self.steps.entry(step).or_default().1 += calls;
        }
        self.groups.push(groups(&first.calls));
        let computed = |call: &Call| call.sequences.iter().map(|s| s.fresh + s.answer).sum::<usize>();
        self.num_computed += first.calls.iter().map(computed).sum::<usize>();
        self.own_seconds += first.own_seconds;
        all
    }
}

/// Puts calls that were asked at once together.
fn groups(calls: &[Call]) -> Vec<Group> {
    const ROWS: usize = 512; // of a pass, as the stand-in makes them
    let mut groups: Vec<(usize, Vec<&Call>)> = Vec::new();
    for call in calls.iter().filter(|c| !c.from_cache) {
        match groups.last_mut() {
            Some((group, members)) if *group == call.group => members.push(call),
            _ => groups.push((call.group, vec![call])),
        }
    }
    let group = |(_, calls): (usize, Vec<&Call>)| {
        let sequences: Vec<_> = calls.iter().flat_map(|c| c.sequences.iter().copied()).collect();
        let fresh: usize = sequences.iter().map(|s| s.fresh).sum();
        let longest = sequences.iter().map(|s| s.answer).max().unwrap_or(0);
        let passes = calls.first().map_or(0, |c| c.num_passes).saturating_sub(fresh.div_ceil(ROWS));
        let pace = if passes == 0 { 1.0 } else { (longest as f64 / passes as f64).max(1.0) };
        Group { sequences, pace }
    };
    groups.into_iter().map(group).collect()
}
