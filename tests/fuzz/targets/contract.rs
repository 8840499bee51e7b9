//! What the contract accepts, serde_json reads the same way; and a schema decides as jsonschema alone would.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::{Draft, PatternOptions, Validator};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use wsguard_fuzz::setting;
use wsguard_proto::contract::{Contract, Envelope, EventOptions, JsonLimits, Scratch};

struct Checked {
    contract: Contract,
    /// The schema of the event `e`.
    validator: Option<Validator>,
    has_patterns: bool,
}

impl Checked {
    fn new(schema: Option<Value>) -> Option<Self> {
        let validator = schema.as_ref().map(|schema| {
            let patterns = PatternOptions::regex().size_limit(4 << 20).dfa_size_limit(4 << 20);
            let options = jsonschema::options().with_draft(Draft::Draft202012).offline();
            options.should_validate_formats(false).with_pattern_options(patterns).build(schema)
        });
        let has_patterns = schema.as_ref().is_some_and(|schema| schema.to_string().contains("\"pattern"));
        let events = BTreeMap::from([("e".to_owned(), EventOptions { schema, ..EventOptions::default() })]);
        let contract = Contract::compile(&events, JsonLimits::default());
        match (contract, validator) {
            // Stricter than the compiler: other drafts, references to the meta-schemas.
            (Err(error), _) => {
                assert!(error.option.starts_with("events.e") && error.message.len() < 6000, "{error}");
                None
            }
            (Ok(contract), Some(Ok(validator))) => Some(Self { contract, validator: Some(validator), has_patterns }),
            // Of an identifier that is no URI: nothing can refer to it.
            (Ok(contract), Some(Err(_)) | None) => Some(Self { contract, validator: None, has_patterns }),
        }
    }
}

static FIXED: LazyLock<[Checked; 6]> = LazyLock::new(|| {
    let schemas = [
        None,
        Some(json!({
            "type": "object", "required": ["room", "text"], "additionalProperties": false,
            "properties": {
                "room": {"type": "string", "minLength": 1, "maxLength": 8},
                "text": {"type": "string", "maxLength": 20},
            },
        })),
        Some(json!({
            "items": {
                "required": ["x"],
                "properties": {"x": {"type": "integer"}, "y": {"type": ["number", "null"], "exclusiveMinimum": -1.5}},
            },
            "minItems": 1,
        })),
        Some(json!({
            "properties": {"a": {"uniqueItems": true}, "b": {"pattern": "^[a-z]{2}[0-9]$"}},
            "patternProperties": {"^x": {"type": "boolean"}},
        })),
        Some(json!({
            "properties": {
                "kind": {"enum": ["a", "b", "é"]},
                "n": {"minimum": 0, "maximum": 10, "multipleOf": 0.5},
                "tags": {"items": {"type": "string"}, "maxItems": 2},
            },
            "minProperties": 1,
            "maxProperties": 3,
        })),
        Some(json!({
            "$defs": {"node": {
                "required": ["value"],
                "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
                "additionalProperties": false,
            }},
            "$ref": "#/$defs/node",
        })),
    ];
    schemas.map(|schema| Checked::new(schema).unwrap())
});

fn check(checked: &Checked, text: &str) {
    let mut scratch = Scratch::new();
    let Ok(envelope) = checked.contract.read(text, &mut scratch) else { return };
    let again = checked.contract.read(text, &mut scratch);
    assert_eq!(again.as_ref(), Ok(&envelope), "a used scratch");
    check_envelope(text, &envelope);
    let Some(index) = checked.contract.find("e") else { panic!("the event is listed") };
    assert_eq!(envelope.index.is_some(), envelope.event == "e");
    let ours = checked.contract.check(index, envelope.data);
    if let Err(mismatch) = &ours {
        assert!(mismatch.to_string().chars().count() <= 200);
    }
    if let Some(validator) = &checked.validator {
        let data: Value = serde_json::from_str(envelope.data).expect("data is JSON");
        assert!(ours.as_ref().err().is_none_or(|mismatch| mismatch.keyword() != "budget"), "{data}");
        if !(has_contested_number(&data) || checked.has_patterns && has_contested_text(&data)) {
            assert_eq!(ours.is_ok(), validator.is_valid(&data), "{data}");
        }
    }
}

/// Whether a number is in it that JSON Schema calls an integer and the contract does not: `5.0`, `1e2`. Very large and
/// very small ones are left out too: `multipleOf` is decimal here, and in jsonschema as far as its integers reach.
fn has_contested_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_f64()
            .is_some_and(|float| number.is_f64() && (float.fract() == 0.0 || !(1e-9..1e9).contains(&float.abs()))),
        Value::Array(items) => items.iter().any(has_contested_number),
        Value::Object(members) => members.values().any(has_contested_number),
        _ => false,
    }
}

/// Whether a text is in it that patterns of jsonschema see in another way than ECMA 262: `.` is any line terminator but
/// `\n` there, and `\b` stands between Unicode's words.
fn has_contested_text(value: &Value) -> bool {
    let is_contested = |text: &str| text.contains('\r') || !text.is_ascii();
    match value {
        Value::String(text) => is_contested(text),
        Value::Array(items) => items.iter().any(has_contested_text),
        Value::Object(members) => members.iter().any(|(name, value)| is_contested(name) || has_contested_text(value)),
        _ => false,
    }
}

fn check_envelope(text: &str, envelope: &Envelope<'_>) {
    let whole: Value = serde_json::from_str(text).expect("what is accepted is JSON");
    let whole = whole.as_object().expect("an object");
    assert_eq!(whole["event"], *envelope.event);
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a part is JSON");
    assert_eq!(whole.get("data").unwrap_or(&Value::Null), &parse(envelope.data));
    assert_eq!(whole.get("id").cloned(), envelope.id.map(parse));
    assert_eq!(whole.get("status").and_then(Value::as_str), envelope.status.map(|status| status.name()));
    let others = ["event", "data", "id", "status"];
    assert!(whole.keys().all(|key| others.contains(&key.as_str())));
    assert!(whole.get("data").is_none_or(|data| within_limits(data, 31)), "a limit was not kept");
}

/// Depth, keys and integers of a value, by recursion.
fn within_limits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() || number.as_i64().is_some_and(|integer| integer.unsigned_abs() <= 1 << 53)
        }
        Value::Array(items) => depth > 0 && items.iter().all(|item| within_limits(item, depth - 1)),
        Value::Object(members) => {
            let forbidden = ["__proto__", "constructor", "prototype"];
            depth > 0
                && members.len() <= 256
                && members
                    .iter()
                    .all(|(key, value)| !forbidden.contains(&key.as_str()) && within_limits(value, depth - 1))
        }
        _ => true,
    }
}

/// Whatever serde_json reads and the limits allow is accepted once it is written plainly.
fn check_plain(checked: &Checked, text: &str) {
    let Ok(data) = serde_json::from_str::<Value>(text) else { return };
    let plain = json!({"event": "e", "data": data}).to_string();
    let accepted = checked.contract.read(&plain, &mut Scratch::new());
    assert_eq!(accepted.is_ok(), within_limits(&data, 31), "{plain}");
    check(checked, &plain);
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Some(checked) = FIXED.get(usize::from(set)) {
        check(checked, text);
        return check_plain(checked, text);
    }
    // A schema of its own on the first line.
    let Some((schema, text)) = text.split_once('\n') else { return };
    let Ok(schema) = serde_json::from_str(schema) else { return };
    if let Some(checked) = Checked::new(Some(schema)) {
        check(&checked, text);
        check_plain(&checked, text);
    }
});
