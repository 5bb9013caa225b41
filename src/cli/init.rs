//! `quarry init`: a commented pipeline to begin with, and the schema that editors check it by.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::options::{Settings, Verbosity};
use super::{Failure, print};
use crate::diagnostic::Diagnostic;
use crate::pipeline::editor;
use crate::steps::STEP_KINDS;

/// The file that the first line of a starter names.
const SCHEMA_FILE: &str = "pipeline.schema.json";

/// Write a commented pipeline file to begin with
#[derive(Args, Debug)]
pub struct InitArgs {
    /// What it is to do
    #[arg(value_enum, value_name = "KIND")]
    pub kind: Starter,
    /// Where it is written [default: KIND.yaml]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// Minutes of meetings: a page per transcript and a list of tasks
    Minutes,
    /// Records of a shape that you say, one JSON line per document
    Extract,
    /// One label per document, with its probability
    Classify,
    /// A summary per document
    Summarize,
    /// Questions answered from the documents of a folder
    Qa,
}

impl Starter {
    fn name(self) -> &'static str {
        match self {
            Self::Minutes => "minutes",
            Self::Extract => "extract",
            Self::Classify => "classify",
            Self::Summarize => "summarize",
            Self::Qa => "qa",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Minutes => include_str!("../../templates/starters/minutes.yaml"),
            Self::Extract => include_str!("../../templates/starters/extract.yaml"),
            Self::Classify => include_str!("../../templates/starters/classify.yaml"),
            Self::Summarize => include_str!("../../templates/starters/summarize.yaml"),
            Self::Qa => include_str!("../../templates/starters/qa.yaml"),
        }
    }

    /// An example of what should come out, for the folder that its `eval` names.
    fn golden(self) -> &'static str {
        match self {
            Self::Minutes => include_str!("../../templates/starters/golden/minutes.yaml"),
            Self::Extract => include_str!("../../templates/starters/golden/extract.yaml"),
            Self::Classify => include_str!("../../templates/starters/golden/classify.yaml"),
            Self::Summarize => include_str!("../../templates/starters/golden/summarize.yaml"),
            Self::Qa => include_str!("../../templates/starters/golden/qa.yaml"),
        }
    }
}

pub fn run(args: &InitArgs, settings: &Settings) -> Result<Exit, Failure> {
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.yaml", args.kind.name())));
    let shown = print::shown(&file.to_string_lossy());
    // Its comments say what to type next, and the file may be called otherwise.
    let named = |text: &str| text.replace(&format!("{}.yaml", args.kind.name()), &shown);
    write_new(&file, &named(args.kind.text()))?;
    let golden = file.with_file_name("golden").join(args.kind.name());
    let example = golden.join("example.yaml");
    if !example.exists() {
        std::fs::create_dir_all(&golden)
            .map_err(|error| Diagnostic::error(format!("{} cannot be made: {error}", golden.display())))?;
        write_new(&example, &named(args.kind.golden()))?;
    }
    let schema = file.with_file_name(SCHEMA_FILE);
    if !schema.exists() {
        write_new(&schema, &format!("{:#}\n", editor::schema(STEP_KINDS)))?;
    }
    if settings.verbosity > Verbosity::Quiet {
        print::result(&format!(
            "{shown} is written. Say in it where your documents are, then:\n  quarry check {shown}                 every mistake at \
             once, without a model\n  quarry test {shown}                  its own tests\n  quarry preview {shown} --document X  \
             the exact prompts of one document, without a model's weights\n  quarry plan {shown}                  what \
             would be done, and how long it takes\n  quarry run {shown} --limit 1 --show  one document, and what each step \
             made of it\n  quarry run {shown}                   all of them\n  quarry eval {shown}                  \
             against what you say is right, in {}",
            print::shown(&golden.to_string_lossy())
        ))?;
    }
    Ok(Exit::Done)
}

/// A file that is there is never written over.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let written =
        File::options().write(true).create_new(true).open(path).and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|error| {
        let fault = Diagnostic::error(format!("{} cannot be written: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => fault.hint("name another file behind the kind").into(),
            _ => fault.into(),
        }
    })
}
