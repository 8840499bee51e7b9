//! Options as an application states them: one table, and everything that can be asked of it.
//!
//! Here a name, a type and a range are decided, one option by itself. What each means, and what several together may not
//! be, is the [`Policy`](crate::config::Policy)'s. Durations are milliseconds (`_ms`), sizes are bytes (`_bytes`).

#[macro_use]
mod table;
mod constructors;
mod dump;
mod field;
mod routes;
mod stated;
mod words;

pub use dump::options_json;
pub use routes::RouteOptions;
pub use stated::{
    Auth, AutoBan, ClusterOptions, Compression, ControlRateLimit, EventOptions, HandshakeRate, JsonLimits, JwtOptions,
    MissingOrigin, OnMismatch, OnOutage, OnViolation, OneOrMany, Options, Protocol, RateKeyKind, RateLimit, TlsOptions,
    TlsVersion, TokenEntry,
};
pub use table::{OptionInfo, Scope, Section, Shape};
pub(crate) use words::harmless;

use field::Field;
use words::At;

use crate::config_error::ConfigError;
use crate::unambiguous::{self, Step};

impl Options {
    /// Reads options from a JSON object. An unknown option or a wrong type is an error that names it.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let reading = unambiguous::read(text.as_bytes()).map_err(|error| words::syntax_error("options", &error))?;
        let options = Self::from_value(&reading.value)?;
        // At any depth: which of two counts is nobody's guess.
        reading.twice.map_or(Ok(options), |path| Err(words::twice(path)))
    }

    /// Reads options from parsed JSON.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, ConfigError> {
        Self::read(value, &WHOLE, At::Root)
    }

    /// Sets one option from its JSON: its name, type and range are checked. An error leaves all as it was.
    pub fn set(&mut self, name: &str, json: &str) -> Result<(), ConfigError> {
        let mut alone = Self::default();
        let Some(option) = Self::SECTION.find(name) else { return Err(At::Root.unknown(name, &Self::SECTION.names())) };
        let reading = unambiguous::read(json.as_bytes()).map_err(|error| words::syntax_error(name, &error))?;
        alone.put(option.name, &reading.value, At::Root.name_of(option.name))?;
        if let Some(path) = reading.twice {
            return Err(words::twice([vec![Step::Name(option.name.to_owned())], path].concat()));
        }
        alone.check_one(option.name, At::Root.name_of(option.name))?;
        self.take(option.name, alone);
        Ok(())
    }

    /// The table: every option, in the order of the README.
    pub fn table() -> &'static Section {
        Self::SECTION
    }

    /// Every number is in its range, and no list is longer than it may be.
    pub(crate) fn check_ranges(&self) -> Result<(), ConfigError> {
        self.check(&WHOLE, At::Root)
    }
}

/// All options, as an object.
static WHOLE: Shape =
    Shape::Section { section: Options::SECTION, words: "an object that holds at least `origins` and `auth`" };

/// Ranges of what may also be compiled by itself.
impl JsonLimits {
    pub(crate) fn check_ranges(&self) -> Result<(), ConfigError> {
        self.check(&Shape::Any, At::Root.name_of("json_limits"))
    }
}

impl EventOptions {
    pub(crate) fn check_ranges(&self, name: &str) -> Result<(), ConfigError> {
        self.check(&Shape::Any, At::Root.name_of("events").name_of(name))
    }
}

impl JwtOptions {
    pub(crate) fn check_ranges(&self) -> Result<(), ConfigError> {
        self.check(&Shape::Any, At::Root.name_of("auth").name_of("jwt"))
    }
}

/// The names of all options, those inside of objects among them; sorted, each once.
pub fn option_names() -> Vec<&'static str> {
    fn collect(section: &Section, names: &mut Vec<&'static str>) {
        for option in section.options {
            names.push(option.name);
            if let Some(section) = option.shape.section() {
                collect(section, names);
            }
        }
    }
    let mut names = Vec::new();
    collect(Options::SECTION, &mut names);
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod words_tests;
