//! `quarry schema`: the pipeline file as a JSON Schema, for editors.

use clap::Args;

use super::exit::Exit;
use super::options::Settings;
use super::{Failure, print};
use crate::pipeline::editor;
use crate::steps::STEP_KINDS;

/// Print the JSON Schema of the pipeline file, for editors
#[derive(Args, Debug)]
pub struct SchemaArgs {}

pub fn run(_: &SchemaArgs, _: &Settings) -> Result<Exit, Failure> {
    print::result(&format!("{:#}", editor::schema(STEP_KINDS)))?;
    Ok(Exit::Done)
}
