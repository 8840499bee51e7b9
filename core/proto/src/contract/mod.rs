//! The message contract: what a text message must be before the application sees it.
//!
//! It decides three things, in this order: whether a message is a valid envelope ([`Contract::read`]), whether its
//! event is listed ([`Envelope::index`]), and whether its `data` fits the event's schema ([`Contract::check`]). Which
//! verdict that becomes and what it costs the peer is decided by the caller. No socket, no clock: text in, answer out.

mod compile;
mod cursor;
mod document;
mod ecma;
mod envelope;
mod evaluate;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod hostile;
mod instance;
mod memo;
mod number;
mod pattern;
mod program;
mod quick;
mod rule;
mod scan;
mod schema;
mod text;
mod uri;

pub use envelope::{BadEnvelope, Envelope, Status};
pub use rule::{Member, Rule};
pub use scan::Scratch;
pub use schema::SchemaMismatch;

use crate::config_error::ConfigError;
use crate::options::OnMismatch;
pub use crate::options::{EventOptions, JsonLimits};
use crate::roles::Roles;
use schema::Schema;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest name of an event, in bytes.
const MAX_EVENT_NAME: usize = 128;

/// One listed event of one contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventIndex(u32);

/// What is known of a listed event.
#[derive(Debug)]
pub struct EventRule {
    name: Box<str>,
    cost: f64,
    schema: Option<Schema>,
    /// `None`: for everybody.
    roles: Option<Roles>,
    on_mismatch: OnMismatch,
}

impl EventRule {
    /// The event's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a message of this event costs in `rate_limit`.
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// Whether `data` has to fit a schema.
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether a connection with these roles may send it.
    pub fn is_for(&self, roles: &Roles) -> bool {
        self.roles.as_ref().is_none_or(|own| roles.has_any_of(own))
    }

    /// Whether `data` that does not fit its schema is answered with an error instead of closing the connection.
    pub fn replies_to_mismatches(&self) -> bool {
        self.on_mismatch == OnMismatch::Reply
    }
}

/// The compiled options `events` and `json_limits`. Immutable; shared by all shards.
#[derive(Debug)]
pub struct Contract {
    limits: JsonLimits,
    /// In the order of their names; [`EventIndex`] counts here.
    rules: Box<[EventRule]>,
    /// The same events by the tag of their name: a peer picks names to look up, never names that are stored.
    by_tag: Box<[(u64, EventIndex)]>,
    /// See [`generation`](Self::generation).
    generation: AtomicU64,
}

impl Contract {
    /// Compiles the options. Nothing is fetched: a schema that refers outside itself is an error.
    pub fn compile(events: &BTreeMap<String, EventOptions>, limits: JsonLimits) -> Result<Contract, ConfigError> {
        limits.check_ranges()?;
        let rules: Box<[EventRule]> =
            events.iter().map(|(name, options)| rule(name, options)).collect::<Result<_, _>>()?;
        let mut by_tag: Box<[_]> =
            (0..).zip(&rules).map(|(index, rule)| (text::tag(rule.name.as_bytes()), EventIndex(index))).collect();
        by_tag.sort_unstable();
        Ok(Contract { limits, rules, by_tag, generation: AtomicU64::new(1) })
    }

    /// The generation of the policies that it is of: 1 at the start, one more with every reload.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// It belongs to a set that takes the place of another.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// The option `json_limits`.
    pub fn json_limits(&self) -> JsonLimits {
        self.limits
    }

    /// Reads a message in one pass: strict JSON, the limits, the envelope, the event's index.
    ///
    /// Without escapes in the event's name nothing is allocated once `scratch` has seen messages of this size.
    pub fn read<'t>(&self, text: &'t str, scratch: &mut Scratch) -> Result<Envelope<'t>, BadEnvelope> {
        envelope::read(scan::Scanner::new(text, self.limits, scratch), |name| self.find(name))
    }

    /// The listed event of this name.
    pub fn find(&self, name: &str) -> Option<EventIndex> {
        let tag = text::tag(name.as_bytes());
        let first = self.by_tag.partition_point(|(other, _)| *other < tag);
        let same_tag = self.by_tag.get(first..).unwrap_or_default().iter().take_while(|(other, _)| *other == tag);
        same_tag.map(|(_, index)| *index).find(|index| self.event(*index).name() == name)
    }

    /// What is known of an event. The index must come from this contract.
    pub fn event(&self, index: EventIndex) -> &EventRule {
        &self.rules[index.0 as usize]
    }

    /// Whether the `data` of an [`Envelope`] that [`Contract::read`] returned fits the event's schema.
    pub fn check(&self, event: EventIndex, data: &str) -> Result<(), SchemaMismatch> {
        match &self.event(event).schema {
            Some(schema) => schema.check(data),
            None => Ok(()),
        }
    }
}

fn rule(name: &str, options: &EventOptions) -> Result<EventRule, ConfigError> {
    if name.is_empty() || name.len() > MAX_EVENT_NAME || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(32).collect();
        let message = format!("the event name {shown:?} is not 1 to {MAX_EVENT_NAME} bytes without control characters");
        return Err(ConfigError::invalid("events", message));
    }
    options.check_ranges(name)?;
    let compile = |schema| {
        Schema::compile(schema).map_err(|message| ConfigError::invalid(format!("events.{name}.schema"), message))
    };
    let schema = options.schema.as_ref().map(compile).transpose()?;
    let roles = options.roles.as_ref().map(|roles| event_roles(name, roles)).transpose()?;
    Ok(EventRule { name: name.into(), cost: options.cost, schema, roles, on_mismatch: options.on_mismatch })
}

fn event_roles(name: &str, roles: &[String]) -> Result<Roles, ConfigError> {
    let option = || format!("events.{name}.roles");
    if roles.is_empty() {
        let what = "lists no role, so that nobody could send the event; leave it out for every user";
        return Err(ConfigError::invalid(option(), what));
    }
    Roles::new(roles.iter().map(String::as_str)).map_err(|what| ConfigError::invalid(option(), what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_error::ConfigErrorKind;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::fmt::Write;

    fn events(list: Value) -> BTreeMap<String, EventOptions> {
        serde_json::from_value(list).unwrap()
    }

    fn error(list: Value, limits: Value) -> (String, String) {
        let limits = serde_json::from_value(limits).unwrap();
        let error = Contract::compile(&events(list), limits).unwrap_err();
        assert_eq!(error.kind, ConfigErrorKind::InvalidOption);
        (error.option, error.message)
    }

    #[test]
    fn options_have_defaults_and_no_unknown_keys() {
        assert_eq!(events(json!({"e": {}}))["e"], EventOptions::default());
        assert_eq!(serde_json::from_value::<JsonLimits>(json!({"max_keys": 3})).unwrap().max_depth, 32);
        assert!(serde_json::from_value::<JsonLimits>(json!({"max_key": 3})).is_err());
        assert!(serde_json::from_value::<EventOptions>(json!({"costs": 3})).is_err());
        assert!(serde_json::from_value::<EventOptions>(json!({"cost": "1"})).is_err());
        assert!(serde_json::from_value::<EventOptions>(json!({"roles": "admin"})).is_err());
        assert!(serde_json::from_value::<EventOptions>(json!({"on_mismatch": "answer"})).is_err());
        let rule =
            Contract::compile(&events(json!({"e": {"cost": 0.25, "schema": true}})), JsonLimits::default()).unwrap();
        let rule = rule.event(rule.find("e").unwrap());
        assert_eq!((rule.name(), rule.cost(), rule.has_schema()), ("e", 0.25, true));
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert_eq!(error(json!({}), json!({"max_depth": 0})).0, "json_limits.max_depth");
        assert_eq!(error(json!({}), json!({"max_depth": 129})).1, "must be a whole number from 1 to 128, got 129");
        assert_eq!(error(json!({}), json!({"max_keys": 0})).0, "json_limits.max_keys");
        assert_eq!(error(json!({}), json!({"max_keys": 65_537})).0, "json_limits.max_keys");
        assert_eq!(error(json!({"e": {"cost": -0.1}}), json!({})).0, "events.e.cost");
        assert_eq!(error(json!({"e": {"cost": -1}}), json!({})).1, "must be a number from 0 to 1000000, got -1");
        assert_eq!(error(json!({"e": {"cost": 1_000_001}}), json!({})).0, "events.e.cost");
        assert_eq!(error(json!({"a.b": {"schema": 3}}), json!({})).0, "events.a.b.schema");
        for roles in [json!([]), json!([""]), json!(["a b"]), json!(["a", "x".repeat(65)])] {
            assert_eq!(error(json!({"e": {"roles": roles}}), json!({})).0, "events.e.roles");
        }
        for name in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(129)] {
            let (option, message) = error(json!({name: {}}), json!({}));
            assert_eq!(option, "events");
            assert!(!message.contains('\n') && message.len() < 200, "{message}");
        }
        assert!(Contract::compile(&events(json!({"x".repeat(128): {}})), JsonLimits::default()).is_ok());
    }

    #[test]
    fn events_are_found_by_name_alone() {
        let names: Vec<String> = (0..500)
            .map(|index| format!("same head {index:03} same tail"))
            .chain((0..500).map(|i| i.to_string()))
            .collect();
        let list = names.iter().map(|name| (name.clone(), EventOptions::default())).collect();
        let contract = Contract::compile(&list, JsonLimits::default()).unwrap();
        for name in &names {
            assert_eq!(contract.event(contract.find(name).unwrap()).name(), name);
            assert_eq!(contract.find(&format!("{name} ")), None);
        }
        assert_eq!(contract.find(""), None);
        assert_eq!(contract.find("same head 500 same tail"), None);
    }

    #[test]
    fn data_is_checked_against_its_own_schema() {
        let contract =
            Contract::compile(&events(json!({"n": {"schema": {"type": "integer"}}, "any": {}})), JsonLimits::default());
        let contract = contract.unwrap();
        let (number, any) = (contract.find("n").unwrap(), contract.find("any").unwrap());
        assert!(contract.check(number, "12").is_ok());
        assert_eq!(contract.check(number, "\"12\"").unwrap_err().to_string(), "data: type");
        assert!(contract.check(any, "\"12\"").is_ok());
    }

    /// Values that keep the limits, and a way of writing each that only spelling distinguishes.
    fn written_value() -> impl Strategy<Value = (Value, String)> {
        let text = prop_oneof!["[a-z]{0,5}", "\\PC{0,6}", any::<String>(), "[\u{0}-\u{7f}😀é\\\\\"]{0,20}"];
        let string = (text, any::<u64>()).prop_map(|(text, style)| {
            let written = spell(&text, style);
            (text, written)
        });
        let plain = |value: Value| {
            let written = value.to_string();
            (value, written)
        };
        let leaf = prop_oneof![
            Just(plain(Value::Null)),
            any::<bool>().prop_map(move |value| plain(value.into())),
            (-(1_i64 << 53)..=1 << 53).prop_map(move |value| plain(value.into())),
            any::<i16>().prop_map(move |value| plain(value.into())),
            any::<f64>().prop_filter_map("finite", move |value| value.is_finite().then(|| plain(value.into()))),
            string.clone().prop_map(|(text, written)| (Value::String(text), written)),
        ];
        leaf.prop_recursive(6, 60, 40, move |inner| {
            let key = string
                .clone()
                .prop_filter("harmless", |(key, _)| !matches!(key.as_str(), "__proto__" | "constructor" | "prototype"));
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(|items| {
                    let written: Vec<_> = items.iter().map(|(_, written)| written.as_str()).collect();
                    let written = format!("[{}]", written.join(" ,"));
                    (Value::Array(items.into_iter().map(|(value, _)| value).collect()), written)
                }),
                prop::collection::vec((key, inner), 0..40).prop_map(|members| {
                    let mut object = serde_json::Map::new();
                    let mut written = Vec::new();
                    for ((key, spelled), (value, text)) in members {
                        if !object.contains_key(&key) {
                            object.insert(key, value);
                            written.push(format!("{spelled}\t: {text}"));
                        }
                    }
                    (Value::Object(object), format!("{{\r\n{}}}", written.join(",")))
                }),
            ]
        })
    }

    /// Writes a string with as many needless escapes as `style` has bits.
    fn spell(text: &str, style: u64) -> String {
        let mut written = String::from("\"");
        for (index, character) in text.chars().enumerate() {
            if style >> (index % 64) & 1 == 1 {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(written, "\\u{unit:04x}").unwrap();
                }
            } else {
                let quoted = serde_json::to_string(&character).unwrap();
                written += &quoted[1..quoted.len() - 1];
            }
        }
        written + "\""
    }

    fn json_soup() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\"event\"",
            "\"data\"",
            "\"id\"",
            "\"a\"",
            "\"\\u0061\"",
            "\\ud800",
            "\\u00",
            "1",
            "-",
            "0",
            ".5",
            "e9",
            "9007199254740993",
            "true",
            "null",
            "nul",
            " ",
            "\n",
            "\u{1}",
            "é",
            "😀",
            "{\"event\":\"e\",\"data\":",
            "\"__proto__\":",
        ]);
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    fn agrees_with_serde_json(text: &str) {
        let contract = Contract::compile(&BTreeMap::new(), JsonLimits::default()).unwrap();
        if let Ok(envelope) = contract.read(text, &mut Scratch::new()) {
            let whole: Value = serde_json::from_str(text).unwrap();
            assert_eq!(whole["event"], *envelope.event);
            let data: Value = serde_json::from_str(envelope.data).unwrap();
            assert_eq!(*whole.get("data").unwrap_or(&Value::Null), data);
            assert_eq!(whole.get("id").cloned(), envelope.id.map(|id| serde_json::from_str(id).unwrap()));
            assert_eq!(whole.get("status").cloned(), envelope.status.map(|status| json!(status.name())));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_panics_and_what_is_accepted_is_json(text in prop_oneof![any::<String>(), json_soup()]) {
            agrees_with_serde_json(&text);
            agrees_with_serde_json(&format!(r#"{{"event":"e","data":{text}}}"#));
            agrees_with_serde_json(&format!(r#"{{"event":"{text}"}}"#));
        }

        #[test]
        fn valid_json_within_the_limits_is_accepted((value, written) in written_value()) {
            let contract = Contract::compile(&BTreeMap::new(), JsonLimits::default()).unwrap();
            let text = format!(r#" {{ "event":"e", "data" : {written} }} "#);
            let envelope = contract.read(&text, &mut Scratch::new());
            let envelope = envelope.unwrap_or_else(|bad| panic!("{bad}: {text}"));
            prop_assert_eq!(envelope.data, &*written);
            let ours: Value = serde_json::from_str(envelope.data).unwrap();
            // serde_json without `float_roundtrip` may miss a float by its last bit: compare what it makes of both.
            let theirs: Value = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_changed_byte_never_panics((_, written) in written_value(), at in any::<prop::sample::Index>(), byte in 0..0x80_u8) {
            let mut text = format!(r#"{{"event":"e","id":"x","status":"ok","data":{written}}}"#).into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(text) = String::from_utf8(text) {
                agrees_with_serde_json(&text);
            }
        }

        #[test]
        fn check_never_panics_on_text_that_was_not_read(text in prop_oneof![any::<String>(), json_soup()]) {
            let schema = json!({"properties": {"a": {"items": {"type": "integer", "minimum": 3}}}, "required": ["a"]});
            let contract = Contract::compile(&events(json!({"e": {"schema": schema}})), JsonLimits::default()).unwrap();
            let _ = contract.check(contract.find("e").unwrap(), &text);
        }
    }
}
