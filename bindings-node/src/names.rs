//! Option names in two spellings: the core's `snake_case` and Node's `camelCase`.
//!
//! The core is asked which names there are: an option it does not know is refused with a list of those it does. So no
//! list of names is kept here that could fall behind.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Value, json};
use wsguard::binding::Options;

/// A key that no option has.
const UNKNOWN: &str = "\u{1}";

static NAMES: LazyLock<Vec<String>> = LazyLock::new(ask);
static SNAKE: LazyLock<HashMap<String, &'static str>> =
    LazyLock::new(|| NAMES.iter().map(|name| (camel(name), name.as_str())).collect());

/// Every option's name, `snake_case`.
pub(crate) fn all() -> &'static [String] {
    &NAMES
}

/// The core's name of an option in Node's spelling; `None`: there is no such option.
pub(crate) fn snake(name: &str) -> Option<&'static str> {
    SNAKE.get(name).copied()
}

/// `rate_limit` as `rateLimit`.
pub(crate) fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

/// A sentence of the core with the options it names in Node's spelling.
pub(crate) fn camel_text(text: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|character| !is_word(character)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        out.push_str(&rest[..start]);
        out.push_str(&if all().iter().any(|name| name == word) { camel(word) } else { word.to_owned() });
        rest = &rest[end..];
    }
    out + rest
}

/// The path of an option in Node's spelling. What the application has named (an event) stays as it is.
pub(crate) fn camel_path(path: &str) -> String {
    let mut parent = "";
    let mut parts = Vec::new();
    for part in path.split('.') {
        let (name, index) = part.split_at(part.find('[').unwrap_or(part.len()));
        let known = parent != "events" && all().iter().any(|known| known == name);
        parts.push(if known { camel(name) + index } else { part.to_owned() });
        parent = part;
    }
    parts.join(".")
}

fn ask() -> Vec<String> {
    let wrong = || json!({ UNKNOWN: 0 });
    let mut questions = vec![wrong(), json!({"auth": {"jwt": wrong()}}), json!({"auth": {"tokens": [wrong()]}})];
    questions.push(json!({"events": {"event": wrong()}}));
    let sections = ["json_limits", "rate_limit", "control_rate_limit", "handshakes_per_ip", "tls"];
    questions.extend(sections.map(|section| json!({ section: wrong() })));
    let mut names: Vec<String> = questions.iter().flat_map(accepted).collect();
    names.sort();
    names.dedup();
    names
}

/// The names that the core accepts in place of the unknown one: those in backquotes.
fn accepted(question: &Value) -> Vec<String> {
    let Err(error) = Options::from_value(question) else { return Vec::new() };
    error.message.split('`').skip(1).step_by(2).filter(|name| *name != UNKNOWN).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_names_its_options() {
        for name in ["listen", "max_connections_per_ip", "per_second", "max_depth", "client_ca", "user_claim", "cost"] {
            assert!(all().iter().any(|known| known == name), "{name} is missing in {:?}", all());
        }
        assert!(all().len() > 45, "{:?}", all());
    }

    #[test]
    fn spellings_go_both_ways() {
        assert_eq!(camel("max_connections_per_ip"), "maxConnectionsPerIp");
        assert_eq!(camel("listen"), "listen");
        assert!(all().iter().all(|name| snake(&camel(name)) == Some(name)));
    }

    #[test]
    fn only_options_are_respelled() {
        assert_eq!(camel_text("needs `trusted_proxies` or my_own_word"), "needs `trustedProxies` or my_own_word");
        assert_eq!(camel_path("rate_limit.per_second"), "rateLimit.perSecond");
        assert_eq!(camel_path("trusted_proxies[2]"), "trustedProxies[2]");
        assert_eq!(camel_path("events.rate_limit.cost"), "events.rate_limit.cost");
    }
}
