//! The schema of one event's `data`: JSON Schema 2020-12, compiled once, with nothing to fetch and nothing to blow up.
//!
//! A schema that refers outside itself, or whose patterns need backtracking, is refused when it is compiled
//! (THREATS J6). What a peer sends decides neither.

use super::quick::Quick;
use super::unique::unique_items;
use core::fmt;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ReferencingError, ValidationError, Validator};
use serde_json::Value;
use std::collections::BTreeSet;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What one pattern may occupy when compiled; bounds the time per byte it is matched against.
const MAX_PATTERN_BYTES: usize = 4 << 20;
/// What `SchemaMismatch` and a configuration error say at most, in characters.
const MAX_PATH: usize = 160;
const MAX_MESSAGE: usize = 400;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema {
    /// Accepts common data without building a value; decides nothing else.
    quick: Option<Quick>,
    validator: Validator,
    /// The property names that the schema itself mentions: the only ones that may be shown.
    names: BTreeSet<String>,
}

impl Schema {
    /// Compiles a schema; the error says what is wrong with it.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let names = survey(schema)?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(patterns)
            .with_keyword("uniqueItems", |_, value, _| Ok(unique_items(value)));
        let validator = options.build(schema).map_err(|error| refusal(&error))?;
        Ok(Self { quick: Quick::compile(schema), validator, names })
    }

    /// Whether vetted JSON text fits.
    pub(super) fn check(&self, data: &str) -> Result<(), SchemaMismatch> {
        if self.quick.as_ref().is_some_and(|quick| quick.accepts(data)) {
            return Ok(());
        }
        self.check_value(data)
    }

    fn check_value(&self, data: &str) -> Result<(), SchemaMismatch> {
        match serde_json::from_str(data) {
            Ok(value) if self.validator.is_valid(&value) => Ok(()),
            Ok(value) => Err(self.mismatch(&value)),
            // A number at the very edge of f64 that serde_json rounds to infinity.
            Err(_) => Err(SchemaMismatch { path: String::new(), keyword: "number".to_owned() }),
        }
    }

    #[cold]
    fn mismatch(&self, value: &Value) -> SchemaMismatch {
        match self.validator.validate(value) {
            Err(error) => SchemaMismatch {
                path: self.shown_path(value, error.instance_path().as_str()),
                keyword: match error.kind() {
                    ValidationErrorKind::FalseSchema => error.schema_path().as_str().rsplit('/').next(),
                    kind => Some(kind.keyword()),
                }
                .filter(|keyword| !keyword.is_empty())
                .unwrap_or("false")
                .to_owned(),
            },
            Ok(()) => SchemaMismatch { path: String::new(), keyword: "schema".to_owned() },
        }
    }

    /// A JSON pointer into `value` in which names that only the peer knows are replaced by `*`.
    fn shown_path(&self, value: &Value, pointer: &str) -> String {
        let mut path = String::new();
        let mut parent = Some(value);
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            let index = parent.filter(|parent| parent.is_array());
            let shown = if index.is_some() || self.names.contains(&name) { segment } else { "*" };
            if path.chars().count() + shown.chars().count() >= MAX_PATH {
                path.push_str("/…");
                break;
            }
            path.push('/');
            path.extend(shown.chars().map(|character| if character.is_control() { '?' } else { character }));
            parent = match parent {
                Some(Value::Object(members)) => members.get(&name),
                Some(Value::Array(items)) => name.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
        }
        path
    }

    /// What the schema says without the quick path.
    #[cfg(test)]
    pub(super) fn check_slowly(&self, data: &str) -> bool {
        self.check_value(data).is_ok()
    }

    /// Whether this schema has a quick path.
    #[cfg(test)]
    pub(super) fn quick(&self) -> Option<&Quick> {
        self.quick.as_ref()
    }
}

/// `data` that does not fit the event's schema. Says where, and never what the peer wrote there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaMismatch {
    path: String,
    keyword: String,
}

impl SchemaMismatch {
    /// The place inside `data` as a JSON pointer, empty for `data` itself. Names of properties that the schema does
    /// not mention are shown as `*`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The schema keyword that refused it: `maxLength`.
    pub fn keyword(&self) -> &str {
        &self.keyword
    }
}

impl fmt::Display for SchemaMismatch {
    /// At most 200 characters: `data/items/3/name: maxLength`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data{}: {:.32}", self.path, self.keyword)
    }
}

impl std::error::Error for SchemaMismatch {}

/// Goes through a schema for what the compiler would let pass: other drafts, and references to the meta-schemas that
/// it carries along. Returns the property names the schema mentions.
fn survey(schema: &Value) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    // With each value: whether its keys are names rather than keywords.
    let mut pending = vec![(schema, false)];
    while let Some((value, named)) = pending.pop() {
        match value {
            Value::Array(items) => pending.extend(items.iter().map(|item| (item, false))),
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        _ if named => {
                            names.insert(key.clone());
                            pending.push((value, false));
                        }
                        ("$schema", Value::String(draft)) if draft.trim_end_matches('#') != DRAFT => {
                            return Err(format!("`$schema` is {}; only {DRAFT} is accepted", shown(draft)));
                        }
                        ("$id" | "$ref" | "$dynamicRef", Value::String(uri)) if is_builtin(uri) => {
                            return Err(leaves(uri));
                        }
                        ("required", Value::Array(required)) => {
                            names.extend(required.iter().filter_map(Value::as_str).map(str::to_owned));
                        }
                        ("const" | "enum" | "default" | "examples", _) => {}
                        ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", _) => {
                            pending.push((value, true));
                        }
                        _ => pending.push((value, false)),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Whether a reference names a meta-schema that the compiler carries along and would not have to fetch.
fn is_builtin(uri: &str) -> bool {
    let rest = uri.split_once("//").map_or("", |(_, rest)| rest);
    rest.get(..15).is_some_and(|host| host.eq_ignore_ascii_case("json-schema.org"))
}

fn leaves(uri: &str) -> String {
    format!(
        "the reference {} leads out of the schema, and nothing is ever fetched: refer to `#...`, or to an `$id` or \
         `$anchor` inside it",
        shown(uri)
    )
}

/// Why the compiler refused a schema.
fn refusal(error: &ValidationError<'_>) -> String {
    let message = match error.kind() {
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => return leaves(uri),
        ValidationErrorKind::Format { format } if format == "regex" => {
            let pattern = error.instance().as_str().unwrap_or_default();
            return format!(
                "the pattern {} is not accepted: patterns run in linear time, without look-around and \
                 backreferences, and compile to at most {} MiB",
                shown(pattern),
                MAX_PATTERN_BYTES >> 20
            );
        }
        _ => error.to_string(),
    };
    let message: String = message.chars().take(MAX_MESSAGE).collect();
    match error.instance_path().as_str() {
        "" => format!("invalid schema: {message}"),
        path => format!("invalid schema at {path}: {message}"),
    }
}

/// A text of the schema, quoted and bounded.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(MAX_MESSAGE).collect();
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value) -> String {
        match Schema::compile(schema) {
            Err(message) => message,
            Ok(_) => panic!("accepted {schema}"),
        }
    }

    fn mismatch(schema: &Value, data: &Value) -> String {
        let error = Schema::compile(schema).unwrap().check(&data.to_string()).unwrap_err().to_string();
        assert!(error.chars().count() <= 200, "{error}");
        error
    }

    #[test]
    fn schemas_decide() {
        let schema = Schema::compile(&json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema#",
            "type": "object",
            "properties": {"room": {"pattern": "^[a-z]{1,8}$"}, "list": {"prefixItems": [{"type": "integer"}]}},
            "required": ["room"],
            "unevaluatedProperties": false,
        }))
        .unwrap();
        assert!(schema.check(r#"{"room":"lobby","list":[1,"x"]}"#).is_ok());
        for data in ["{}", "null", r#"{"room":"Lobby"}"#, r#"{"room":"a","list":["x"]}"#, r#"{"room":"a","b":1}"#] {
            assert!(schema.check(data).is_err(), "{data}");
        }
        assert!(Schema::compile(&json!(true)).unwrap().check("[1]").is_ok());
        assert_eq!(mismatch(&json!(false), &json!(1)), "data: false");
    }

    /// THREATS J6: nothing is ever fetched.
    #[test]
    fn references_stay_inside_the_schema() {
        for uri in [
            "https://example.com/a.json",
            "http://127.0.0.1:1/a.json#/b",
            "file:///etc/passwd",
            "/etc/passwd",
            "other.json",
            "other.json#/$defs/a",
            "//example.com/a",
            "urn:example:a",
            "?a",
            "https://json-schema.org/draft/2020-12/schema",
            "http://json-schema.org/draft-07/schema#",
            "https://JSON-schema.org/draft/2020-12/meta/core",
        ] {
            for keyword in ["$ref", "$dynamicRef"] {
                let reference = json!({keyword: uri});
                for schema in [
                    reference.clone(),
                    json!({"properties": {"enum": reference}}),
                    json!({"anyOf": [{"items": {"not": reference}}]}),
                    json!({"$defs": {"a": reference}, "$ref": "#/$defs/a"}),
                    json!({"x-unknown": reference, "$ref": "#/x-unknown"}),
                    json!({"$id": "https://example.com/root/", "not": reference}),
                ] {
                    let message = refused(&schema);
                    let named = message.contains(uri.split('#').next().unwrap());
                    assert!(named || message.contains("example.com"), "{message} for {schema}");
                    assert!(message.contains("nothing is ever fetched"), "{message} for {schema}");
                }
            }
        }
        for schema in [json!({"$ref": "#/nope"}), json!({"$ref": "#nope"}), json!({"$ref": "http://["})] {
            assert!(refused(&schema).starts_with("invalid schema"), "{schema}");
        }
        for schema in [
            json!({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}),
            json!({"$defs": {"n": {"$anchor": "n", "type": "integer"}}, "items": {"$ref": "#n"}}),
            json!({"$id": "https://example.com/root", "$defs": {"n": {"$id": "n", "type": "integer"}}, "items": {"$ref": "n"}}),
            json!({"$defs": {"n": {"$id": "urn:example:n", "type": "integer"}}, "items": {"$ref": "urn:example:n"}}),
        ] {
            let compiled = Schema::compile(&schema).unwrap_or_else(|message| panic!("{message} for {schema}"));
            assert!(compiled.check("[1,2]").is_ok() && compiled.check("[\"a\"]").is_err(), "{schema}");
        }
    }

    #[test]
    fn references_to_themselves_end() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ] {
            if let Ok(schema) = Schema::compile(&schema) {
                let _ = schema.check("[1]");
            }
        }
        let tree = Schema::compile(&json!({"type": "array", "items": {"$ref": "#"}})).unwrap();
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // As deep as `max_depth` can be set, which is as deep as serde_json reads.
        assert!(tree.check(&nested(127)).is_ok());
        assert!(tree.check(&nested(128)).is_err());
    }

    /// THREATS J6: patterns run in linear time.
    #[test]
    fn patterns_do_not_backtrack() {
        for pattern in ["(?=a)b", "(?!a)b", "(?<=a)b", r"(a)\1", "a{1000}{1000}", "("] {
            for schema in [
                json!({"pattern": pattern}),
                json!({"properties": {"a": {"items": {"pattern": pattern}}}}),
                json!({"patternProperties": {pattern: true}}),
                json!({"patternProperties": {pattern: true}, "additionalProperties": false}),
                json!({"patternProperties": {pattern: true}, "unevaluatedProperties": false}),
                json!({"propertyNames": {"pattern": pattern}}),
            ] {
                let message = refused(&schema);
                let named = message.contains(&format!("{pattern:?}")) && message.contains("linear time");
                assert!(named, "{message} for {schema}");
            }
        }
        let schema = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(schema.check(&format!("\"{}\"", "a".repeat(60_000))).is_ok());
        assert!(schema.check(&format!("\"{}!\"", "a".repeat(60_000))).is_err());
        assert!(Schema::compile(&json!({"pattern": r"^[\p{L}\d_-]{1,64}$"})).is_ok());
    }

    #[test]
    fn only_draft_2020_12_is_accepted() {
        for draft in [
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://example.com/custom",
            "",
        ] {
            for schema in [json!({"$schema": draft}), json!({"$defs": {"a": {"$id": "urn:a", "$schema": draft}}})] {
                let message = refused(&schema);
                assert!(message.contains("only https://json-schema.org/draft/2020-12/schema"), "{message}");
            }
        }
        assert!(Schema::compile(&json!({"$schema": "https://json-schema.org/draft/2020-12/schema"})).is_ok());
        // As data it is not a draft.
        assert!(Schema::compile(&json!({"const": {"$schema": "x", "$ref": "http://json-schema.org/x"}})).is_ok());
        assert!(Schema::compile(&json!({"properties": {"$schema": {"type": "string"}, "$ref": true}})).is_ok());
    }

    #[test]
    fn an_invalid_schema_says_where() {
        for (schema, said) in [
            (json!({"type": "strin"}), "at /type"),
            (json!({"properties": {"a": {"minLength": -1}}}), "at /properties/a/minLength"),
            (json!({"required": "a"}), "at /required"),
            (json!({"properties": {"a": 5}}), "at /properties/a"),
            (json!(3), "invalid schema"),
            (json!([]), "invalid schema"),
            (json!({"$schema": 3}), "at /$schema"),
        ] {
            let message = refused(&schema);
            assert!(message.contains(said), "{message}");
        }
        assert!(refused(&json!({"type": "x".repeat(100_000)})).len() < 2_000);
        assert!(refused(&json!({"pattern": format!("{}(", "x".repeat(100_000))})).len() < 2_000);
    }

    #[test]
    fn formats_are_annotations() {
        let schema = Schema::compile(&json!({"format": "email"})).unwrap();
        assert!(schema.check("\"no address\"").is_ok());
    }

    #[test]
    fn a_mismatch_says_where_and_never_what() {
        let schema = json!({
            "properties": {
                "age": {"maximum": 10},
                "list": {"items": {"properties": {"na/me": {"maxLength": 3}}}},
            },
            "additionalProperties": {"additionalProperties": {"type": "integer"}},
        });
        assert_eq!(mismatch(&schema, &json!({"age": 12345})), "data/age: maximum");
        let long = json!({"list": [{}, {"na/me": "secret"}]});
        assert_eq!(mismatch(&schema, &long), "data/list/1/na~1me: maxLength");
        // Names that only the peer knows are not told.
        assert_eq!(mismatch(&schema, &json!({"secret": {"7": "x"}})), "data/*/*: type");
        assert_eq!(mismatch(&schema, &json!({"\u{1b}[31m": {"age": "x"}})), "data/*/age: type");
        assert_eq!(mismatch(&json!({"required": ["a"]}), &json!({})), "data: required");
        assert_eq!(mismatch(&json!({"anyOf": [{"const": 1}]}), &json!("secret")), "data: anyOf");
        assert_eq!(mismatch(&json!({"uniqueItems": true}), &json!(["secret", "secret"])), "data: uniqueItems");
        assert_eq!(
            mismatch(&json!({"additionalProperties": false}), &json!({"secret": 1})),
            "data: additionalProperties"
        );
        let deep = (0..100).fold(json!(1), |inner, _| json!({"quite long name": inner}));
        let recursive = json!({"properties": {"quite long name": {"$ref": "#"}}, "type": "object"});
        let said = mismatch(&recursive, &deep);
        assert!(said.ends_with("/quite long name/…: type"), "{said}");
    }

    /// Items made to collide in a hash that forgets brackets: the work is linear, not quadratic.
    #[test]
    fn unique_items_survive_collisions() {
        // All bracketings of [0,0,...]: every one is another value.
        let mut items = vec![vec![String::from("0")]];
        for size in 2..=9 {
            let mut of_size = Vec::new();
            for left in 1..size {
                for one in &items[left - 1] {
                    of_size.extend(items[size - left - 1].iter().map(|two| format!("[{one},{two}]")));
                }
            }
            items.push(of_size);
        }
        let items: Vec<String> = items.into_iter().flatten().collect();
        assert!(items.len() > 2_000);
        let schema = Schema::compile(&json!({"uniqueItems": true})).unwrap();
        assert!(schema.check(&format!("[{}]", items.join(","))).is_ok());
        assert!(schema.check(&format!("[{},[0,0]]", items.join(","))).is_err());
    }
}
