//! Numbers for the names of events, so that a message crosses to JavaScript without its name.
//!
//! Routes and reloads have events of their own. A name keeps its number for the life of the server: a batch may hold messages
//! that were judged before a reload.

use std::collections::HashMap;

use serde_json::Value;

use crate::records::UNKNOWN_EVENT;

#[derive(Debug, Default)]
pub(crate) struct EventNames {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    last: usize,
}

impl EventNames {
    /// Adds the names that are new in these options: those of the top and of every route.
    pub(crate) fn add(&mut self, options: &Value) {
        let routes = options["routes"].as_object().into_iter().flat_map(|routes| routes.values());
        for policy in core::iter::once(options).chain(routes) {
            for name in policy["events"].as_object().into_iter().flat_map(|events| events.keys()) {
                self.learn(name);
            }
        }
    }

    fn learn(&mut self, name: &str) {
        if !self.numbers.contains_key(name) {
            self.numbers.insert(name.to_owned(), self.names.len() as u32);
            self.names.push(name.to_owned());
        }
    }

    /// The names by number.
    pub(crate) fn all(&self) -> &[String] {
        &self.names
    }

    /// The number of an event, or `UNKNOWN_EVENT`. Messages of one event often come in a row.
    pub(crate) fn number(&mut self, event: &str) -> u32 {
        if self.names.get(self.last).is_none_or(|last| last != event) {
            let Some(found) = self.numbers.get(event) else { return UNKNOWN_EVENT };
            self.last = *found as usize;
        }
        self.last as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = EventNames::default();
        names.add(&json!({"events": {"b": {}, "c": {}}, "routes": {"/r": {"events": {"a": {}, "b": {}}}, "/s": {}}}));
        assert_eq!(["a", "b", "c", "d"].map(|name| names.number(name)), [2, 0, 1, UNKNOWN_EVENT]);
        names.add(&json!({"events": {"d": {}, "b": {}}}));
        assert_eq!(["a", "b", "c", "d"].map(|name| names.number(name)), [2, 0, 1, 3]);
        assert_eq!(names.all(), ["b", "c", "a", "d"]);
    }
}
