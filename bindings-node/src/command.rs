//! The command `wsguard`, behind `npx wsguard`.

use std::ffi::OsString;

use napi_derive::napi;

/// Runs the command with these arguments, without the program's name, and returns its exit code. JavaScript stands still
/// meanwhile: it is for a process that does nothing else.
#[napi(catch_unwind)]
pub fn command(arguments: Vec<String>, by_npx: bool) -> u32 {
    let called = if by_npx { "npx wsguard" } else { "wsguard" };
    let arguments = std::iter::once(called.to_owned()).chain(arguments).map(OsString::from);
    wsguard_cli::run(called, arguments).into()
}
