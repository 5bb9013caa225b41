//! `quarry diff`: what two runs gave differently.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

use super::exit::Exit;
use super::options::{Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::pipeline::diff::{Changed, DiffError, Difference, Side, diff};

/// Compare what two runs gave: documents, fields, states, measures, models and options
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The earlier run: the folder of its outputs, its state folder or run.json, or its records as .jsonl
    #[arg(value_name = "RUN")]
    pub before: PathBuf,
    /// The later run
    #[arg(value_name = "RUN")]
    pub after: PathBuf,
    /// End with 7 where anything is different
    #[arg(long)]
    pub exit_code: bool,
    /// Give the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DiffArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (before, after) = (Side::read(&args.before).map_err(failure)?, Side::read(&args.after).map_err(failure)?);
    let found = diff(&before, &after);
    if args.json {
        print::json(&serde_json::to_value(&found).unwrap_or_default())?;
    } else if settings.verbosity > Verbosity::Quiet || !found.is_none() {
        print::result(&print::shown(&summary(&found, settings.verbosity >= Verbosity::Verbose)))?;
    }
    Ok(if args.exit_code && !found.is_none() { Exit::CheckFailed } else { Exit::Done })
}

fn failure(error: DiffError) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    Failure::from(match error {
        DiffError::NoRun(_) => {
            diagnostic.hint("give the folder that a run's outputs are in, or its .quarry/<pipeline> folder")
        }
        DiffError::Several { .. } => diagnostic.hint("name one of them"),
        DiffError::Unreadable { .. } => diagnostic,
    })
}

/// Documents, and changes of one document, that are listed; `-v` and `--json` tell all.
const FEW: usize = 20;

fn summary(found: &Difference, all: bool) -> String {
    let most = if all { usize::MAX } else { FEW };
    let mut text = String::new();
    if !found.runs.is_empty() {
        text.push_str("The runs\n");
        for change in found.runs.iter().take(most) {
            // Of options only hashes are known.
            let line = if change.what.starts_with("steps.") {
                format!("  {}: {}\n", change.what, verb(change))
            } else {
                line(change)
            };
            text.push_str(&line);
        }
        more(&mut text, found.runs.len(), most);
    }
    if !found.figures.is_empty() {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["MEASURE", "BEFORE", "AFTER", "CHANGE"]);
        let shown = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
        for figure in &found.figures {
            let change = figure.before.zip(figure.after).map(|(b, a)| format!("{:+.3}", a - b)).unwrap_or_default();
            table.add_row([figure.name.clone(), shown(figure.before), shown(figure.after), change]);
        }
        for column in 1..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text.push_str(&format!("{table}\n"));
    }
    for (what, names) in [("only in the first", &found.removed), ("only in the second", &found.added)] {
        names.iter().take(most).for_each(|name| text.push_str(&format!("{what}: {name}\n")));
        more(&mut text, names.len(), most);
    }
    for document in found.documents.iter().take(most) {
        text.push_str(&document.document);
        if let Some((before, after)) = &document.state {
            text.push_str(&format!("  {before} -> {after}"));
        }
        text.push_str(if document.source_changed { "  (the document itself changed)\n" } else { "\n" });
        document.fields.iter().take(most).for_each(|change| text.push_str(&line(change)));
        more(&mut text, document.fields.len(), most);
        document.pages.iter().for_each(|page| text.push_str(&format!("  the page of output {page} changed\n")));
    }
    more(&mut text, found.documents.len(), most);
    found.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text.push_str(&format!(
        "{} documents are the same, {} changed, {} are only in the first run, {} only in the second\n",
        found.unchanged,
        found.documents.len(),
        found.removed.len(),
        found.added.len()
    ));
    text
}

fn more(text: &mut String, num: usize, most: usize) {
    if num > most {
        text.push_str(&format!("  and {} more; -v tells them all\n", num - most));
    }
}

fn verb(change: &Changed) -> &'static str {
    match (&change.before, &change.after) {
        (Value::Null, _) => "is new",
        (_, Value::Null) => "is gone",
        _ => "changed",
    }
}

fn line(change: &Changed) -> String {
    let shown = |value: &Value| {
        const LONGEST: usize = 70; // characters
        let text = match value {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    };
    format!("  {}: {} -> {}\n", change.what, shown(&change.before), shown(&change.after))
}
