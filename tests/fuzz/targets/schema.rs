//! Schema and data made together: checking never comes to its budget, and decides as jsonschema does.
//!
//! The first half of the input throws the dice of the schema, the second those of the data. jsonschema follows references
//! along every path: over schemas whose references fan out it takes gigabytes, or for ever. It is asked about those only
//! that it can take ([`MAX_PATHS`]); ours is asked about all.
#![no_main]

use std::collections::BTreeMap;

use jsonschema::{Draft, PatternOptions, Validator};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use wsguard_proto::contract::{Contract, EventOptions, JsonLimits};

#[path = "../../../core/proto/src/contract/generate.rs"]
mod generate;

use generate::{Dice, data, document, fitting, without_anchors};

/// Beyond it generated documents repeat themselves.
const MAX_DICE: usize = 400;

fn contract(schema: &Value) -> Option<Contract> {
    let options = EventOptions { schema: Some(schema.clone()), ..EventOptions::default() };
    let events = BTreeMap::from([("e".to_owned(), options)]);
    match Contract::compile(&events, JsonLimits::default()) {
        Ok(contract) => Some(contract),
        Err(error) => {
            let foreseen = ["leads back to itself", "leads to nothing"];
            assert!(foreseen.iter().any(|words| error.message.contains(words)), "{error} for {schema}");
            None
        }
    }
}

/// Along how many paths references may lead from the root of a schema that jsonschema is asked about.
const MAX_PATHS: u64 = 300;
/// How deep the data may be that it is asked about.
const MAX_DEPTH: usize = 12;

/// The parts of a document that references lead to.
const PARTS: [&str; 7] = ["", "d0", "d1", "d2", "d3", "r0", "r1"];

/// How many references lead from each part to each other.
type Edges = [[u64; PARTS.len()]; PARTS.len()];

fn edges(schema: &Value) -> Edges {
    let mut edges = Edges::default();
    for (part, edges) in PARTS.iter().zip(&mut edges) {
        references(if part.is_empty() { schema } else { &schema["$defs"][*part] }, edges);
    }
    edges
}

/// Counts the references of one part.
fn references(schema: &Value, edges: &mut [u64; PARTS.len()]) {
    match schema {
        Value::Array(list) => list.iter().for_each(|value| references(value, edges)),
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != "$defs") {
                match value.as_str().filter(|_| matches!(name.as_str(), "$ref" | "$dynamicRef")) {
                    // The anchor of whichever resource is entered first, or of this one.
                    Some("#n") => ["", "r0", "r1"].iter().for_each(|part| edges[place(part)] += 1),
                    Some(target) => edges[place(target.trim_start_matches("root").trim_start_matches("#/$defs/"))] += 1,
                    None => references(value, edges),
                }
            }
        }
        _ => {}
    }
}

fn place(part: &str) -> usize {
    PARTS.iter().position(|known| *known == part).expect("the generator refers to nothing else")
}

/// How many paths lead from a part over references, each until it meets itself.
fn paths(edges: &Edges, from: usize, visited: u8) -> u64 {
    let mut sum = 1_u64;
    for (to, count) in edges[from].iter().enumerate().filter(|(_, count)| **count > 0) {
        let behind = if visited >> to & 1 == 1 { 1 } else { paths(edges, to, visited | 1 << to) };
        sum = sum.saturating_add(behind.saturating_mul(*count));
        if sum > MAX_PATHS {
            break;
        }
    }
    sum
}

/// The other validator, where it can take the schema and is right about it.
fn oracle(schema: &Value) -> Option<Validator> {
    let words = schema.to_string();
    // It forgets what a `$dynamicRef` without an anchor has evaluated, and so with `dependencies`.
    let is_contested =
        words.contains("unevaluated") && (words.contains("$dynamicRef") || words.contains("\"dependencies\""));
    if is_contested || paths(&edges(schema), 0, 1) > MAX_PATHS {
        return None;
    }
    let patterns = PatternOptions::regex().size_limit(4 << 20).dfa_size_limit(4 << 20);
    let options = jsonschema::options().with_draft(Draft::Draft202012).offline();
    let validator =
        options.should_validate_formats(false).with_pattern_options(patterns).build(&without_anchors(schema));
    Some(validator.expect("what the contract accepts is a schema"))
}

fuzz_target!(|input: &[u8]| {
    let (one, two) = input.split_at(input.len() / 2);
    let schema = document(&mut Dice::new(one.get(..MAX_DICE).unwrap_or(one)));
    let Some(contract) = contract(&schema) else { return };
    let Some(index) = contract.find("e") else { panic!("the event is listed") };
    let theirs = oracle(&schema);
    let mut dice = Dice::new(two.get(..MAX_DICE).unwrap_or(two));
    for round in 0..4 {
        let mut value = if round % 2 == 0 { fitting(&schema, &schema, &mut dice, 6) } else { data(&mut dice, 4) };
        let mut deep = 0;
        if round == 3 {
            deep = dice.throw(24);
            value = (0..deep).fold(value, |inner, level| json!({"a": inner, "b": [level]}));
        }
        let text = value.to_string();
        let ours = contract.check(index, &text);
        if let Err(mismatch) = &ours {
            assert!(mismatch.keyword() != "budget", "{text} against {schema}");
            assert!(mismatch.to_string().chars().count() <= 200);
        }
        if let Some(theirs) = theirs.as_ref().filter(|_| deep <= MAX_DEPTH) {
            assert_eq!(ours.is_ok(), theirs.is_valid(&value), "{ours:?} for {text} against {schema}");
        }
    }
});
