//! The command `wsguard`: a library, so that `python -m wsguard` and `npx wsguard` are the same program.
//!
//! Each subcommand is a module. It prints what it found on standard output, and what went wrong on standard error.

#![deny(missing_docs)]

mod audit;
mod check;
mod doctor;
mod moments;
mod outcome;
mod policy;
mod reach;
mod serve;
mod severity;
mod spelling;
mod terminal;
mod token;
mod wire;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use outcome::Outcome;

/// WebSocket servers that are safe by default: examine one, or work with a policy.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Command {
    #[command(subcommand)]
    what: What,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all is well; 1 something was found that should be mended; 2 it could not run.";

#[derive(Subcommand)]
enum What {
    /// Examine a WebSocket server that you are responsible for, and say what it lets through.
    Audit(Box<audit::Args>),
    /// Read a policy: say what is in force, and warn of what is weak.
    Check(check::Args),
    /// Write the proxy configuration for a policy, and examine the proxies on the way to a server.
    Doctor(Box<doctor::Args>),
    /// Serve a policy with an echo and a log, for work on a front end.
    Serve(serve::Args),
    /// Make and inspect tokens for tests.
    Token(token::Args),
}

/// Runs the command and returns its exit code: 0 when all is well, 1 when something was found that should be mended, 2 when it
/// could not run. `called` is how it was called, for its help: `wsguard`, `python -m wsguard`. The arguments are those of a process,
/// the first of them its name.
///
/// It blocks until the command has ended. `serve` handles the signals of the process meanwhile.
pub fn run(called: &'static str, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parser = Command::command().name("wsguard").bin_name(called);
    let command = parser.try_get_matches_from(arguments).and_then(|matches| Command::from_arg_matches(&matches));
    let command = match command {
        Ok(command) => command,
        Err(error) => {
            // Also the text of `--help` and `--version`, whose exit code is 0. A closed pipe is no fault of ours.
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    let ended = match command.what {
        What::Audit(args) => audit::run(&args),
        What::Check(args) => check::run(&args),
        What::Doctor(args) => doctor::run(&args),
        What::Serve(args) => serve::run(&args),
        What::Token(args) => token::run(args),
    };
    match ended {
        Ok(Outcome::Well) => 0,
        Ok(Outcome::Found) => 1,
        Err(error) => {
            terminal::complain(&format!("wsguard: {error}"));
            2
        }
    }
}
