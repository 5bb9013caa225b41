//! `quarry index`: passages that can be found again. Builds, updates, searches, checks and measures an index.

mod build;
mod evaluate;
mod search;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

pub use build::{
    Listed, Unbrought, bring, default_split, files, origins, resident, summary, tell_failed, tell_warnings,
};
pub use search::show_hits;

use super::embedder::ResidentEmbedder;
use super::exit::Exit;
use super::options::Settings;
use super::{Failure, print};
use crate::corpus::index::{DiskIndex, IndexError, check};
use crate::diagnostic::Diagnostic;

/// Build, update, search, check or measure an index of passages
#[derive(Args, Debug)]
pub struct IndexCommand {
    #[command(subcommand)]
    command: IndexSubcommand,
}

#[derive(Subcommand, Debug)]
enum IndexSubcommand {
    /// Build an index of files, or bring one to what they hold now
    Build(build::BuildArgs),
    /// Bring an index to what its files hold now: only what has changed is read
    Update(build::UpdateArgs),
    /// Find passages
    Search(search::SearchArgs),
    /// Look for damage: every file against its checksum, the parts against each other
    Check(FolderArgs),
    /// Say what an index holds
    Stats(FolderArgs),
    /// Measure how well an index finds what people judged relevant
    Eval(evaluate::EvalArgs),
}

#[derive(Args, Debug)]
struct FolderArgs {
    /// The index's folder
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Give the result as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &IndexCommand, settings: &Settings) -> Result<Exit, Failure> {
    match &command.command {
        IndexSubcommand::Build(args) => build::run(args, settings),
        IndexSubcommand::Update(args) => build::update(args, settings),
        IndexSubcommand::Search(args) => search::run(args, settings),
        IndexSubcommand::Check(args) => look(args),
        IndexSubcommand::Stats(args) => stats(args),
        IndexSubcommand::Eval(args) => evaluate::run(args, settings),
    }
}

fn look(args: &FolderArgs) -> Result<Exit, Failure> {
    let health = check(&args.index)?;
    let sound = health.damage.is_empty();
    if args.json {
        print::json(&json!({ "sound": sound, "damage": health.damage, "stats": health.stats }))?;
    } else if sound {
        let passages = health.stats.as_ref().map_or(0, |s| s.passages);
        print::result(&format!("sound: {passages} passages"))?;
    }
    if sound {
        return Ok(Exit::Done);
    }
    let found = |fact: &String| Diagnostic::error(format!("{}: {fact}", args.index.display()));
    let mut diagnostics: Vec<Diagnostic> = health.damage.iter().map(found).collect();
    if let Some(last) = diagnostics.pop() {
        diagnostics.push(last.hint("`quarry index build --fresh` makes it anew"));
    }
    Err(Failure { exit: Exit::NoModel, diagnostics })
}

fn stats(args: &FolderArgs) -> Result<Exit, Failure> {
    let index = DiskIndex::open(&args.index)?;
    let stats = index.stats();
    if args.json {
        print::json(&json!({ "stats": stats, "settings": index.settings() }))?;
        return Ok(Exit::Done);
    }
    let languages: Vec<String> = stats.languages.iter().map(|(code, n)| format!("{code} {n}")).collect();
    let mut lines = vec![
        format!("files      {} ({} could not be read)", stats.files, stats.failed),
        format!("passages   {}", stats.passages),
        format!("languages  {}", languages.join(", ")),
        format!("size       {:.1} MB in {} segments", stats.bytes as f64 / 1e6, stats.text_segments),
    ];
    if let Some(embedder) = &stats.embedder {
        lines.push(format!("vectors    {} of {} dimensions by {embedder}", stats.vectors, stats.dims));
    }
    print::result(&print::shown(&lines.join("\n")))?;
    Ok(Exit::Done)
}

/// Opens an index and, where it has vectors and they are wanted, the model that made them.
pub fn open(
    folder: &std::path::Path,
    words_only: bool,
    settings: &Settings,
) -> Result<(DiskIndex, Option<ResidentEmbedder>), Failure> {
    let index = DiskIndex::open(folder)?;
    let embedder = match &index.settings().embedder {
        Some(id) if !words_only => Some(resident(id, settings)?),
        _ => None,
    };
    Ok((index, embedder))
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        let diagnostic = Diagnostic::error(error.to_string());
        let (exit, hint) = match &error {
            IndexError::Missing { .. } => (Exit::NoModel, "make one with `quarry index build INDEX FOLDER`"),
            IndexError::NotAnIndex { .. } => (Exit::Wrong, "choose another folder"),
            IndexError::Locked { .. } => (Exit::Locked, "wait for it to end; its lock goes with it"),
            IndexError::Damaged { .. } => (Exit::NoModel, "`quarry index build --fresh` makes it anew"),
            IndexError::Mismatch { .. } => {
                (Exit::NoModel, "`quarry index build --fresh` makes it anew; another folder keeps both")
            }
            IndexError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound => {
                    (Exit::Wrong, "what was committed before is kept")
                }
                _ => (Exit::OutOfResources, "what was committed before is kept"),
            },
            IndexError::Embedding(_) => (Exit::NoModel, "what was committed before is kept"),
            IndexError::Cancelled => (Exit::Interrupted, "what was committed before is kept"),
        };
        Self::new(exit, diagnostic.hint(hint))
    }
}
