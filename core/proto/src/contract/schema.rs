//! The schema of one event's `data`: JSON Schema 2020-12, compiled once, with nothing to fetch and nothing to blow up.
//!
//! A schema that refers outside itself, that goes round for ever, or whose patterns need backtracking, is refused when
//! it is compiled. What a peer sends decides none of it, and costs at most a small multiple of its size
//! times the schema's: see `evaluate`. The crate jsonschema holds schemas to their meta-schema at start and
//! the evaluator to its answers in tests; it never sees what a peer sends.

use super::compile::compile;
use super::document::{Document, at};
use super::evaluate::{Evaluation, Failure, budget};
use super::instance::Instance;
use super::program::Program;
use super::quick::Quick;
use core::fmt;
use jsonschema::ValidationError;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a configuration error says at most of the compiler's words, in characters.
const MAX_MESSAGE: usize = 400;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema {
    /// Accepts common data without building a value; decides nothing else.
    quick: Option<Quick>,
    program: Program,
    /// The property names that the schema itself mentions: the only ones that may be shown.
    names: BTreeSet<String>,
}

impl Schema {
    /// Compiles a schema; the error says what is wrong with it.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let document = Document::read(schema)?;
        let (program, names) = compile(&document, schema)?;
        // Also the parts that nothing refers to. Only against the meta-schema: jsonschema's compiler takes exponential
        // time over references that fan out.
        jsonschema::draft202012::meta::validate(schema).map_err(|error| refusal(&error))?;
        Ok(Self { quick: Quick::compile(schema), program, names })
    }

    /// Whether vetted JSON text fits.
    pub(super) fn check(&self, data: &str) -> Result<(), SchemaMismatch> {
        if self.quick.as_ref().is_some_and(|quick| quick.accepts(data)) {
            return Ok(());
        }
        self.check_value(data)
    }

    fn check_value(&self, data: &str) -> Result<(), SchemaMismatch> {
        let Some(instance) = Instance::parse(data) else {
            return Err(SchemaMismatch { path: String::new(), keyword: "schema" });
        };
        let mut evaluation = Evaluation::new(&self.program, instance, budget(&self.program, data.len()));
        evaluation.run().map_err(|Failure { value, keyword }| {
            let path = evaluation.instance.path(value, &self.names);
            SchemaMismatch { path, keyword }
        })
    }

    /// What the schema says without the quick path, in how many steps, and how many it might have taken.
    #[cfg(test)]
    pub(super) fn count(&self, data: &str) -> (Result<(), SchemaMismatch>, u64, u64) {
        let instance = Instance::parse(data).unwrap();
        let budget = budget(&self.program, data.len());
        let mut evaluation = Evaluation::new(&self.program, instance, u64::MAX);
        let _ = evaluation.run();
        (self.check_value(data), evaluation.steps, budget)
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
    keyword: &'static str,
}

impl SchemaMismatch {
    /// The place inside `data` as a JSON pointer, empty for `data` itself. Names of properties that the schema does
    /// not mention are shown as `*`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The schema keyword that refused it: `maxLength`. `budget`: checking took too many steps.
    pub fn keyword(&self) -> &str {
        self.keyword
    }
}

impl fmt::Display for SchemaMismatch {
    /// At most 200 characters: `data/items/3/name: maxLength`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data{}: {}", self.path, self.keyword)
    }
}

impl std::error::Error for SchemaMismatch {}

/// Why the meta-schema refuses a schema that has passed `document`. The value at fault is not repeated.
fn refusal(error: &ValidationError<'_>) -> String {
    let message: String = error.masked().to_string().chars().take(MAX_MESSAGE).collect();
    format!("invalid schema{}: {message}", at(error.instance_path().as_str()))
}

/// Another compiler's opinion of data.
#[cfg(test)]
pub(super) fn jsonschema(schema: &Value) -> Result<jsonschema::Validator, ValidationError<'static>> {
    use jsonschema::PatternOptions;
    let patterns = PatternOptions::regex().size_limit(4 << 20).dfa_size_limit(4 << 20);
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).offline();
    options.should_validate_formats(false).with_pattern_options(patterns).build(schema)
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

    // THREATS J6: nothing is ever fetched.
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
        for schema in [json!({"$ref": "#/nope"}), json!({"$ref": "#nope"}), json!({"$ref": "#%ff"})] {
            assert!(refused(&schema).starts_with("invalid schema"), "{schema}");
        }
        assert!(refused(&json!({"$ref": "http://["})).contains("leads out of the schema"));
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
    fn references_that_go_round_are_refused() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]}),
            json!({"if": true, "else": {"$ref": "#"}}),
            json!({"properties": {"a": {"dependentSchemas": {"b": {"$ref": "#/properties/a"}}}}}),
            json!({"$dynamicAnchor": "n", "oneOf": [true, {"$dynamicRef": "#n"}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ] {
            assert!(refused(&schema).contains("leads back to itself"), "{schema}");
        }
        // Unless nothing asks for it.
        assert!(Schema::compile(&json!({"$defs": {"a": {"$ref": "#/$defs/a"}}})).is_ok());
        let tree = Schema::compile(&json!({"type": "array", "items": {"$ref": "#"}})).unwrap();
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // `max_depth` bounds what comes here; nothing recurses on more.
        assert!(tree.check(&nested(128)).is_ok());
        assert!(tree.check(&nested(100_000)).is_ok());
        assert!(tree.check(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))).is_err());
        // Nor on a long way through the schema.
        let mut long = json!({"type": "string"});
        for _ in 0..100 {
            long = json!({"allOf": [{"anyOf": [long]}]});
            if long.to_string().len() > 1_200 {
                break;
            }
        }
        let definitions: serde_json::Map<_, _> =
            (0..20_000).map(|n| (n.to_string(), json!({"$ref": format!("#/$defs/{}", n + 1)}))).collect();
        let mut chain = json!({"$defs": definitions, "$ref": "#/$defs/0"});
        chain["$defs"]["20000"] = long;
        let document = Document::read(&chain).unwrap();
        let (program, _) = compile(&document, &chain).unwrap();
        let run = |data| Evaluation::new(&program, Instance::parse(data).unwrap(), u64::MAX).run();
        assert!(run("\"a\"").is_ok() && run("1").is_err());
    }

    /// The budget ends what is too much, whatever would have come of it.
    #[test]
    fn a_spent_budget_is_a_mismatch() {
        for schema in [json!({"items": {"not": {"type": "null"}}}), json!({"not": {"items": {"type": "null"}}})] {
            let document = Document::read(&schema).unwrap();
            let (program, names) = compile(&document, &schema).unwrap();
            let data = format!("[{}1]", "1,".repeat(500));
            let mut evaluation = Evaluation::new(&program, Instance::parse(&data).unwrap(), 3);
            let failure = evaluation.run().unwrap_err();
            assert_eq!((evaluation.instance.path(failure.value, &names).as_str(), failure.keyword), ("", "budget"));
        }
    }

    /// An integer is written as one: `5.0` is a float to Python, `5` to Node, and a text to C.
    #[test]
    fn integers_are_written_as_integers() {
        for schema in
            [json!({"type": "integer"}), json!({"type": ["integer", "null"]}), json!({"allOf": [{"type": "integer"}]})]
        {
            let schema = Schema::compile(&schema).unwrap();
            for number in ["5", "-5", "0", "-0", "9007199254740992"] {
                assert!(schema.check(number).is_ok(), "{number}");
            }
            for number in ["5.0", "1e2", "1E+2", "-0.0", "0e0", "1e20", "0.5"] {
                assert_eq!(schema.check(number).unwrap_err().to_string().rsplit(' ').next(), Some("type"), "{number}");
            }
        }
        let number = Schema::compile(&json!({"type": "number", "enum": [5, 100]})).unwrap();
        assert!(["5", "5.0", "1e2"].iter().all(|text| number.check(text).is_ok()));
    }

    // THREATS J6: patterns run in linear time.
    #[test]
    fn patterns_do_not_backtrack() {
        for pattern in ["(?=a)b", "(?!a)b", "(?<=a)b", r"(a)\1", "(?:a{1000}){1000}"] {
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
        assert!(
            refused(&json!({"pattern": "("}))
                .contains("the pattern \"(\" is not accepted: it is no regular expression")
        );
    }

    /// A schema of many patterns that are each within bounds.
    #[test]
    fn all_patterns_of_a_schema_are_bounded() {
        let patterns: serde_json::Map<_, _> =
            (0..30).map(|index| (format!("^\\p{{L}}{{{}}}$", 200 + index), json!(true))).collect();
        let message = refused(&json!({"patternProperties": patterns}));
        assert!(message.contains("over 64 MiB together"), "{message}");
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
            (
                json!({"type": "strin"}),
                "at /type: `type` must be one of array, boolean, integer, null, number, object, string",
            ),
            (json!({"items": [{"type": "string"}]}), "at /items: `items` must be a schema"),
            (json!({"$defs": {"a/b": {"enum": 1}}}), "at /$defs/a~1b/enum: `enum` must be a list"),
            (json!({"multipleOf": 0}), "a number above 0"),
            (json!({"allOf": []}), "one at least"),
            (json!({"dependentRequired": {"a": ["b", "b"]}}), "without repetition"),
            (json!({"$anchor": "1 2"}), "at /$anchor"),
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
