//! The quick path of common schemas: data is checked as text, without building a value.
//!
//! It only ever says *fits*. Whatever it does not know (a keyword, a key written with escapes) it leaves to the
//! evaluator, and so it does with everything that does not fit: that answer, and its wording, come from one place. A
//! property test holds it to the evaluator's answers.

use super::cursor::{ARRAY, BOOLEAN, Cursor, FLOAT, INTEGER, NULL, OBJECT, STRING};
use super::instance::as_number;
use super::text::{tag, unescape};
use serde_json::{Map, Value};

/// Schemas nested deeper are left to the evaluator; bounds the recursion here.
const MAX_NESTING: usize = 32;
/// Schemas with more properties in one object are left to the evaluator: one bit of a word for each.
const MAX_PROPERTIES: usize = 64;

pub(super) const ANY: u8 = NULL | BOOLEAN | INTEGER | FLOAT | STRING | ARRAY | OBJECT;

/// A schema that is simple enough.
#[derive(Debug)]
pub(super) struct Quick(Node);

/// What one value has to be.
#[derive(Debug)]
struct Node {
    types: u8,
    /// Nothing but the type is asked.
    plain: bool,
    /// Sorted.
    one_of: Option<Box<[Box<str>]>>,
    length: Bounds,
    number: Range,
    items: Option<Box<Node>>,
    item_count: Bounds,
    object: Option<Box<Object>>,
}

/// Inclusive bounds of a count.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    min: u64,
    max: u64,
}

impl Bounds {
    const NONE: Self = Self { min: 0, max: u64::MAX };

    fn hold(self, count: usize) -> bool {
        (self.min..=self.max).contains(&(count as u64))
    }
}

/// Bounds of a number, as far as they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Range {
    min: Option<f64>,
    max: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
}

impl Range {
    fn holds(self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
            && self.above.is_none_or(|above| value > above)
            && self.below.is_none_or(|below| value < below)
    }
}

#[derive(Debug)]
struct Object {
    properties: Box<[Property]>,
    /// A bit for each of `properties` that must be there.
    required: u64,
    /// What other properties have to be; `None`: there may be none.
    others: Option<Node>,
    count: Bounds,
}

#[derive(Debug)]
struct Property {
    tag: u64,
    name: Box<str>,
    /// `None`: only `required` mentions it, so that it is one of the others.
    node: Option<Node>,
}

impl Quick {
    /// The quick path of a schema that the compiler has accepted, when it has one.
    pub(super) fn compile(schema: &Value) -> Option<Self> {
        Node::compile(schema, MAX_NESTING).map(Self)
    }

    /// `true`: the vetted text fits. `false`: ask the evaluator.
    pub(super) fn accepts(&self, data: &str) -> bool {
        let mut cursor = Cursor::new(data);
        self.0.accepts(&mut cursor).is_some() && cursor.is_at_end()
    }
}

impl Node {
    fn of_types(types: u8) -> Self {
        Self {
            types,
            plain: true,
            one_of: None,
            length: Bounds::NONE,
            number: Range::default(),
            items: None,
            item_count: Bounds::NONE,
            object: None,
        }
    }

    fn compile(schema: &Value, nesting: usize) -> Option<Self> {
        let nesting = nesting.checked_sub(1)?;
        let schema = match schema {
            Value::Bool(anything) => return Some(Self::of_types(if *anything { ANY } else { 0 })),
            Value::Object(schema) => schema,
            _ => return None,
        };
        let mut node = Self::of_types(ANY);
        let mut is_object = false;
        for (keyword, value) in schema {
            match keyword.as_str() {
                "$schema" | "$comment" | "title" | "description" | "default" | "examples" | "deprecated"
                | "readOnly" | "writeOnly" | "format" => continue,
                "type" => {
                    node.types = types(value)?;
                    continue;
                }
                "enum" => {
                    let mut one_of: Vec<_> = value.as_array()?.iter().map(as_text).collect::<Option<_>>()?;
                    one_of.sort_unstable();
                    node.one_of = Some(one_of.into());
                }
                "minLength" => node.length.min = value.as_u64()?,
                "maxLength" => node.length.max = value.as_u64()?,
                "minimum" => node.number.min = Some(limit(value)?),
                "maximum" => node.number.max = Some(limit(value)?),
                "exclusiveMinimum" => node.number.above = Some(limit(value)?),
                "exclusiveMaximum" => node.number.below = Some(limit(value)?),
                "items" => node.items = Some(Box::new(Self::compile(value, nesting)?)),
                "minItems" => node.item_count.min = value.as_u64()?,
                "maxItems" => node.item_count.max = value.as_u64()?,
                "properties" | "required" | "additionalProperties" | "minProperties" | "maxProperties" => {
                    is_object = true;
                }
                _ => return None,
            }
            node.plain = false;
        }
        if is_object {
            node.object = Some(Box::new(Object::compile(schema, nesting)?));
        }
        Some(node)
    }

    /// Steps over a value that fits; `None` leaves the answer to the evaluator.
    fn accepts(&self, cursor: &mut Cursor<'_>) -> Option<()> {
        let found = cursor.kind()?;
        if self.types & found == 0 && found != FLOAT {
            return None;
        }
        if self.plain && found & (INTEGER | FLOAT) == 0 {
            return cursor.skip();
        }
        if self.one_of.is_some() && found != STRING {
            return None;
        }
        match found {
            STRING => self.accepts_string(cursor),
            INTEGER | FLOAT => self.accepts_number(cursor),
            ARRAY => self.accepts_array(cursor),
            OBJECT => match &self.object {
                Some(object) => object.accepts(cursor),
                None => cursor.skip(),
            },
            _ => cursor.skip(),
        }
    }

    fn accepts_string(&self, cursor: &mut Cursor<'_>) -> Option<()> {
        let (raw, escaped) = cursor.string()?;
        if let Some(one_of) = &self.one_of
            && (escaped || one_of.binary_search_by(|one| (**one).cmp(raw)).is_err())
        {
            return None;
        }
        if self.length == Bounds::NONE {
            return Some(());
        }
        let length = if escaped {
            let mut characters = String::with_capacity(raw.len());
            unescape(raw, &mut characters);
            characters.chars().count()
        } else {
            raw.chars().count()
        };
        self.length.hold(length).then_some(())
    }

    fn accepts_number(&self, cursor: &mut Cursor<'_>) -> Option<()> {
        let (token, kind) = cursor.number()?;
        if self.types & kind == 0 {
            return None;
        }
        if self.number == Range::default() {
            return Some(());
        }
        self.number.holds(as_number(token)).then_some(())
    }

    fn accepts_array(&self, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut count = 0;
        cursor.enter();
        while !cursor.leaves(b']') {
            match &self.items {
                Some(node) => node.accepts(cursor)?,
                None => cursor.skip()?,
            }
            count += 1;
            cursor.separator(b']')?;
        }
        self.item_count.hold(count).then_some(())
    }
}

impl Object {
    fn compile(schema: &Map<String, Value>, nesting: usize) -> Option<Self> {
        let mut properties = Vec::new();
        if let Some(members) = schema.get("properties") {
            for (name, value) in members.as_object()? {
                properties.push(Property::new(name, Some(Node::compile(value, nesting)?)));
            }
        }
        let mut required = 0;
        for name in schema.get("required").map_or(Some(&Vec::new()), Value::as_array)? {
            let name = name.as_str()?;
            let known = properties.iter().position(|property| *property.name == *name);
            let index = known.unwrap_or(properties.len());
            if known.is_none() {
                properties.push(Property::new(name, None));
            }
            required |= 1_u64.checked_shl(u32::try_from(index).ok()?)?;
        }
        let others = match schema.get("additionalProperties") {
            None => Some(Node::of_types(ANY)),
            Some(Value::Bool(false)) => None,
            Some(others) => Some(Node::compile(others, nesting)?),
        };
        let bound = |keyword, none| schema.get(keyword).map_or(Some(none), Value::as_u64);
        let count = Bounds { min: bound("minProperties", 0)?, max: bound("maxProperties", u64::MAX)? };
        (properties.len() <= MAX_PROPERTIES).then_some(Self { properties: properties.into(), required, others, count })
    }

    fn accepts(&self, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut count = 0;
        let mut seen = 0_u64;
        cursor.enter();
        while !cursor.leaves(b'}') {
            let (name, escaped) = cursor.string()?;
            if escaped {
                return None;
            }
            let known = self.find(name, count);
            cursor.colon()?;
            let node = match known {
                Some((index, property)) => {
                    seen |= 1 << index;
                    property.node.as_ref().or(self.others.as_ref())
                }
                None => self.others.as_ref(),
            };
            node?.accepts(cursor)?;
            count += 1;
            cursor.separator(b'}')?;
        }
        (seen & self.required == self.required && self.count.hold(count)).then_some(())
    }

    /// The property of this name. `guess` is where it stands when a peer writes all of them in order.
    fn find(&self, name: &str, guess: usize) -> Option<(usize, &Property)> {
        let tag = tag(name.as_bytes());
        let is = |property: &Property| property.tag == tag && *property.name == *name;
        match self.properties.get(guess) {
            Some(property) if is(property) => Some((guess, property)),
            _ => self.properties.iter().enumerate().find(|(_, property)| is(property)),
        }
    }
}

impl Property {
    fn new(name: &str, node: Option<Node>) -> Self {
        Self { tag: tag(name.as_bytes()), name: name.into(), node }
    }
}

/// The types that the keyword `type` names.
pub(super) fn types(value: &Value) -> Option<u8> {
    let one = |name: &Value| {
        Some(match name.as_str()? {
            "null" => NULL,
            "boolean" => BOOLEAN,
            "integer" => INTEGER,
            "number" => INTEGER | FLOAT,
            "string" => STRING,
            "array" => ARRAY,
            "object" => OBJECT,
            _ => return None,
        })
    };
    match value {
        Value::Array(names) => names.iter().try_fold(0, |types, name| Some(types | one(name)?)),
        name => one(name),
    }
}

fn as_text(value: &Value) -> Option<Box<str>> {
    value.as_str().map(Box::from)
}

/// A limit that `f64` holds exactly.
fn limit(value: &Value) -> Option<f64> {
    const EXACT: u64 = 1 << 53;
    match value.as_i64() {
        Some(integer) => (integer.unsigned_abs() <= EXACT).then_some(integer as f64),
        None => value.as_f64().filter(|_| !value.is_u64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::schema::Schema;
    use proptest::prelude::*;
    use serde_json::json;

    fn quick(schema: &Value) -> Option<Quick> {
        Schema::compile(schema).unwrap();
        Quick::compile(schema)
    }

    #[test]
    fn common_schemas_are_quick() {
        let quick = quick(&json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "say", "type": "object", "required": ["room", "text"], "additionalProperties": false,
            "properties": {
                "room": {"type": "string", "minLength": 1, "maxLength": 8},
                "text": {"type": "string", "maxLength": 20},
                "n": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 10},
                "kind": {"enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                "point": {"type": "object", "properties": {"x": {"type": "number"}}},
                "any": true,
            },
        }));
        let quick = quick.unwrap();
        for data in [
            r#"{"room":"lobby","text":"hello"}"#,
            r#" {"text" : "", "room": "\u00e9\ud83d\ude00345678" , "n":null} "#.trim(),
            r#"{"room":"lobby","text":"hello","n":0,"kind":"b","tags":["x","y"],"point":{"x":1.5e3,"y":[1,{}]},"any":[{"a":"]}"}]}"#,
            "{\"room\":\"12345678\",\"text\":\"éééééééééééééééééééé\"}",
        ] {
            assert!(quick.accepts(data), "{data}");
        }
        for data in [
            "null",
            "{}",
            r#"{"room":"lobby"}"#,
            r#"{"room":"","text":""}"#,
            r#"{"room":"123456789","text":""}"#,
            r#"{"room":"a","text":"","other":1}"#,
            r#"{"room":"a","text":"","n":-1}"#,
            r#"{"room":"a","text":"","n":10}"#,
            r#"{"room":"a","text":"","n":"1"}"#,
            r#"{"room":"a","text":"","kind":"c"}"#,
            r#"{"room":"a","text":"","kind":1}"#,
            r#"{"room":"a","text":"","tags":["x","y","z"]}"#,
            r#"{"room":"a","text":"","tags":[1]}"#,
            r#"{"room":"a","text":"","point":{"x":"1"}}"#,
            r#"{"room":"a","text":1}"#,
        ] {
            assert!(!quick.accepts(data), "{data}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_to_the_evaluator() {
        for schema in [
            json!({"$ref": "#/$defs/a", "$defs": {"a": true}}),
            json!({"pattern": "a"}),
            json!({"properties": {"a": {"allOf": [true]}}}),
            json!({"enum": [1, "a"]}),
            json!({"const": "a"}),
            json!({"minimum": 9_007_199_254_740_993_u64}),
            json!({"minimum": -9_007_199_254_740_993_i64}),
            json!({"maximum": u64::MAX}),
            json!({"maxLength": 2.0}),
            json!({"patternProperties": {}}),
            json!({"required": (0..65).map(|index| index.to_string()).collect::<Vec<_>>()}),
            (0..40).fold(json!(true), |inner, _| json!({"items": inner})),
        ] {
            assert!(quick(&schema).is_none(), "{schema}");
        }
        let last = (0..64).map(|index| format!("{index:02}")).collect::<Vec<_>>();
        let all = json!(last.iter().map(|name| (name.clone(), json!(1))).collect::<Map<_, _>>()).to_string();
        let quick = quick(&json!({"required": last})).unwrap();
        assert!(quick.accepts(&all) && !quick.accepts(&all.replace("\"63\"", "\"64\"")));
    }

    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c", "ab", "é", "", "a long name, longer than 8", "a\"b"])
            .prop_map(str::to_owned)
    }

    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            (-3_i64..4).prop_map(Value::from),
            prop::sample::select(vec![-0.0, 0.0, 0.5, 1.0, -1.5, 2.0, 0.1, 0.3, 1e300, 3.0e-300]).prop_map(Value::from),
            (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
            any::<f64>().prop_filter_map("finite", |value| value.is_finite().then(|| Value::from(value))),
        ]
    }

    /// Schemas of the keywords that are known here, and now and then one that is not.
    fn schema() -> impl Strategy<Value = Value> {
        let kind = || prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"]);
        let keyword = move || {
            prop_oneof![
                4 => kind().prop_map(|kind| ("type", json!(kind))),
                1 => prop::collection::btree_set(kind(), 1..4).prop_map(|kinds| ("type", json!(kinds))),
                1 => (0..4_u64).prop_map(|limit| ("minLength", json!(limit))),
                1 => (0..6_u64).prop_map(|limit| ("maxLength", json!(limit))),
                1 => number().prop_map(|limit| ("minimum", limit)),
                1 => number().prop_map(|limit| ("maximum", limit)),
                1 => number().prop_map(|limit| ("exclusiveMinimum", limit)),
                1 => number().prop_map(|limit| ("exclusiveMaximum", limit)),
                1 => (0..3_u64).prop_map(|limit| ("minItems", json!(limit))),
                1 => (0..3_u64).prop_map(|limit| ("maxItems", json!(limit))),
                1 => (0..3_u64).prop_map(|limit| ("minProperties", json!(limit))),
                1 => (0..4_u64).prop_map(|limit| ("maxProperties", json!(limit))),
                1 => prop::collection::btree_set(name(), 0..3).prop_map(|names| ("required", json!(names))),
                1 => prop::collection::btree_set(name(), 1..4).prop_map(|names| ("enum", json!(names))),
                1 => any::<bool>().prop_map(|open| ("additionalProperties", json!(open))),
                1 => Just(("format", json!("email"))),
            ]
        };
        let leaf = prop_oneof![
            1 => any::<bool>().prop_map(Value::from),
            9 => prop::collection::vec(keyword(), 0..4).prop_map(object),
        ];
        leaf.prop_recursive(3, 20, 4, move |inner| {
            let properties = prop::collection::btree_map(name(), inner.clone(), 0..4);
            let nested = prop_oneof![
                4 => properties.prop_map(|members| ("properties", json!(members))),
                2 => inner.clone().prop_map(|inner| ("items", inner)),
                1 => inner.prop_map(|inner| ("additionalProperties", inner)),
            ];
            (prop::collection::vec(keyword(), 0..3), prop::collection::vec(nested, 1..3))
                .prop_map(|(own, nested)| object(own.into_iter().chain(nested).collect()))
        })
    }

    fn object(members: Vec<(&'static str, Value)>) -> Value {
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number(),
            name().prop_map(Value::from),
            "[aé😀\"\\\\\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name(), inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    /// A value that has a chance: mostly what the schema asks for.
    fn fitting(schema: &Value, dice: &mut impl FnMut() -> usize) -> Value {
        let kinds = ["null", "boolean", "integer", "number", "string", "array", "object"];
        let kind = match &schema["type"] {
            Value::String(kind) => kind.as_str(),
            Value::Array(some) => some[dice() % some.len()].as_str().unwrap(),
            _ if schema["enum"].is_array() || !schema["minLength"].is_null() => "string",
            _ if schema["properties"].is_object() || schema["required"].is_array() => "object",
            _ if !schema["items"].is_null() => "array",
            _ => kinds[dice() % kinds.len()],
        };
        match kind {
            "null" => Value::Null,
            "boolean" => json!(dice().is_multiple_of(2)),
            "integer" | "number" => {
                let limits = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
                match &schema[limits[dice() % 4]] {
                    Value::Number(limit) if kind == "number" || limit.is_i64() => limit.clone().into(),
                    _ => json!(dice() % 7),
                }
            }
            "string" => match schema["enum"].as_array() {
                Some(some) => some[dice() % some.len()].clone(),
                None => json!(["", "a", "é😀", "abc\n", "\"\"\"\"", "éééééé"][dice() % 6]),
            },
            "array" => (0..dice() % 4).map(|_| fitting(&schema["items"], dice)).collect(),
            _ => {
                let mut members = Map::new();
                for (name, property) in schema["properties"].as_object().unwrap_or(&Map::new()) {
                    if !dice().is_multiple_of(4) {
                        members.insert(name.clone(), fitting(property, dice));
                    }
                }
                for name in schema["required"].as_array().unwrap_or(&vec![]) {
                    let property = &schema["properties"][name.as_str().unwrap()];
                    members.insert(name.as_str().unwrap().to_owned(), fitting(property, dice));
                }
                members.into()
            }
        }
    }

    fn agree(schema: &Value, data: &str, spelled_plainly: bool) -> Option<bool> {
        let compiled = Schema::compile(schema).unwrap();
        let quick = compiled.quick()?;
        let (ours, theirs) = (quick.accepts(data), compiled.check_slowly(data));
        assert!(!ours || theirs, "{data} is accepted against {schema}");
        assert_eq!(compiled.check(data).is_ok(), theirs);
        if spelled_plainly {
            assert_eq!(ours, theirs, "{data} needs the evaluator for {schema}");
        }
        Some(theirs)
    }

    /// Without escapes, which may be left to the evaluator.
    fn is_plain(data: &str) -> bool {
        !data.contains('\\')
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_evaluator_agrees_on_any_data(schema in schema(), value in value()) {
            let data = value.to_string();
            agree(&schema, &data, is_plain(&data));
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            agree(&schema, &spaced, is_plain(&spaced));
        }

        #[test]
        fn the_evaluator_agrees_on_data_made_to_fit(schema in schema(), dice in prop::collection::vec(any::<u8>(), 64)) {
            let mut thrown = dice.iter().cycle().enumerate().map(|(round, side)| usize::from(*side) + round);
            let data = fitting(&schema, &mut || thrown.next().unwrap()).to_string();
            agree(&schema, &data, is_plain(&data));
        }
    }

    #[test]
    fn enough_of_the_generated_cases_are_accepted() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let mut accepted = 0;
        for round in 0..1_000_usize {
            let schema = schema().new_tree(&mut runner).unwrap().current();
            let mut state = round;
            let mut dice = || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                state >> 33
            };
            let data = fitting(&schema, &mut dice).to_string();
            accepted += usize::from(agree(&schema, &data, is_plain(&data)) == Some(true));
        }
        assert!(accepted > 250, "{accepted} of 1000");
    }
}
