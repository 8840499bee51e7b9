//! Where an option stands, and the words of an error about it.
//!
//! No value is repeated but a number or a truth value where no credential belongs, and of names only those that are
//! surely options, or were chosen by the application to be read: the names of events.

use serde_json::Value;

use super::Options;
use super::table::{OptionInfo, Section, Shape};
use crate::config_error::{ConfigError, ConfigErrorKind};
use crate::unambiguous::Step;

/// What is shown of a name that the application has chosen, in characters.
const MAX_NAME: usize = 128;
/// What is shown of a path.
const MAX_PATH: usize = 400;

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another type than is accepted.
    Type,
    /// The right type with another value than is accepted.
    Value,
    /// An object without a name.
    Empty,
    /// None of several forms.
    Form,
}

/// Where the reader is among the options.
#[derive(Clone, Copy, Debug)]
pub(super) enum At<'a> {
    /// The object of all options.
    Root,
    /// An object of options that is read by itself.
    Alone(&'static Section),
    /// A member of an object.
    Name(&'a At<'a>, &'a str),
    /// An entry of a list.
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// Where a structure of `section` begins that is read by itself.
    pub(super) fn outermost(section: &'static Section) -> Self {
        if core::ptr::eq(section, Options::SECTION) { At::Root } else { At::Alone(section) }
    }

    /// The member `name` of what is here.
    pub(super) fn name_of<'i>(&'i self, name: &'i str) -> At<'i>
    where
        'a: 'i,
    {
        At::Name(self, name)
    }

    /// The name of what is here, or of the list it is in.
    pub(super) fn name(&self) -> &'a str {
        match self {
            At::Root | At::Alone(_) => "options",
            At::Name(_, name) => name,
            At::Index(outer, _) => outer.name(),
        }
    }

    fn place(&self) -> Place {
        let (mut place, step) = match self {
            At::Root => return Place::of(Vec::new()),
            At::Alone(section) => {
                let is_secret = section.options.iter().any(OptionInfo::is_secret);
                return Place { path: Vec::new(), is_secret };
            }
            At::Name(outer, name) => (outer.place(), Step::Name((*name).to_owned())),
            At::Index(outer, index) => (outer.place(), Step::Index(*index)),
        };
        place.path.push(step);
        place
    }

    /// What is here is not accepted.
    pub(super) fn error(&self, message: String) -> ConfigError {
        ConfigError::invalid(self.place().to_string(), message)
    }

    /// `value` is not what `shape` accepts.
    pub(super) fn refused(&self, value: &Value, shape: &Shape, fault: Fault) -> ConfigError {
        let place = self.place();
        let got = got(value, &place, fault);
        ConfigError::invalid(place.to_string(), format!("must be {}, got {got}", shape.words(self.name())))
    }

    /// More than one of several ways is given here.
    pub(super) fn two_ways(&self, shape: &Shape) -> ConfigError {
        let message = format!("gives more than one way; must be one of {}", shape.words(self.name()));
        ConfigError::contradiction(self.place().to_string(), message)
    }

    /// The member `name` of what is here is not an option.
    pub(super) fn unknown(&self, name: &str, known: &[&str]) -> ConfigError {
        unknown(&self.place(), name, known)
    }
}

/// The text is not JSON at all. The parser tells the place and the kind, and nothing of the text.
pub(super) fn syntax_error(option: &str, error: &serde_json::Error) -> ConfigError {
    let verb = if option == "options" { "are" } else { "is" };
    ConfigError::invalid(option, format!("{verb} not valid JSON: {error}"))
}

/// An object has a name twice. It is repeated where it is surely one.
pub(super) fn twice(path: Vec<Step>) -> ConfigError {
    let (place, parent) = (Place::of(path.clone()), Place::of(path).parent());
    match place.path.last() {
        Some(Step::Name(name)) if parent.shows(name) => ConfigError::invalid(place.to_string(), "is given twice"),
        _ => ConfigError::invalid(parent.to_string(), "has a name twice"),
    }
}

/// A name that the application has chosen, as an error may show it: without control characters, and cut.
pub(crate) fn harmless(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_NAME).map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if shown.len() < name.len() && name.chars().nth(MAX_NAME).is_some() {
        shown.push('…');
    }
    shown
}

/// Where a value stands among the options.
#[derive(Clone, Debug)]
struct Place {
    path: Vec<Step>,
    /// The path begins inside of a section where credentials belong.
    is_secret: bool,
}

impl Place {
    /// From the object of all options.
    fn of(path: Vec<Step>) -> Self {
        Self { path, is_secret: false }
    }

    fn parent(mut self) -> Self {
        self.path.pop();
        self
    }

    /// The top-level option; inside of a route, the option of the route.
    fn section(&self) -> Option<&str> {
        match self.path.get(if self.is_in_routes() && self.path.len() > 2 { 2 } else { 0 }) {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn is_in_routes(&self) -> bool {
        matches!(self.path.first(), Some(Step::Name(name)) if name == "routes")
    }

    /// Whether what is here and below may be a credential, or the name of something that was one.
    fn holds_credentials(&self) -> bool {
        self.is_secret || self.section().is_some_and(|name| name.starts_with("auth") || name.starts_with("tls"))
    }

    /// Whether it is inside `events`, where the application chooses names.
    fn has_chosen_names(&self) -> bool {
        self.section() == Some("events")
    }

    /// Whether the step at `depth` is the path of a route.
    fn is_route(&self, depth: usize) -> bool {
        depth == 1 && self.is_in_routes()
    }

    /// Whether a name that stands here may be repeated.
    fn shows(&self, name: &str) -> bool {
        is_name(name) || looks_like_an_option(name, self.holds_credentials())
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.path.is_empty() {
            return f.write_str("options");
        }
        let mut path = String::new();
        for (depth, step) in self.path.iter().enumerate() {
            match step {
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
                Step::Name(name) => {
                    let is_shown = self.has_chosen_names() || self.is_route(depth) || self.shows(name);
                    let shown = if is_shown { harmless(name) } else { "*".to_owned() };
                    path.extend([if depth == 0 { "" } else { "." }, &shown]);
                }
            }
        }
        match path.char_indices().nth(MAX_PATH) {
            Some((end, _)) => write!(f, "{}…", path.get(..end).unwrap_or_default()),
            None => f.write_str(&path),
        }
    }
}

/// What was given in place of what is accepted. Texts are never repeated; numbers only where no credential belongs.
fn got(value: &Value, place: &Place, fault: Fault) -> String {
    let words = match value {
        Value::Bool(_) | Value::Number(_) if !place.holds_credentials() => return value.to_string(),
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) if fault == Fault::Value => "another string",
        Value::String(_) => "a string",
        Value::Array(_) if fault == Fault::Form => "a list of something else",
        Value::Array(_) => "a list",
        Value::Object(_) if fault == Fault::Empty => "an empty object",
        Value::Object(_) => "an object",
    };
    words.to_owned()
}

/// A name that is not an option: what was meant, or which there are.
fn unknown(parent: &Place, name: &str, known: &[&str]) -> ConfigError {
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let meant = known.iter().find(|known| **known == snake_case(name));
    let near = nearest(name, known);
    let message = match (meant, near) {
        (Some(meant), _) => format!("unknown option; it is spelled `{meant}` here"),
        (None, Some(near)) => format!("unknown option; did you mean `{near}`?"),
        _ if parent.has_chosen_names() && SCHEMA_WORDS.contains(&name) => {
            "unknown option; it is a word of JSON Schema: put the schema under `schema`".to_owned()
        }
        _ => format!("unknown option, expected one of {list}"),
    };
    let kind = ConfigErrorKind::UnknownOption;
    if meant.is_none() && near.is_none() && !parent.shows(name) {
        let message = format!("has a name that is no option, expected one of {list}");
        return ConfigError { kind, option: parent.to_string(), message };
    }
    let (parent, name) = (if parent.path.is_empty() { String::new() } else { format!("{parent}.") }, harmless(name));
    ConfigError { kind, option: format!("{parent}{name}"), message }
}

/// Whether an option somewhere has this name.
fn is_name(name: &str) -> bool {
    fn within(section: &Section, name: &str) -> bool {
        let inside = |shape: &Shape| shape.section().is_some_and(|section| within(section, name));
        section.options.iter().any(|option| option.name == name || inside(&option.shape))
    }
    within(Options::SECTION, name)
}

/// Whether a name may be repeated. Whoever writes `{"TOKEN": "alice"}` in place of a list of tokens has a credential for a
/// name: where credentials belong, only words in small letters are taken for names.
fn looks_like_an_option(name: &str, among_credentials: bool) -> bool {
    let may_have = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte == b'_'
            || !among_credentials && (byte.is_ascii_uppercase() || b"-$".contains(&byte))
    };
    !name.is_empty() && name.len() <= if among_credentials { 24 } else { 40 } && name.bytes().all(may_have)
}

/// Words of JSON Schema 2020-12 that a schema begins with.
const SCHEMA_WORDS: [&str; 31] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "$ref",
    "$defs",
    "$schema",
    "patternProperties",
];

/// `maxMessageBytes` and `max-message-bytes` as `max_message_bytes`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut after_small = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && after_small {
            snake.push('_');
        }
        after_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

/// The known name that differs from `name` by a slip of the keys: at most a third of its letters, and three.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.len() > 64 {
        return None;
    }
    let given = snake_case(name);
    let distances = known.iter().map(|known| (distance(given.as_bytes(), known.as_bytes()), *known));
    let (distance, near) = distances.min()?;
    (distance <= (near.len() / 3).clamp(1, 3)).then_some(near)
}

/// Letters to insert, remove, replace or swap with their neighbour until `a` is `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let (mut before, mut last) = (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>());
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_by_slips_of_the_keys() {
        let known = ["origins", "max_connections", "key", "keys", "listen", "cost"];
        for (name, near) in [
            ("origin", Some("origins")),
            ("orgins", Some("origins")),
            ("max_conections", Some("max_connections")),
            ("maxConections", Some("max_connections")),
            ("lsiten", Some("listen")),
            ("kye", Some("key")),
            ("Cost", Some("cost")),
            ("password", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), &known), None, "no work for what is no name");
    }

    #[test]
    fn names_are_spelled_with_underscores() {
        for (name, snake) in
            [("maxMessageBytes", "max_message_bytes"), ("max-fragments", "max_fragments"), ("tls", "tls")]
        {
            assert_eq!(snake_case(name), snake);
        }
    }
}
