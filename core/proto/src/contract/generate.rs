//! Schemas and data from a stream of dice: for the property tests here and the fuzz target `schema`, which includes
//! this file. The schemas branch on purpose: unions and references that recur, dynamic references over several
//! resources, and every keyword that looks at other keywords' answers.

use serde_json::{Map, Value, json};

/// Choices, taken from bytes; from the start again with others when they run out.
pub(crate) struct Dice<'b> {
    bytes: &'b [u8],
    thrown: usize,
}

impl<'b> Dice<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, thrown: 0 }
    }

    /// One of `sides` numbers from 0.
    pub(crate) fn throw(&mut self, sides: usize) -> usize {
        let byte = self.bytes.get(self.thrown % self.bytes.len().max(1)).copied().unwrap_or(0);
        let round = self.thrown / self.bytes.len().max(1);
        self.thrown += 1;
        (usize::from(byte) + round * 7) % sides
    }

    fn of<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.throw(values.len())]
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "ab", "x1", ""];
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
const PATTERNS: [&str; 6] = ["^a", "b$", "^[a-z]{1,2}$", "^$", "\\d", "(a|ab)*c"];
const REFERENCES: [&str; 8] =
    ["root#/$defs/d0", "root#/$defs/d1", "root#/$defs/d2", "root#/$defs/d3", "root", "r0", "r1", "#n"];

/// A whole schema. It may have references that go round, and is refused then.
pub(crate) fn document(dice: &mut Dice<'_>) -> Value {
    let mut root = keywords(dice, 3);
    let mut definitions = Map::new();
    for name in ["d0", "d1", "d2", "d3"] {
        definitions.insert(name.to_owned(), schema(dice, 2));
    }
    for name in ["r0", "r1"] {
        let mut resource = keywords(dice, 2);
        resource.insert("$id".to_owned(), json!(name));
        resource.insert(anchor(dice), json!("n"));
        definitions.insert(name.to_owned(), resource.into());
    }
    root.insert("$id".to_owned(), json!("https://example.com/root"));
    root.insert(anchor(dice), json!("n"));
    root.insert("$defs".to_owned(), definitions.into());
    // Mostly not both, which jsonschema does not always get right.
    let text = Value::from(root).to_string();
    let text = match dice.throw(8) {
        0 => text,
        1..=4 => text.replace("$dynamicRef", "$ref"),
        _ => text.replace("unevaluatedItems", "items").replace("unevaluatedProperties", "additionalProperties"),
    };
    serde_json::from_str(&text).unwrap_or_default()
}

/// The same schema for jsonschema: each `$ref` to the anchor of its own resource names the resource, at whose root the anchor
/// stands. jsonschema 0.60 looks for a `$dynamicAnchor` of that name from the outermost resource inwards, as only
/// `$dynamicRef` does; to `$ref` it is an anchor as any other (core, section 8.2.2).
pub(crate) fn without_anchors(schema: &Value) -> Value {
    rewritten(schema, "root")
}

fn rewritten(schema: &Value, resource: &str) -> Value {
    match schema {
        Value::Array(list) => list.iter().map(|value| rewritten(value, resource)).collect(),
        Value::Object(members) => {
            let own = members.get("$id").and_then(Value::as_str).unwrap_or(resource);
            let member = |(name, value): (&String, &Value)| {
                let is_own_anchor = name == "$ref" && value == "#n";
                (name.clone(), if is_own_anchor { json!(own) } else { rewritten(value, own) })
            };
            Value::Object(members.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

fn anchor(dice: &mut Dice<'_>) -> String {
    dice.of(&["$dynamicAnchor", "$dynamicAnchor", "$anchor"]).to_string()
}

fn schema(dice: &mut Dice<'_>, depth: usize) -> Value {
    match dice.throw(16) {
        0 => json!(true),
        1 => json!(false),
        2..=5 => reference(dice),
        _ => keywords(dice, depth).into(),
    }
}

fn reference(dice: &mut Dice<'_>) -> Value {
    let keyword = *dice.of(&["$ref", "$ref", "$dynamicRef"]);
    json!({keyword: dice.of(&REFERENCES)})
}

fn keywords(dice: &mut Dice<'_>, depth: usize) -> Map<String, Value> {
    let mut keywords = Map::new();
    for _ in 0..=dice.throw(3) {
        let (keyword, value) =
            if depth > 0 && dice.throw(4) > 0 { applicator(dice, depth - 1) } else { assertion(dice) };
        keywords.insert(keyword.to_owned(), value);
    }
    keywords
}

fn assertion(dice: &mut Dice<'_>) -> (&'static str, Value) {
    let limit = |dice: &mut Dice<'_>| json!(dice.throw(4));
    let keyword = *dice.of(&[
        "type",
        "type",
        "type",
        "const",
        "enum",
        "minimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "dependentRequired",
        "pattern",
        "uniqueItems",
        "format",
    ]);
    let value = match keyword {
        "type" if dice.throw(3) == 0 => {
            let first = dice.throw(6);
            json!([TYPES[first], TYPES[first + 1]])
        }
        "type" => json!(dice.of(&TYPES)),
        "const" => data(dice, 2),
        "enum" => (0..=dice.throw(6)).map(|_| data(dice, 1)).collect(),
        "multipleOf" => dice.of(&[json!(1), json!(2), json!(0.5), json!(0.1), json!(1.5)]).clone(),
        "required" => names(dice),
        "dependentRequired" => json!({*dice.of(&NAMES): names(dice), *dice.of(&NAMES): names(dice)}),
        "pattern" => json!(dice.of(&PATTERNS)),
        "uniqueItems" => json!(true),
        "format" => json!("email"),
        _ => limit(dice),
    };
    (keyword, value)
}

fn names(dice: &mut Dice<'_>) -> Value {
    let bits = dice.throw(64);
    NAMES.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).take(2).map(|(_, name)| *name).collect()
}

fn applicator(dice: &mut Dice<'_>, depth: usize) -> (&'static str, Value) {
    let keyword = *dice.of(&[
        "properties",
        "properties",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "items",
        "items",
        "prefixItems",
        "contains",
        "dependentSchemas",
        "allOf",
        "anyOf",
        "anyOf",
        "oneOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedProperties",
        "unevaluatedItems",
        "minContains",
        "maxContains",
        "dependencies",
    ]);
    let value = match keyword {
        "properties" | "dependentSchemas" | "dependencies" => {
            (0..=dice.throw(3)).map(|_| (dice.of(&NAMES).to_string(), schema(dice, depth))).collect()
        }
        "patternProperties" => {
            (0..=dice.throw(2)).map(|_| (dice.of(&PATTERNS).to_string(), schema(dice, depth))).collect()
        }
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => (0..=dice.throw(3)).map(|_| schema(dice, depth)).collect(),
        "minContains" | "maxContains" => json!(dice.throw(3)),
        _ => schema(dice, depth),
    };
    (keyword, value)
}

/// Any data.
pub(crate) fn data(dice: &mut Dice<'_>, depth: usize) -> Value {
    match dice.throw(if depth == 0 { 8 } else { 16 }) {
        0 => Value::Null,
        1 => json!(dice.throw(2) == 1),
        2 | 3 => json!(dice.of(&[-3, -2, -1, 0, 1, 2, 3, 4])),
        4 => json!(dice.of(&[0.5, 1.5, -0.5, 0.3, 2.25])),
        5..=7 => json!(dice.of(&["", "a", "ab", "abc", "x1", "é😀", "aaaab"])),
        8..=11 => (0..dice.throw(4)).map(|_| data(dice, depth - 1)).collect(),
        _ => (0..dice.throw(4)).map(|_| (dice.of(&NAMES).to_string(), data(dice, depth - 1))).collect(),
    }
}

/// Data that has a chance: mostly what the schema, a part of `document`, asks for.
pub(crate) fn fitting(document: &Value, schema: &Value, dice: &mut Dice<'_>, depth: usize) -> Value {
    if depth == 0 || dice.throw(12) == 0 {
        return data(dice, depth.min(2));
    }
    let inside = |schema: &Value, dice: &mut Dice<'_>| fitting(document, schema, dice, depth - 1);
    for keyword in ["$ref", "$dynamicRef"] {
        if let Some(target) = schema[keyword].as_str() {
            let name = target.rsplit('/').next().unwrap_or(target);
            let definition = &document["$defs"][name];
            return inside(if definition.is_null() { document } else { definition }, dice);
        }
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        if let Some(branches) = schema[keyword].as_array().filter(|_| dice.throw(3) > 0) {
            return inside(dice.of(branches), dice);
        }
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return dice.of(values).clone();
    }
    if ["items", "prefixItems", "contains", "unevaluatedItems"].iter().any(|keyword| !schema[*keyword].is_null()) {
        let item = if schema["contains"].is_null() { &schema["items"] } else { &schema["contains"] };
        return (0..dice.throw(4))
            .map(|index| {
                let first = &schema["prefixItems"][index];
                inside(if first.is_null() { item } else { first }, dice)
            })
            .collect();
    }
    let keywords = ["properties", "required", "additionalProperties", "unevaluatedProperties", "dependentSchemas"];
    if schema["type"] == "object" || keywords.iter().any(|keyword| !schema[*keyword].is_null()) {
        let mut members = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if dice.throw(4) > 0 {
                members.insert(name.clone(), inside(property, dice));
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                members.insert(name.to_owned(), inside(&schema["additionalProperties"], dice));
            }
        }
        if dice.throw(3) == 0 {
            members.insert(dice.of(&NAMES).to_string(), inside(&schema["unevaluatedProperties"], dice));
        }
        return members.into();
    }
    match schema["type"].as_str() {
        Some("null") => Value::Null,
        Some("boolean") => json!(dice.throw(2) == 1),
        Some("integer" | "number") => json!(dice.throw(5)),
        Some("string") => json!(dice.of(&["", "a", "ab", "abc"])),
        Some("array") => (0..dice.throw(3)).map(|_| data(dice, 1)).collect(),
        _ => data(dice, 2),
    }
}
