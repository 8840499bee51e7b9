//! `wsguard audit` as a program: our own server comes out clean, a careless one does not, and a hostile one neither stops it nor
//! reaches the terminal. The servers of other libraries are in tests/audit.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod answers;
#[cfg(target_os = "linux")]
mod between;
mod careless;
mod first;
mod hostile;
mod late;
mod own;
mod refused;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Runs the command with `audit` and these arguments, and the variable `AUDIT_TOKEN`.
fn audit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsguard")).arg("audit").args(arguments).env("AUDIT_TOKEN", TOKEN).output().unwrap()
}

/// A token that must never be printed.
const TOKEN: &str = "a-token-of-the-tests";

/// The exit code and the report of an audit that came to its end.
fn report(arguments: &[&str]) -> (i32, Value) {
    let output = audit(&[arguments, &["--json"]].concat());
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!out.contains(TOKEN) && !errors.contains(TOKEN), "the token was printed: {out} {errors}");
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}; {errors}"));
    (output.status.code().unwrap(), json)
}

/// What a check said, in one word: its severity or its verdict.
fn word<'r>(report: &'r Value, check: &str) -> &'r str {
    let found = report["results"].as_array().unwrap().iter().find(|result| result["check"] == check).unwrap();
    found.get("severity").unwrap_or(&found["verdict"]).as_str().unwrap()
}

/// That something ends long before the budget of an audit does.
fn soon<T>(what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = what();
    assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    result
}
