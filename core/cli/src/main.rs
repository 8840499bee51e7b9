//! The command `wsguard`. What it does is in the library, which the Python module and the Node addon call as well.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(wsguard_cli::run("wsguard", std::env::args_os()))
}
