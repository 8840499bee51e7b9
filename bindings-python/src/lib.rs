//! The native part of the Python package `wsguard`: `PyO3` over `wsguard::binding`. The core decides every rule; this crate
//! decides how Python gets the events and gives the commands.

mod accepts;
mod adopted;
mod auth;
mod auth_tasks;
mod awaiting;
mod bounds;
mod command;
mod connection;
mod connection_methods;
mod connections;
mod context;
mod counts;
mod decision;
mod delivery;
mod dispatcher;
mod ending;
mod errors;
mod facts;
mod fork;
mod futures;
mod handlers;
mod inside;
mod interpreter;
mod json_in;
mod json_out;
mod kept;
mod lock;
mod logging;
mod loop_hooks;
mod made;
mod messages;
mod payload;
mod pending;
mod records;
mod request;
mod run;
mod server;
mod shared;
mod stats;
mod text;
mod violation;
mod waits;
mod whole;

use pyo3::prelude::*;
use wsguard::binding::Options;

/// The policy in force for a JSON text of options, as the log line at start says it.
#[pyfunction]
fn policy_in_force(py: Python<'_>, options: &str) -> PyResult<String> {
    let options = Options::from_json(options).map_err(|error| errors::of_config(py, error))?;
    let policy = wsguard::binding::compile(options).map_err(|error| errors::of_config(py, error))?;
    Ok(policy.to_string())
}

/// The JSON text of a Python object, as it would be sent.
#[pyfunction]
#[pyo3(signature = (value, /))]
fn dumps(value: &Bound<'_, PyAny>) -> PyResult<String> {
    json_out::with_text("a text", value, |text| Ok(text.to_owned()))
}

/// The Python objects of a JSON text, as a handler would get them.
#[pyfunction]
#[pyo3(signature = (text, /))]
fn loads<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    handlers::objects(py, text)
}

/// Panics, as a fault of native code would: for tests of what that costs.
#[pyfunction]
#[expect(clippy::panic, reason = "that is what it is for")]
fn panic_for_tests() {
    panic!("as it was asked to");
}

#[pymodule(gil_used = true)]
mod _wsguard {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::check(module.py())
    }

    #[pymodule_export]
    use super::adopted::Pipe;
    #[pymodule_export]
    use super::awaiting::{Awaiting, Done};
    #[pymodule_export]
    use super::command::command;
    #[pymodule_export]
    use super::connection::Connection;
    #[pymodule_export]
    use super::decision::{Accept, Reject};
    #[pymodule_export]
    use super::ending::busy_threads;
    #[pymodule_export]
    use super::fork::forked;
    #[pymodule_export]
    use super::json_out::Json;
    #[pymodule_export]
    use super::logging::{end_of_records, log_to_queue, log_to_stderr, wait_for_records};
    #[pymodule_export]
    use super::made::{made_close, made_message, made_request, made_violation};
    #[pymodule_export]
    use super::records::{Close, Message};
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::run::{begin_ending, stop_all};
    #[pymodule_export]
    use super::server::NativeServer;
    #[pymodule_export]
    use super::stats::verdicts;
    #[pymodule_export]
    use super::violation::Violation;
    #[pymodule_export]
    use super::{dumps, loads, panic_for_tests, policy_in_force};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
