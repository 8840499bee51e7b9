//! Option names in two spellings: the core's `snake_case`, from its table of options, and Node's `camelCase`.

use std::collections::HashMap;
use std::sync::LazyLock;

use wsguard::binding::{Options, Shape, option_names};

static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(option_names);
static SNAKE: LazyLock<HashMap<String, &'static str>> =
    LazyLock::new(|| NAMES.iter().map(|name| (camel(name), *name)).collect());

/// Calls that the core's sentences name.
const CALLS: [&str; 1] = ["reload_tls"];

/// Every option's name, `snake_case`.
pub(crate) fn all() -> &'static [&'static str] {
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

/// A sentence of the core with the options and calls it names in Node's spelling.
pub(crate) fn camel_text(text: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|character| !is_word(character)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        out.push_str(&rest[..start]);
        out.push_str(&if all().contains(&word) || CALLS.contains(&word) { camel(word) } else { word.to_owned() });
        rest = &rest[end..];
    }
    out + rest
}

/// The path of an option in Node's spelling. What the application has named (an event) stays as it is.
pub(crate) fn camel_path(path: &str) -> String {
    let mut section = Some(Options::table());
    let mut chosen: Option<&'static Shape> = None;
    let mut parts = Vec::new();
    for part in path.split('.') {
        // The name of an event, or the like: what it holds has options for names again.
        if let Some(item) = chosen.take() {
            section = if matches!(item, Shape::Route(_)) { Some(Options::table()) } else { Shape::section(item) };
            parts.push(part.to_owned());
            continue;
        }
        let (name, index) = part.split_at(part.find('[').unwrap_or(part.len()));
        let option = section.and_then(|section| section.find(name));
        parts.push(if option.is_some() { camel(name) + index } else { part.to_owned() });
        match option.map(|option| &option.shape) {
            Some(Shape::Map { item, .. }) => chosen = Some(*item),
            shape => section = shape.and_then(Shape::section),
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_go_both_ways() {
        assert_eq!(camel("max_connections_per_ip"), "maxConnectionsPerIp");
        assert_eq!(camel("listen"), "listen");
        assert!(all().iter().all(|name| snake(&camel(name)) == Some(*name)));
    }

    #[test]
    fn only_options_are_respelled() {
        assert_eq!(camel_text("needs `trusted_proxies` or my_own_word"), "needs `trustedProxies` or my_own_word");
        assert_eq!(camel_text("reload_tls needs the option tls"), "reloadTls needs the option tls");
        assert_eq!(camel_path("rate_limit.per_second"), "rateLimit.perSecond");
        assert_eq!(camel_path("trusted_proxies[2]"), "trustedProxies[2]");
        assert_eq!(camel_path("events.rate_limit.cost"), "events.rate_limit.cost");
        assert_eq!(camel_path("events.rate_limit.schema.max_depth"), "events.rate_limit.schema.max_depth");
        assert_eq!(camel_path("auth.tokens[1].sha256"), "auth.tokens[1].sha256");
        assert_eq!(camel_path("auth.jwt.leeway_s"), "auth.jwt.leewayS");
        assert_eq!(camel_path("options"), "options");
    }
}
