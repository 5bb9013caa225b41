//! `quarry completions` and `quarry man`: what shells and the manual know of the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::Exit;
use super::options::Settings;
use super::{Cli, Failure, print};

/// Print the completions of a shell
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs, _settings: &Settings) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quarry", &mut script);
    print::result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Print the manual page of quarry or of one of its commands
#[derive(Args, Debug)]
pub struct ManArgs {
    /// A command
    pub command: Option<String>,
}

pub fn man(args: &ManArgs, _settings: &Settings) -> Result<Exit, Failure> {
    let mut root = Cli::command();
    root.build();
    let command = match &args.command {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return Err(Failure::wrong(format!("there is no command `{name}`"))),
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print::result(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}
