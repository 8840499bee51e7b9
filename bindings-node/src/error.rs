//! Errors of the core as JavaScript errors with `code` and `option`.

use napi::bindgen_prelude::{JsObjectValue, JsValue};
use napi::{Env, Status};
use wsguard::binding::{ConfigError, ConfigErrorKind, Error};

use crate::names;

/// The error to return from a native function, so that it is thrown.
pub(crate) fn thrown(env: Env, error: &Error) -> napi::Error {
    let option = match error {
        Error::Config(inner) | Error::Tls(inner) => Some(path(inner)),
        other => other.option().map(str::to_owned),
    };
    build(env, error.code(), option.as_deref(), &message(error), error.errno()).unwrap_or_else(|failure| failure)
}

/// An error of this crate's own.
pub(crate) fn refused(env: Env, code: &str, message: &str) -> napi::Error {
    build(env, code, None, message, None).unwrap_or_else(|failure| failure)
}

/// The message, with options in Node's spelling.
pub(crate) fn message(error: &Error) -> String {
    match error {
        Error::Config(inner) | Error::Tls(inner) => {
            format!("{}: {}", path(inner), names::camel_text(&inner.message))
        }
        other => names::camel_text(&other.to_string()),
    }
}

/// The path of the option at fault. An unknown name stays as the application wrote it; a name that the core does not repeat
/// is left out.
fn path(error: &ConfigError) -> String {
    let names_it = error.kind == ConfigErrorKind::UnknownOption && error.message.starts_with("unknown option");
    match error.option.rsplit_once('.') {
        _ if !names_it => names::camel_path(&error.option),
        Some((parent, name)) => format!("{}.{name}", names::camel_path(parent)),
        None => error.option.clone(),
    }
}

fn build(env: Env, code: &str, option: Option<&str>, message: &str, errno: Option<i32>) -> napi::Result<napi::Error> {
    let mut error = env.create_error(napi::Error::new(Status::GenericFailure, message.to_owned()))?;
    error.set_named_property("code", code)?;
    if let Some(option) = option {
        error.set_named_property("option", option)?;
    }
    if let Some(errno) = errno {
        error.set_named_property("errno", errno)?;
    }
    Ok(napi::Error::from(error.to_unknown()))
}
