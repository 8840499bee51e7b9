//! The Node face of wsguard: what of it must be native. The package's own files (`lib/`) give it Node's manners.
//!
//! No rule lives here: options, verdicts and limits are the core's. What crosses the border crosses in batches: one call
//! takes a batch of events, one call hands over a tick's commands.

mod adopt;
mod authenticate;
mod commands;
mod connections;
mod error;
mod inbox;
mod json;
mod names;
mod options;
mod records;
mod server;
mod text;

use napi_derive::napi;

/// Writes the core's log (verdicts, the policy in force) to standard error, one line a record. Once per process.
#[napi]
pub fn log_to_stderr() {
    wsguard::binding::log_to_stderr();
}

/// Every verdict: name, HTTP status, close code, reason, as JSON; for generated typings and for tests.
#[napi]
pub fn verdicts() -> String {
    json::verdicts().to_string()
}

/// The names of every option, as Node spells them; for tests that compare them with the typings.
#[napi]
pub fn option_names() -> Vec<String> {
    names::all().iter().map(|name| names::camel(name)).collect()
}
