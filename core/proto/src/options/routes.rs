//! The options of one route: those that it states, over those of the top.

use serde_json::Value;

use super::Options;
use super::field::{Field, json_object, members};
use super::stated::{Auth, Protocol};
use super::table::{Scope, Shape};
use super::words::At;
use crate::config_error::ConfigError;
use crate::unambiguous;

/// What a route states; what it does not state it has from the top.
#[derive(Clone, Debug, Default)]
pub struct RouteOptions {
    stated: Vec<&'static str>,
    options: Box<Options>,
}

impl RouteOptions {
    /// Reads the options of a route from a JSON object.
    ///
    /// # Errors
    /// Names an option that does not exist, one of the process, or one of another type.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let at = At::Root.name_of("routes");
        let reading =
            unambiguous::read(text.as_bytes()).map_err(|error| super::words::syntax_error("routes", &error))?;
        if let Some(path) = reading.twice {
            return Err(super::words::twice(path));
        }
        Self::read(&reading.value, &Shape::Any, at)
    }

    /// Origins and authentication of its own, which is what most routes differ in.
    pub fn new(origins: impl IntoIterator<Item = impl Into<String>>, auth: Auth) -> Self {
        Self { stated: vec!["origins", "auth"], options: Box::new(Options::new(origins, auth)) }
    }

    /// States one option from its JSON: its name, type and range are checked.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and for a value out of range.
    pub fn set(&mut self, name: &str, json: &str) -> Result<(), ConfigError> {
        let option = find(name, At::Root)?;
        self.options.set(option, json)?;
        self.state(option);
        Ok(())
    }

    fn state(&mut self, name: &'static str) {
        if !self.stated.contains(&name) {
            self.stated.push(name);
        }
    }

    /// Whether the route says something of this option.
    pub(crate) fn states(&self, name: &str) -> bool {
        self.stated.contains(&name)
    }

    /// The whole options of the route, over those of the `top`, which are without routes.
    pub(crate) fn over(&self, top: &Options) -> Options {
        let mut whole = top.clone();
        // What the route says takes the place of what says the contrary.
        if self.states("dangerously_allow_any_origin") && !self.states("origins") {
            whole.origins = None;
        }
        if self.states("origins") && !self.states("dangerously_allow_any_origin") {
            whole.dangerously_allow_any_origin = false;
        }
        if self.options.protocol == Protocol::Raw && self.states("protocol") && !self.states("events") {
            whole.events.clear();
        }
        for name in &self.stated {
            whole.take(name, (*self.options).clone());
        }
        whole
    }
}

/// The option of a route of this name.
fn find(name: &str, at: At<'_>) -> Result<&'static str, ConfigError> {
    let of_routes = || Options::SECTION.options.iter().filter(|option| option.scope() == Some(Scope::Route));
    match Options::SECTION.find(name) {
        Some(option) if option.scope() == Some(Scope::Route) => Ok(option.name),
        Some(option) => {
            let message = "is an option of the process, which a route cannot have for itself: state it at the top only";
            Err(at.name_of(option.name).error(message.to_owned()))
        }
        None => Err(at.unknown(name, &of_routes().map(|option| option.name).collect::<Vec<_>>())),
    }
}

impl Field for RouteOptions {
    fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
        let mut route = Self::default();
        for (name, value) in members(value, shape, at)? {
            let option = find(name, at)?;
            route.options.put(option, value, at.name_of(option))?;
            route.state(option);
        }
        Ok(route)
    }

    fn check(&self, _: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
        self.stated.iter().try_for_each(|name| self.options.check_one(name, at.name_of(name)))
    }

    fn json(&self) -> String {
        json_object(&self.stated.iter().map(|name| (*name, self.options.json_of(name))).collect::<Vec<_>>())
    }
}
