//! The native part of the Node package; the rest is in `lib/`.
//!
//! No rule lives here: options, verdicts and limits are the core's. Calls between JavaScript and Rust are batched: one takes
//! a batch of events, one executes a tick's commands.

mod adopt;
mod authenticate;
pub mod command;
mod commands;
mod connections;
mod counts;
mod error;
mod event_names;
mod inbox;
mod json;
pub mod log;
mod names;
mod options;
mod pipes;
mod records;
mod server;
mod text;

use std::collections::HashMap;

use napi_derive::napi;

/// The numbers of records and commands by name; `lib/records.js` reads them once, when it is loaded.
#[napi]
pub fn record_numbers() -> HashMap<&'static str, u32> {
    records::NUMBERS.into_iter().chain(commands::NUMBERS).collect()
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
