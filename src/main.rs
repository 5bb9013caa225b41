//! Parse, call, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    quarry::cli::main()
}
