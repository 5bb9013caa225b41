//! The calls one document would cause, word for word: the inner loop of whoever writes a prompt. Loads no weights.

use serde::Serialize;
use serde_json::{Value, json};

use super::dry::{Asks, Call, DryRun, is_certain};
use super::look::{look, read};
use super::{RunEnvironment, RunError};
use crate::inference::engine::Constraint;
use crate::pipeline::model::{Foresight, ModelIdentity};
use crate::pipeline::plan::Plan;
use crate::steps::StepError;

/// What the model would be asked about a document.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    pub document: String,
    pub model: Option<ModelIdentity>,
    pub window: usize, // tokens
    pub calls: Vec<PreviewedCall>,
    /// What went wrong, answers that mean nothing included.
    pub faults: Vec<String>,
}

/// One call, word for word.
#[derive(Clone, Debug, Serialize)]
pub struct PreviewedCall {
    pub step: String,
    pub prompt: String, // special tokens by name
    pub prompt_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>, // of the answer
    /// What the answer has to keep to: `{"json_schema": …}`, `{"regex": …}`, `{"lark": …}` or `{"one_of": […]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Value>,
    /// False where answers decide the prompt, or whether it is asked at all: then it is one that might be.
    pub exact: bool,
    pub from_cache: bool,
}

/// Returns what the model would be asked about `document` by the steps of these ids, or by all where there are none.
pub fn preview(
    plan: &Plan,
    env: &RunEnvironment<'_>,
    model: &dyn Foresight,
    document: &str,
    steps: &[String],
) -> Result<Result<Preview, StepError>, RunError> {
    let look = look(plan, env)?;
    let input = look.find(document)?;
    let asks = plan.needs_model();
    let stand_in = |seed| if asks { model.stand_in(seed).map(Some) } else { Ok(None) };
    let first = DryRun::new(plan, env, &look, stand_in(1)?);
    let second = DryRun::new(plan, env, &look, stand_in(2)?);
    let document = match read(plan, env, input) {
        Ok(document) => document,
        Err(error) => return Ok(Err(error)),
    };
    let (one, other) = (first.walk(&document, input)?, second.walk(&document, input)?);
    let certain = is_certain(&one.calls, &other.calls);
    let stand_in = first.stand_in.as_ref();
    let text_of = |ids: &[_]| stand_in.map(|s| (s.text_of)(ids)).unwrap_or_default();
    let previewed = |(call, exact): (&Call, bool)| {
        let (max_tokens, grammar) = match &call.asks {
            Asks::Answer { max_tokens, constraint } => (Some(*max_tokens), grammar(constraint)),
            Asks::Odds { of } => {
                (None, Some(json!({ "one_of": of.iter().map(|ids| text_of(ids)).collect::<Vec<_>>() })))
            }
        };
        PreviewedCall {
            step: call.step.clone(),
            prompt: text_of(&call.prompt),
            prompt_tokens: call.prompt.len(),
            max_tokens,
            grammar,
            exact,
            from_cache: call.from_cache,
        }
    };
    let wanted = |(call, _): &(&Call, bool)| steps.is_empty() || steps.contains(&call.step);
    Ok(Ok(Preview {
        document: input.document.clone(),
        model: look.names.model.clone(),
        window: stand_in.map_or(0, |s| plan.model.defaults.window.unwrap_or(usize::MAX).min(s.generator.card().window)),
        calls: one.calls.iter().zip(certain).filter(wanted).map(previewed).collect(),
        faults: one.faults,
    }))
}

fn grammar(constraint: &Constraint) -> Option<Value> {
    match constraint {
        Constraint::None => None,
        Constraint::JsonSchema(schema) => Some(json!({ "json_schema": schema })),
        Constraint::Regex(pattern) => Some(json!({ "regex": pattern })),
        Constraint::Lark(grammar) => Some(json!({ "lark": grammar })),
    }
}
