//! Writes what comes out: pages, one file per document, and tables, one file for all. Read [`Output`] first.
//!
//! A page is on the disk before the journal says so; a row is in the journal before it is in its table. So whatever
//! the journal claims is there, or can be built from it. Knows no model and no step.

pub mod claims;
pub mod file_names;
mod html;
mod pages;
#[cfg(feature = "parquet")]
mod parquet;
mod provenance;
mod removed;
mod review;
mod table_rows;
mod tables;

pub use pages::{PageError, is_intact, mark, write_page};
pub use provenance::{Provenance, QUARRY_VERSION};
pub use review::policy_hash;
pub use tables::{Filled, Table, TableError};

pub(super) use pages::tombstone;

use serde_json::Value;

use super::evaluate::Scope;
use super::journal::Row;
use super::plan::{Contract, OutputContent, OutputFormat, OutputPlan};
use crate::steps::Reason;

/// What one document gives to one output.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// `only` does not hold for this document.
    Nothing,
    /// The content is none, with the expression that said so: the step that makes it was left out.
    Missing(String),
    Page(String),
    Rows(Vec<Row>),
}

/// Why an output could not be made of a document: one line, without the output's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFault {
    pub reason: Reason,
    pub detail: String,
}

impl From<String> for OutputFault {
    fn from(detail: String) -> Self {
        Self { reason: Reason::TemplateFailed, detail }
    }
}

/// Evaluates an output over the names of a document.
pub fn evaluate(output: &OutputPlan, scope: &mut Scope, provenance: &Provenance) -> Result<Output, OutputFault> {
    // A review's own condition names what only the review knows.
    if let Some(only) = &output.only
        && !matches!(output.content, OutputContent::Review { .. })
        && !scope.holds(only)?
    {
        return Ok(Output::Nothing);
    }
    match &output.content {
        OutputContent::Review { steps } => {
            let row = review::row(steps, output.only.as_deref(), scope, provenance)?;
            Ok(row.map_or(Output::Nothing, |text| Output::Rows(vec![Row { key: None, text }])))
        }
        OutputContent::Text(expression) => {
            let text = match scope.evaluate(expression)? {
                Value::Null => return Ok(Output::Missing(expression.clone())),
                value => text_of(expression, value)?,
            };
            let text = match (output.format, output.is_markup) {
                (OutputFormat::Html, false) => html::page(&text, &provenance.document),
                _ => text,
            };
            Ok(Output::Page(pages::with_provenance(text, output.format, provenance)))
        }
        OutputContent::Records { fields, key, explode } => {
            let items = match explode {
                None => None,
                Some(expression) => match scope.evaluate(expression)? {
                    Value::Null => Some(Vec::new()),
                    Value::Array(items) => Some(items),
                    other => return Err(format!("`{expression}` gives {}, not a list", kind_of(&other)).into()),
                },
            };
            let row = |scope: &Scope| -> Result<Row, OutputFault> {
                let values = fields.iter().map(|(name, e)| Ok((name.as_str(), scope.evaluate(e)?)));
                let values = values.collect::<Result<Vec<_>, String>>()?;
                if let Some(contract) = &output.contract {
                    keep(contract, &values)?;
                }
                let key = key.as_ref().map(|k| scope.evaluate(k).map(|v| v.to_string())).transpose()?;
                Ok(Row { key, text: tables::row_text(output.format, values, provenance)? })
            };
            let Some(items) = items else { return Ok(Output::Rows(vec![row(scope)?])) };
            let mut rows = Vec::with_capacity(items.len());
            for item in &items {
                scope.set("item", item);
                rows.push(row(scope)?);
            }
            Ok(Output::Rows(rows))
        }
    }
}

/// Holds a record to its contract.
fn keep(contract: &Contract, values: &[(&str, Value)]) -> Result<(), OutputFault> {
    const SHOWN: usize = 3; // faults
    let record = Value::Object(values.iter().map(|(name, value)| (name.to_string(), value.clone())).collect());
    let faults: Vec<String> = contract
        .validator
        .iter_errors(&record)
        .map(|e| match e.instance_path().to_string() {
            at if at.is_empty() => e.to_string(),
            at => format!("{at}: {e}"),
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let more = if faults.len() > SHOWN { format!(" and {} more", faults.len() - SHOWN) } else { String::new() };
    let shown = faults[..faults.len().min(SHOWN)].join("; ");
    let detail = format!("the record breaks its contract `{}`: {shown}{more}", contract.name);
    Err(OutputFault { reason: Reason::SchemaNotMet, detail: detail.replace('\n', " ") })
}

/// Returns what stands above the rows of a table: the columns' names, or the frame of a page.
pub fn header(output: &OutputPlan) -> Option<String> {
    match &output.content {
        OutputContent::Records { fields, .. } if output.format == OutputFormat::Csv => {
            tables::header_text(fields.iter().map(|(name, _)| name.as_str())).ok()
        }
        OutputContent::Review { .. } => Some(review::head(&output.name)),
        _ => None,
    }
}

/// A page is text: a step that gives an object with a `text`, as `summarize` does, stands for that text, with its
/// citations where it has them.
fn text_of(expression: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Object(map) => match map.get("cited").filter(|c| c.is_string()).or(map.get("text")) {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Err(format!("`{expression}` gives an object without `text`, not a page")),
        },
        other => Err(format!("`{expression}` gives {}, not a page", kind_of(&other))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "none",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
