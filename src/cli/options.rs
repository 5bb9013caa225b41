//! Options that many commands share, and the environment behind them. The only reader of the environment.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anstream::ColorChoice;
use clap::{ArgAction, Args, ValueEnum};
use etcetera::BaseStrategy;

use crate::diagnostic::Diagnostic;
use crate::pipeline::places::Shard;
use crate::pipeline::run::RunOptions;

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// When to use colors; `auto` heeds NO_COLOR, CLICOLOR_FORCE and the terminal
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: When,
    /// Say nothing but results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice, still more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Make no connection at all; also with HF_HUB_OFFLINE=1
    #[arg(long, global = true)]
    pub offline: bool,
    /// Where models and answers are kept [default: the cache folder of the system, in `quarry`]
    #[arg(long, global = true, env = "QUARRY_CACHE_DIR", value_name = "FOLDER", hide_env_values = true)]
    pub cache_dir: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// The option of commands that use a model.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelArgs {
    /// The model, instead of the pipeline's own: a name of the catalogue, a path, or hf:owner/repo[/file]
    #[arg(long, short, value_name = "MODEL")]
    pub model: Option<String>,
}

/// The options of commands that take a pipeline.
#[derive(Args, Clone, Debug, Default)]
pub struct ParamArgs {
    /// Set a parameter of the pipeline; may be given many times
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub params: Vec<(String, String)>,
    /// Change what the file's profile of that name changes
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Set a value of the file, such as run.max_failed=5%; steps go by their id; may be given many times
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = parse_pair)]
    pub sets: Vec<(String, String)>,
    /// Read a source of the file from other files, a folder, or `-` for standard input; may be given many times
    #[arg(long = "source", value_name = "NAME=FILES", value_parser = parse_pair)]
    pub sources: Vec<(String, String)>,
}

/// Which documents and steps of a pipeline are done, and how many at once.
#[derive(Args, Clone, Debug, Default)]
pub struct ChoiceArgs {
    /// Do only the first N documents
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Do only documents whose path or name matches; may be given many times
    #[arg(long, value_name = "GLOB")]
    pub only: Vec<String>,
    /// Do only this step, those it reads, and the outputs they fill; may be given many times
    #[arg(long, value_name = "STEP")]
    pub select: Vec<String>,
    /// Do only N documents, chosen by the seed: the same ones each time
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Chooses the documents of --sample
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    pub seed: u64,
    /// Do one share of the documents, as 2/5; `auto` asks Slurm's array job or Kubernetes' indexed job which one, and
    /// `auto/5` says of how many; `quarry merge` puts them together
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<Shard>,
    /// Documents worked on at once, instead of the pipeline's number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Do documents again that are unchanged, or that failed before
    #[arg(long)]
    pub force: bool,
}

impl ChoiceArgs {
    pub fn options(&self) -> RunOptions {
        RunOptions {
            force: self.force,
            limit: self.limit,
            only: self.only.clone(),
            sample: self.sample.map(|number| (number, self.seed)),
            shard: self.shard,
            jobs: self.jobs.map(usize::from),
            ..RunOptions::default()
        }
    }
}

/// Returns an environment variable that a pipeline's parameter names.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Reads `2/5`, counted from 1, or `auto` and `auto/5`, which the scheduler's variables settle.
pub fn parse_shard(text: &str) -> Result<Shard, String> {
    shard(text, &|name| env::var(name).ok()?.trim().parse().ok())
}

fn shard(text: &str, number: &dyn Fn(&str) -> Option<usize>) -> Result<Shard, String> {
    let (which, of) = text.split_once('/').map_or((text, None), |(which, of)| (which, Some(of)));
    let of = match of.map(str::parse::<usize>) {
        None => None,
        Some(Ok(of)) => Some(of),
        Some(Err(_)) => return Err("write I/N, such as 2/5".into()),
    };
    let (index, of) = match which {
        "auto" => match (number("SLURM_ARRAY_TASK_ID"), number("JOB_COMPLETION_INDEX")) {
            (Some(id), _) => {
                let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(0);
                (id.checked_sub(first), of.or(number("SLURM_ARRAY_TASK_COUNT")))
            }
            (None, Some(index)) => (Some(index), of),
            (None, None) => return Err("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set".into()),
        },
        which => (which.parse::<usize>().ok().and_then(|n| n.checked_sub(1)), of),
    };
    match (index, of) {
        (Some(index), Some(of)) if index < of => Ok(Shard { index, of }),
        (_, None) => Err("say of how many: write I/N, such as 2/5, or auto/5".into()),
        (_, Some(of)) => Err(format!("shards of {of} are 1/{of} to {of}/{of}")),
    }
}

/// Reads a name, `=` and a value.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a name, = and a value".into()),
    }
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    Quiet,
    Normal,
    Verbose,
    VeryVerbose,
}

/// The global options with the environment filled in: what commands are handed.
#[derive(Clone, Debug)]
pub struct Settings {
    pub verbosity: Verbosity,
    pub offline: bool,
    /// `HF_ENDPOINT`: another hub than the usual one.
    pub hub_endpoint: Option<String>,
    cache_dir: Option<PathBuf>,
    color: When,
}

impl Settings {
    pub fn resolve(args: &GlobalArgs) -> Self {
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::VeryVerbose,
        };
        Self {
            verbosity,
            offline: args.offline || is_on(env::var_os("HF_HUB_OFFLINE")),
            hub_endpoint: env::var("HF_ENDPOINT").ok(),
            cache_dir: args.cache_dir.clone().filter(|d| !d.as_os_str().is_empty()),
            color: args.color,
        }
    }

    /// Tells anstream what was asked for; `auto` leaves NO_COLOR, CLICOLOR and the terminal to it.
    pub fn apply_color(&self) {
        match self.color {
            When::Auto => {}
            When::Always => ColorChoice::Always.write_global(),
            When::Never => ColorChoice::Never.write_global(),
        }
    }

    /// Returns the folder for models and answers. It need not exist yet.
    pub fn cache_dir(&self) -> Result<PathBuf, Diagnostic> {
        if let Some(folder) = &self.cache_dir {
            return Ok(self::absolute(folder.clone()));
        }
        match etcetera::choose_base_strategy() {
            Ok(strategy) => Ok(strategy.cache_dir().join("quarry")),
            Err(_) => Err(Diagnostic::error("there is no home folder to keep models and answers in")
                .hint("set HOME, or say where with --cache-dir or QUARRY_CACHE_DIR")),
        }
    }
}

fn absolute(folder: PathBuf) -> PathBuf {
    std::path::absolute(&folder).unwrap_or(folder)
}

/// The reading of the hub's own client: anything but nothing, 0, false, no and off is on.
fn is_on(value: Option<OsString>) -> bool {
    let value = value.map(|v| v.to_string_lossy().trim().to_ascii_lowercase()).unwrap_or_default();
    !matches!(value.as_str(), "" | "0" | "false" | "no" | "off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_is_on_for_any_word_but_no() {
        assert!(["1", "true", "YES", "on", "ON"].into_iter().all(|v| is_on(Some(v.into()))));
        assert!(["", "0", "false", "No", "off", " "].into_iter().all(|v| !is_on(Some(v.into()))));
        assert!(!is_on(None));
    }

    #[test]
    fn a_shard_is_said_or_asked_of_the_scheduler() {
        let slurm = |name: &str| {
            let set = [("SLURM_ARRAY_TASK_ID", 3), ("SLURM_ARRAY_TASK_MIN", 1), ("SLURM_ARRAY_TASK_COUNT", 4)];
            set.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
        };
        let kubernetes = |name: &str| (name == "JOB_COMPLETION_INDEX").then_some(0);
        let none = |_: &str| None;
        assert_eq!(shard("2/5", &none), Ok(Shard { index: 1, of: 5 }));
        assert_eq!(shard("auto", &slurm), Ok(Shard { index: 2, of: 4 }));
        assert_eq!(shard("auto/3", &kubernetes), Ok(Shard { index: 0, of: 3 }));
        assert!(shard("auto", &kubernetes).unwrap_err().contains("of how many"));
        assert!(["0/5", "6/5", "x/5", "2/x", "2", "auto"].iter().all(|text| shard(text, &none).is_err()));
    }

    #[test]
    fn a_parameter_keeps_equals_signs_of_its_value() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_pair("a="), Ok(("a".into(), String::new())));
        assert!(parse_pair("a").is_err() && parse_pair("=b").is_err());
    }

    #[test]
    fn the_cache_folder_said_wins() {
        let args = GlobalArgs { cache_dir: Some("/x/y".into()), ..GlobalArgs::default() };
        assert_eq!(Settings::resolve(&args).cache_dir(), Ok(PathBuf::from("/x/y")));
    }
}
