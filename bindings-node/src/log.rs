//! The core's log for JavaScript: on standard error, or a function that gets each record.

use napi_derive::napi;

/// Writes the core's log (verdicts, the policy in force) to standard error, one line a record. Once per process.
#[napi]
pub fn log_to_stderr() {
    wsguard::binding::log_to_stderr();
}
