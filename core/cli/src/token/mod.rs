//! `wsguard token`: tokens for tests, and what a token is.

mod inspect;
mod make;
mod sign;

use std::path::Path;

use crate::outcome::{Ended, Failure};
use crate::policy::open;
use crate::terminal::Patient;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make a signed JSON Web Token, or with --opaque a random one for auth.tokens.
    Make(Box<make::Args>),
    /// Say what is in a token, and whether a policy would accept it.
    Inspect(inspect::Args),
}

pub(crate) fn run(args: Args) -> Ended {
    match args.what {
        What::Make(args) => make::run(&args),
        What::Inspect(args) => inspect::run(&args),
    }
}

/// The longest key or token that is read, in bytes: a token of any configuration fits (`max_head_bytes`).
const MAX_BYTES: u64 = 262_144;

/// A key or a token in a file, or on standard input with `-`; without the line end behind it, which editors add.
pub(crate) fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |error: std::io::Error| Failure::new(format!("{option}: {error}"));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let stdin = Patient(std::io::stdin().lock());
        std::io::Read::read_to_end(&mut std::io::Read::take(stdin, MAX_BYTES + 1), &mut bytes).map_err(wrong)?;
    } else {
        let file = open(path).map_err(wrong)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes).map_err(wrong)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(format!("{option}: is longer than {MAX_BYTES} bytes")));
    }
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    bytes.truncate(end);
    Ok(bytes)
}
