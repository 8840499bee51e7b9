//! An option as it counts somewhere: at the top of a policy, or on one of its routes.

use serde_json::{Map, Value};
use wsguard::binding::Options;

/// The top of a policy, or a route over it.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'p> {
    /// The route's path; `None`: the top.
    pub(crate) route: Option<&'p str>,
    stated: &'p Map<String, Value>,
    top: Option<&'p Map<String, Value>>,
}

impl<'p> Scope<'p> {
    /// The top, then the routes.
    pub(crate) fn all(stated: &'p Map<String, Value>) -> Vec<Scope<'p>> {
        let routes = stated.get("routes").and_then(Value::as_object).into_iter().flatten();
        let route = |(path, options): (&'p String, &'p Value)| {
            Some(Scope { route: Some(path), stated: options.as_object()?, top: Some(stated) })
        };
        let top = Scope { route: None, stated, top: None };
        std::iter::once(top).chain(routes.filter_map(route)).collect()
    }

    /// The top, of a route.
    pub(crate) fn above(&self) -> Option<Scope<'p>> {
        Some(Scope { route: None, stated: self.top?, top: None })
    }

    /// Whether the option is stated here.
    pub(crate) fn states(&self, name: &str) -> bool {
        self.stated.contains_key(name)
    }

    /// Whether this is the place to speak of the option: where it is stated, and of a default at the top alone.
    pub(crate) fn speaks_of(&self, name: &str) -> bool {
        if self.route.is_some() { self.states(name) } else { self.is_of_some_path(name) }
    }

    /// Whether the top's value, stated or not, counts on some path: with routes and no `paths`, only where a route leaves it alone.
    fn is_of_some_path(&self, name: &str) -> bool {
        let routes = self.stated.get("routes").and_then(Value::as_object).filter(|routes| !routes.is_empty());
        // What a route says takes the place of what says the contrary.
        let contrary = match name {
            "dangerously_allow_any_origin" => "origins",
            "origins" => "dangerously_allow_any_origin",
            other => other,
        };
        let states = |route: &Value| route.get(name).is_some() || route.get(contrary).is_some();
        let all_state = |routes: &Map<String, Value>| routes.values().all(states);
        self.stated.contains_key("paths") || !routes.is_some_and(all_state)
    }

    /// The option as it counts here.
    pub(crate) fn value(&self, name: &str) -> Value {
        let stated = self.stated.get(name).or_else(|| self.top?.get(name));
        let default = || {
            let option = Options::table().find(name);
            option.and_then(|option| serde_json::from_str(&option.default_json()).ok()).unwrap_or(Value::Null)
        };
        stated.cloned().unwrap_or_else(default)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.value(name).as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.value(name).as_u64().unwrap_or_default()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.value(name).as_bool().unwrap_or_default()
    }

    /// A list of texts; `None`: it is not given.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<String>> {
        let list = self.value(name);
        Some(list.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The path of the option, as errors write it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.route.map_or_else(|| name.to_owned(), |route| format!("routes.{route}.{name}"))
    }
}
