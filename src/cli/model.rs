//! `quarry model`: what models there are, how they are had, and what is in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::Exit;
use super::models::{self, Downloads, EngineArgs};
use super::options::Settings;
use super::{Failure, npy, print};
use crate::diagnostic::Diagnostic;
use crate::ids::TokenId;
use crate::inference::engine::{Goal, Quantize, load_core, run_alone};
use crate::inference::hub;
use crate::inference::model::ModelSource;

/// Longest list of token ids that `model logits` takes: its output has a row of the vocabulary for each.
const LOGITS_TOKENS_MAX: usize = 16_384;

/// List, fetch, check and look into models
#[derive(Args, Debug)]
pub struct ModelCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show the catalogue and what is in the cache
    List {
        /// Give the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model into the cache
    Pull { model: String },
    /// Print where a cached model lies
    Path { model: String },
    /// Show what a model is made of, from its headers
    Inspect {
        model: String,
        /// List every tensor
        #[arg(long)]
        tensors: bool,
        /// Give the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print how a pipeline names this model by its bytes, so that no other is ever used in its place
    Lock { model: String },
    /// Read every byte of a model and compare it with its checksums
    Verify { model: String },
    /// Write the logits of a list of token ids as a NumPy file: float32, one row per position
    Logits {
        model: String,
        /// A JSON file holding a list of token ids
        #[arg(long, value_name = "IDS.json")]
        tokens: PathBuf,
        /// The file to write
        #[arg(long, value_name = "L.npy")]
        out: PathBuf,
        #[command(flatten)]
        engine: Box<EngineArgs>,
    },
}

pub fn run(args: &ModelCommand, settings: &Settings) -> Result<Exit, Failure> {
    match &args.action {
        Action::List { json } => list(*json, settings),
        Action::Pull { model } => pull(model, settings),
        Action::Path { model } => {
            let path = hub::path(model, &models::hub_options(settings)?)?;
            print::result(&path.to_string_lossy())?;
            Ok(Exit::Done)
        }
        Action::Inspect { model, tensors, json } => inspect(&files_of(model, settings)?, *tensors, *json),
        Action::Lock { model } => {
            let files = hub::resolve(model, &models::hub_options(settings)?, &Downloads::new(settings))?;
            let name = serde_json::to_string(model).map_err(|e| Failure::wrong(e.to_string()))?;
            print::result(&format!("use: {{ path: {name}, sha256: {} }}", files.digest))?;
            Ok(Exit::Done)
        }
        Action::Verify { model } => verify(model, settings),
        Action::Logits { model, tokens, out, engine } => {
            let engine = engine.without_kv_cache()?;
            let (path, _) = models::weights(model, engine.quantize(Quantize::Auto), settings)?;
            logits(&path, tokens, out, engine)?;
            Ok(Exit::Done)
        }
    }
}

/// Where a model lies: a path as it is, any other name through the hub.
fn files_of(model: &str, settings: &Settings) -> Result<PathBuf, Failure> {
    if let Some(path) = models::local_path(model) {
        return Ok(path);
    }
    let files = hub::resolve(model, &models::hub_options(settings)?, &Downloads::new(settings))?;
    Ok(models::path_of(&files).to_owned())
}

fn list(as_json: bool, settings: &Settings) -> Result<Exit, Failure> {
    let options = models::hub_options(settings)?;
    let listed = hub::list(&options.cache);
    if as_json {
        let models: Vec<_> = listed
            .iter()
            .map(|l| {
                let cached: Vec<_> = l
                    .cached
                    .iter()
                    .map(|c| json!({"folder": c.folder, "bytes": c.bytes, "source": c.source, "revision": c.revision, "damage": c.damage}))
                    .collect();
                json!({
                    "name": l.name,
                    "summary": l.entry.map(|e| e.summary),
                    "license": l.entry.map(|e| e.license),
                    "cached": cached,
                })
            })
            .collect();
        print::json(&json!({"cache": options.cache, "models": models}))?;
        return Ok(Exit::Done);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["MODEL", "SIZE", "IN THE CACHE", "WHAT IT IS"]);
    for l in &listed {
        let size = l.entry.map(|e| e.bytes()).filter(|n| *n > 0).or(l.cached.first().map(|c| c.bytes));
        let state = match l.cached.as_slice() {
            [] => "no".to_owned(),
            cached => cached
                .iter()
                .map(|c| c.damage.clone().map_or_else(|| "yes".to_owned(), |d| format!("damaged: {d}")))
                .collect::<Vec<_>>()
                .join(", "),
        };
        table.add_row([
            l.name.clone(),
            size.map(|n| format!("{:.0} MB", n as f64 / 1e6)).unwrap_or_default(),
            state,
            l.entry.map(|e| e.summary.to_owned()).unwrap_or_default(),
        ]);
    }
    print::result(&table.to_string())?;
    Ok(Exit::Done)
}

fn pull(model: &str, settings: &Settings) -> Result<Exit, Failure> {
    let downloads = Downloads::new(settings);
    let files = hub::resolve(model, &models::hub_options(settings)?, &downloads)?;
    print::result(&models::path_of(&files).to_string_lossy())?;
    Ok(Exit::Done)
}

fn verify(model: &str, settings: &Settings) -> Result<Exit, Failure> {
    let verified = hub::verify(model, &models::hub_options(settings)?, &Downloads::new(settings))?;
    let mut text = String::new();
    for file in &verified.files {
        text.push_str(&format!("{}  {}  {} bytes\n", file.sha256, file.name, file.bytes));
    }
    text.push_str(&format!("{}: every byte is as it should be (from {})", verified.name, verified.source));
    print::result(&text)?;
    Ok(Exit::Done)
}

fn no_model(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::NoModel, Diagnostic::error(error.to_string()))
}

fn inspect(path: &Path, tensors: bool, as_json: bool) -> Result<Exit, Failure> {
    let source = ModelSource::open(path).map_err(no_model)?;
    let c = source.config();
    let mut formats: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (_, t) in source.tensors() {
        let entry = formats.entry(t.format.name()).or_default();
        *entry = (entry.0 + 1, entry.1 + t.bytes.len());
    }
    let weights: usize = source.tensors().iter().map(|(_, t)| t.shape.iter().product::<usize>()).sum();
    if as_json {
        let all: Vec<_> = source
            .tensors()
            .iter()
            .map(|(name, t)| json!({"name": name, "format": t.format.name(), "shape": t.shape, "bytes": t.bytes.len()}))
            .collect();
        print::json(&json!({
            "path": path,
            "architecture": c.architecture.name(),
            "layers": c.layers, "hidden": c.hidden, "heads": c.heads, "kv_heads": c.kv_heads, "head_dim": c.head_dim,
            "inner": c.inner, "experts": c.experts, "experts_per_token": c.experts_per_token,
            "vocabulary": c.vocabulary, "window": c.window, "rope_theta": c.rope_theta,
            "weights": weights, "active_weights": c.active_weights(),
            "tensors": if tensors { json!(all) } else { json!(all.len()) },
        }))?;
        return Ok(Exit::Done);
    }
    let mut text = format!(
        "architecture  {}\nlayers        {}\nhidden        {}\nheads         {} query, {} key/value, size {}\n",
        c.architecture.name(),
        c.layers,
        c.hidden,
        c.heads,
        c.kv_heads,
        c.head_dim
    );
    text.push_str(&match c.experts {
        1 => format!("feed-forward  {}\n", c.inner),
        n => format!("experts       {n} of size {}, {} per token\n", c.inner, c.experts_per_token),
    });
    text.push_str(&format!(
        "vocabulary    {}\nwindow        {} tokens\nrope theta    {}\nweights       {:.1} M, {:.1} M read per token\n",
        c.vocabulary,
        c.window,
        c.rope_theta,
        weights as f64 / 1e6,
        c.active_weights() as f64 / 1e6
    ));
    for (format, (count, bytes)) in formats {
        text.push_str(&format!("{format:<12}  {count} tensors, {:.1} MB\n", bytes as f64 / 1e6));
    }
    if tensors {
        for (name, t) in source.tensors() {
            text.push_str(&format!("{name}  {}  {:?}\n", t.format.name(), t.shape));
        }
    }
    print::result(&print::shown(&text))?;
    Ok(Exit::Done)
}

fn logits(model: &Path, tokens: &Path, out: &Path, engine: &EngineArgs) -> Result<(), Failure> {
    let text = std::fs::read_to_string(tokens)
        .map_err(|e| Failure::wrong(format!("{} cannot be read: {e}", tokens.display())))?;
    let ids: Vec<TokenId> = serde_json::from_str(&text)
        .map_err(|e| Failure::wrong(format!("{} is no JSON list of token ids: {e}", tokens.display())))?;
    if ids.is_empty() || ids.len() > LOGITS_TOKENS_MAX {
        let fact = format!("{} holds {} ids; 1 to {LOGITS_TOKENS_MAX} are expected", tokens.display(), ids.len());
        return Err(Failure::wrong(fact));
    }
    let source = ModelSource::open(model).map_err(no_model)?;
    let width = source.config().vocabulary;
    if let Some(id) = ids.iter().find(|id| **id as usize >= width) {
        return Err(Failure::wrong(format!("{} holds {id}; the vocabulary has {width} tokens", tokens.display())));
    }
    let mut options = engine.options();
    options.window.get_or_insert(source.config().window.min(ids.len().next_multiple_of(32)));
    let mut loaded = load_core(&source, &options, &|_, _| ())?;
    let result = run_alone(&mut loaded.core, ids, Goal::Logits)
        .map_err(|e| Failure::new(Exit::Bug, Diagnostic::error(e.to_string())))?;
    let cannot = |e: std::io::Error| {
        Failure::new(Exit::OutOfResources, Diagnostic::error(format!("{} cannot be written: {e}", out.display())))
    };
    let mut file = BufWriter::new(File::create(out).map_err(cannot)?);
    npy::write(&mut file, &result.logits, width).map_err(cannot)
}
