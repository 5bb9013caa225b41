//! `quarry config`: a pipeline file as it is once everything has had its say, with the origin of each value.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::options::{ModelArgs, ParamArgs, Settings};
use super::{Failure, check, print};
use crate::pipeline::config;

/// Show a pipeline file resolved, with the origin of each value
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub params: ParamArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

pub fn run(args: &ConfigArgs, _settings: &Settings) -> Result<Exit, Failure> {
    let checked = check::load(&args.file, &args.params, &args.model)?
        .map_err(|diagnostics| Failure { exit: Exit::Wrong, diagnostics })?;
    print::result(&print::shown(&config::config(&checked)))?;
    Ok(Exit::Done)
}
