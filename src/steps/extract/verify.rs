//! What must hold of an item before it is kept: the author's expressions, and the model's own yes or no.

use serde_json::{Map, Value, json};

use super::items::Item;
use super::record::Record;
use crate::steps::ask::Asker;
use crate::steps::options::Reader;
use crate::steps::parts::{Part, Piece};
use crate::steps::prompt::{Expression, Templates, texts};
use crate::steps::schema::{Validator, may_be_missing};
use crate::steps::text::clip;
use crate::steps::{StepContext, StepError, StepOutput};

#[derive(Debug, Default)]
pub struct Verify {
    expressions: Vec<Expression>,
    /// The least probability of yes.
    support: Option<f64>,
    text_last: bool, // in the prompt
}

impl Verify {
    pub fn read(read: &mut Reader<'_>) -> Self {
        let mut verify = Self { text_last: read.text_last(), ..Self::default() };
        let rules = read.at(&["verify"]).and_then(Value::as_array).cloned().unwrap_or_default();
        for (i, rule) in rules.iter().enumerate() {
            match (rule.get("support").and_then(Value::as_f64), rule.as_str()) {
                (Some(least), _) => verify.support = Some(verify.support.map_or(least, |s: f64| s.max(least))),
                (None, Some(source)) => match Templates::new().compile_expression(source) {
                    Ok(expression) => verify.expressions.push(expression),
                    Err(fault) => read.fault(&["verify", &i.to_string()], fault.message),
                },
                (None, None) => {}
            }
        }
        verify
    }

    /// Drops the items that do not hold, and says how many and why. An expression that cannot be evaluated fails the
    /// step: it is a mistake in the file and no property of an item.
    pub fn apply(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        items: &mut Vec<Item>,
        out: &mut StepOutput,
    ) -> Result<(), StepError> {
        if let Some(least) = self.support {
            self.support(cx, asker, instruct, items, out)?;
            let before = items.len();
            let probability = |i: &Item| i.fields.get("support").and_then(Value::as_f64).unwrap_or(1.0);
            items.retain(|i| probability(i) >= least);
            if items.len() < before {
                out.notes
                    .push(format!("dropped {} of {before} items with a support below {least}", before - items.len()));
            }
        }
        for expression in &self.expressions {
            let mut names = cx.names.clone();
            let mut dropped = Vec::new();
            let mut kept = Vec::new();
            for item in items.drain(..) {
                names["item"] = Value::Object(item.fields.clone());
                names["out"] = names["item"].clone();
                if Templates::new().test(expression, &names)? { kept.push(item) } else { dropped.push(item) }
            }
            *items = kept;
            if let Some(first) = dropped.first() {
                let shown = clip(&Value::Object(first.fields.clone()).to_string(), 80);
                out.notes.push(format!(
                    "dropped {} items for which `{}` does not hold, such as {shown}",
                    dropped.len(),
                    expression.source()
                ));
            }
        }
        Ok(())
    }

    /// Returns what does not hold of a record: the expressions, as they are written, and the schema's keywords. A field
    /// that the record leaves out is none.
    pub fn failed(
        &self,
        cx: &StepContext<'_>,
        validator: &Validator,
        record: &Map<String, Value>,
    ) -> Result<Vec<String>, StepError> {
        let mut names = cx.names.clone();
        let mut whole = record.clone();
        for field in validator.fields() {
            whole.entry(field).or_insert(Value::Null);
        }
        names["out"] = Value::Object(whole);
        names["item"] = names["out"].clone();
        let mut failed = Vec::new();
        for expression in &self.expressions {
            if !Templates::new().test(expression, &names)? {
                failed.push(expression.source().trim().to_owned());
            }
        }
        failed.extend(validator.fault(&Value::Object(record.clone())));
        Ok(failed)
    }

    /// Takes out the values of a record whose quote does not say them, where the schema lets them be missing; where it
    /// does not, the document is partial.
    pub fn withhold(&self, record: &mut Record, schema: &Value, out: &mut StepOutput) {
        let Some(least) = self.support else { return };
        let support = |e: &Value| e.get("support").and_then(Value::as_f64);
        let weak: Vec<(String, f64)> = record
            .evidence
            .iter()
            .filter_map(|(name, e)| Some((name.clone(), support(e).filter(|s| *s < least)?)))
            .collect();
        for (name, support) in weak {
            let Some(can_be_null) = may_be_missing(schema, &name) else {
                out.partial.push(format!("`{name}` has a support of {support}, below {least}"));
                continue;
            };
            if can_be_null {
                record.fields.insert(name.clone(), Value::Null);
            } else {
                record.fields.remove(&name);
            }
            out.notes.push(format!("left out `{name}`: its quote has a support of {support}, below {least}"));
        }
    }

    /// Asks of each item whether it is true of the turns read for it. The odds of yes against no are taken against
    /// the same odds after the same question without a text, so that a model that likes to say yes gains nothing by it.
    fn support(
        &self,
        cx: &StepContext<'_>,
        asker: &Asker<'_>,
        instruct: &str,
        items: &mut [Item],
        out: &mut StepOutput,
    ) -> Result<(), StepError> {
        let total = items.len();
        for (i, item) in items.iter_mut().enumerate() {
            cx.cancel.check()?;
            let pieces =
                item.window.iter().map(|&t| Piece { turn: Some(t), range: cx.document.turns[t].range.clone() });
            let text = Part { pieces: pieces.collect(), num_tokens: 0 }.speech(cx.document);
            let says = item.fields.iter().filter(|(k, v)| {
                !v.is_null() && !matches!(k.as_str(), "evidence" | "at" | "said" | "quoted" | "support" | "conflicts")
            });
            let says: Vec<String> = says
                .map(|(k, v)| format!("{k}: {}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
                .collect();
            let mut odds = [0.0; 2];
            for (with_text, odds) in [text.as_str(), ""].into_iter().zip(&mut odds) {
                let names = json!({
                    "text": with_text, "text_last": self.text_last, "instruct": instruct, "item": says.join("; "),
                    "said": item.fields.get("said").and_then(Value::as_str),
                    "speaker": item.turns.first().and_then(|&t| cx.document.turns[t].speaker.as_deref()),
                });
                let (of_yes, usage) = asker.odds_of_yes(&texts::render(&texts::SUPPORT, &names)?)?;
                out.usage += usage;
                *odds = of_yes;
            }
            let probability = 1.0 / (1.0 + (odds[1] - odds[0]).exp());
            item.fields.insert("support".into(), json!((probability * 1000.0).round() / 1000.0));
            (cx.progress)(i + 1, total);
        }
        Ok(())
    }
}
