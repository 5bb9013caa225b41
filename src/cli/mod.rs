//! The command line: arguments, printing, color, environment, exit codes; one file per command.
//! Nothing else prints, reads the environment or ends the program.
//!
//! A new command is a file with its `Args` and a `run`, and one line in `commands!`.

pub mod exit;
pub mod options;
pub mod print;

mod adhoc;
mod answered;
mod ask;
mod ask_file;
mod bench;
mod chat;
mod check;
mod chunk;
mod completions;
mod config;
mod diff;
mod doctor;
mod embedder;
mod eval;
mod explain;
mod generate;
mod index;
mod init;
mod library;
mod merge;
mod model;
mod models;
mod npy;
mod on_demand;
mod plan;
mod preview;
mod progress;
mod read;
mod run;
mod schema;
mod stdin;
mod test;

use std::io;
use std::panic;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::exit::Exit;
use self::options::{GlobalArgs, Settings};
use crate::corpus::reader::child_main;
use crate::diagnostic::Diagnostic;

/// Mines documents with a local mixture-of-experts model, and never silently.
#[derive(Parser, Debug)]
#[command(name = "quarry", version, propagate_version = true, after_help = exit::TABLE, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: GlobalArgs,
}

macro_rules! commands {
    ($($(#[$attribute:meta])* $name:ident($args:ty) => $run:path,)*) => {
        #[derive(Subcommand, Debug)]
        enum Command {
            $($(#[$attribute])* $name($args),)*
        }

        fn dispatch(command: &Command, settings: &Settings) -> Result<Exit, Failure> {
            match command {
                $(Command::$name(args) => $run(args, settings),)*
            }
        }
    };
}

// In the order of the help.
commands! {
    Run(run::RunArgs) => run::run,
    Check(check::CheckArgs) => check::run,
    Test(test::TestArgs) => test::run,
    Plan(plan::PlanArgs) => plan::run,
    Preview(preview::PreviewArgs) => preview::run,
    Config(config::ConfigArgs) => config::run,
    Retry(run::RetryArgs) => run::retry,
    Merge(merge::MergeArgs) => merge::run,
    Eval(eval::EvalArgs) => eval::run,
    Diff(diff::DiffArgs) => diff::run,
    Explain(explain::ExplainArgs) => explain::run,
    Ask(ask::AskArgs) => ask::run,
    Index(index::IndexCommand) => index::run,
    Summarize(adhoc::SummarizeArgs) => adhoc::summarize,
    Extract(adhoc::ExtractArgs) => adhoc::extract,
    Classify(adhoc::ClassifyArgs) => adhoc::classify,
    Read(read::ReadArgs) => read::run,
    Chunk(chunk::ChunkArgs) => chunk::run,
    Init(init::InitArgs) => init::run,
    Schema(schema::SchemaArgs) => schema::run,
    Doctor(doctor::DoctorArgs) => doctor::run,
    Model(model::ModelCommand) => model::run,
    Generate(generate::GenerateArgs) => generate::run,
    Chat(chat::ChatArgs) => chat::run,
    Bench(bench::BenchArgs) => bench::run,
    Completions(completions::CompletionsArgs) => completions::run,
    Man(completions::ManArgs) => completions::man,
}

/// Why a command could not do its work: what is told, and what the program ends with.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    pub fn new(exit: Exit, diagnostic: Diagnostic) -> Self {
        Self { exit, diagnostics: vec![diagnostic] }
    }

    /// The caller's mistake.
    pub fn wrong(message: impl Into<String>) -> Self {
        Self::from(Diagnostic::error(message))
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::new(Exit::Wrong, diagnostic)
    }
}

impl From<io::Error> for Failure {
    /// Standard output could not be written: a reader that has gone is no failure worth a word.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::OutputClosed, diagnostics: Vec::new() },
            _ => Self::new(
                Exit::OutOfResources,
                Diagnostic::error(format!("standard output cannot be written: {error}")),
            ),
        }
    }
}

/// Runs the command of this process and returns what it ends with.
pub fn main() -> ExitCode {
    // The child process that parses documents: before anything else, and without the command line.
    if let Some(exit) = child_main(std::env::args_os().skip(1)) {
        return exit;
    }
    tell_bugs();
    let exit = panic::catch_unwind(|| match Cli::try_parse() {
        Ok(cli) => execute(&cli),
        Err(usage) => tell_usage(&usage),
    });
    exit.unwrap_or(Exit::Bug).into()
}

fn execute(cli: &Cli) -> Exit {
    let settings = Settings::resolve(&cli.global);
    settings.apply_color();
    match dispatch(&cli.command, &settings) {
        Ok(exit) => exit,
        Err(failure) => {
            print::diagnostics(&failure.diagnostics);
            failure.exit
        }
    }
}

/// Help and the version are results; anything else is a mistake of the caller.
fn tell_usage(usage: &clap::Error) -> Exit {
    match usage.print() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
        _ if usage.use_stderr() => Exit::Wrong,
        _ => Exit::Done,
    }
}

/// A panic is our own bug, and says so with its place.
fn tell_bugs() {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
        print::note(&format!("error: this is a bug in quarry: {}{place}", print::shown(message)));
        print::note("hint: please report it with this line, the version and what was run");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_behind_the_command() {
        let behind = Cli::try_parse_from(["quarry", "check", "x.yaml", "--offline", "-v", "-p", "a=1"]).unwrap();
        assert!(behind.global.offline && behind.global.verbose == 1);
        assert!(Cli::try_parse_from(["quarry", "--color", "never", "check", "x.yaml"]).is_ok());
        assert!(Cli::try_parse_from(["quarry", "check", "x.yaml", "-q", "-v"]).is_err());
    }

    #[test]
    fn a_reader_that_has_gone_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.diagnostics.len()), (Exit::OutputClosed, 0));
    }
}
