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
    /// No path uses the top itself: what it states and this route does not is spoken of here.
    is_all_there_is: bool,
}

impl<'p> Scope<'p> {
    /// The top of a policy.
    pub(crate) fn top(stated: &'p Map<String, Value>) -> Scope<'p> {
        Scope { route: None, stated, top: None, is_all_there_is: false }
    }

    /// The top, then the routes.
    pub(crate) fn all(stated: &'p Map<String, Value>) -> Vec<Scope<'p>> {
        let routes = stated.get("routes").and_then(Value::as_object).into_iter().flatten();
        let route = |(path, options): (&'p String, &'p Value)| {
            let route = Scope { route: Some(path), top: Some(stated), ..Self::top(options.as_object()?) };
            Some(route)
        };
        std::iter::once(Self::top(stated)).chain(routes.filter_map(route)).collect()
    }

    /// Those of them that some path is served by: without the top where all paths are those of routes.
    pub(crate) fn served(stated: &'p Map<String, Value>) -> Vec<Scope<'p>> {
        let mut all = Self::all(stated);
        let is_route = |path: &Value| all.iter().any(|scope| scope.route.is_some() && scope.route == path.as_str());
        let paths = stated.get("paths").and_then(Value::as_array);
        if all.len() > 1 && paths.into_iter().flatten().all(is_route) {
            all.remove(0);
            for route in &mut all {
                route.is_all_there_is = true;
            }
        }
        all
    }

    /// The top, of a route.
    pub(crate) fn above(&self) -> Option<Scope<'p>> {
        self.top.map(Self::top)
    }

    /// Whether the option is stated here, or nowhere else but above.
    pub(crate) fn states(&self, name: &str) -> bool {
        self.stated.contains_key(name) || (self.is_all_there_is && self.top.is_some_and(|top| top.contains_key(name)))
    }

    /// Whether this is the place to speak of the option: where it is stated, and of a default at the top alone.
    pub(crate) fn speaks_of(&self, name: &str) -> bool {
        self.route.is_none() || self.states(name) || self.is_all_there_is
    }

    /// The option as it counts here.
    pub(crate) fn value(&self, name: &str) -> Value {
        // What a route says takes the place of what says the contrary.
        let contrary = match name {
            "dangerously_allow_any_origin" => self.stated.get("origins"),
            "origins" => self.stated.get("dangerously_allow_any_origin"),
            _ => None,
        };
        let above = self.top.filter(|_| contrary.is_none());
        let stated = self.stated.get(name).or_else(|| above?.get(name));
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

    /// The path of the option, as errors write it: where it is stated.
    pub(crate) fn path(&self, name: &str) -> String {
        let option = name.split(['.', '[']).next().unwrap_or(name);
        let route = self.route.filter(|_| !self.is_all_there_is || self.stated.contains_key(option));
        route.map_or_else(|| name.to_owned(), |route| format!("routes.{route}.{name}"))
    }
}
