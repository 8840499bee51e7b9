//! The core's log for JavaScript: on standard error, or a function that gets each record.

#![expect(clippy::needless_pass_by_value, reason = "napi hands arguments over by value")]

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Result};
use napi_derive::napi;
use wsguard::binding::{LogFormat, LogLevel, log_to, log_to_stderr_as};

use crate::error::refused;

/// Records that wait for the JavaScript thread; the log's own thread waits then, which has a queue of its own.
const MAX_WAITING: usize = 256;

/// Writes the core's log (verdicts, the policy in force) to standard error, one line a record. Once per process.
#[napi]
pub fn log_to_stderr(as_json: bool) {
    log_to_stderr_as(if as_json { LogFormat::Json } else { LogFormat::Plain });
}

/// Gives each record of the core's log up to `level` to `listener`, as JSON text. Once per process.
#[napi(js_name = "logTo")]
pub fn log_to_listener(env: Env, level: String, listener: Function<'_, (String,), ()>) -> Result<()> {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let Some(level) = levels.into_iter().find(|known| known.name() == level) else {
        return Err(refused(env, "invalid_argument", "level must be error, warn, info, debug or trace"));
    };
    let listener = listener.build_threadsafe_function().weak::<true>().max_queue_size::<MAX_WAITING>().build()?;
    let is_taken = log_to(level, move |record| {
        // An environment that is being torn down answers `Closing`: nobody is left to be told.
        let _ = listener.call((record.to_json(),), ThreadsafeFunctionCallMode::Blocking);
    });
    if is_taken {
        Ok(())
    } else {
        Err(refused(env, "already_logging", "the log of this process goes elsewhere already"))
    }
}
