//! Schema and data made together: checking never comes to its budget, and decides as jsonschema does.
//!
//! The first half of the input throws the dice of the schema, the second those of the data.
#![no_main]

use std::collections::BTreeMap;

use jsonschema::{Draft, PatternOptions};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use wsguard::contract::{Contract, EventOptions, JsonLimits};

#[path = "../../../core/src/contract/generate.rs"]
mod generate;

use generate::{Dice, data, document, fitting};

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

fuzz_target!(|input: &[u8]| {
    let (one, two) = input.split_at(input.len() / 2);
    let schema = document(&mut Dice::new(one.get(..MAX_DICE).unwrap_or(one)));
    let Some(contract) = contract(&schema) else { return };
    let patterns = PatternOptions::regex().size_limit(4 << 20).dfa_size_limit(4 << 20);
    let options = jsonschema::options().with_draft(Draft::Draft202012).offline();
    let theirs = options.should_validate_formats(false).with_pattern_options(patterns).build(&schema);
    let theirs = theirs.expect("what the contract accepts is a schema");
    let Some(index) = contract.find("e") else { panic!("the event is listed") };
    let words = schema.to_string();
    let is_comparable = !(words.contains("unevaluated")
        && (words.contains("$dynamicRef") || words.contains("\"dependencies\"")));
    let mut dice = Dice::new(two);
    for round in 0..4 {
        let mut value = if round % 2 == 0 { fitting(&schema, &schema, &mut dice, 6) } else { data(&mut dice, 4) };
        if round == 3 {
            let depth = dice.throw(24);
            value = (0..depth).fold(value, |inner, level| json!({"a": inner, "b": [level]}));
        }
        let text = value.to_string();
        let ours = contract.check(index, &text);
        if let Err(mismatch) = &ours {
            assert!(mismatch.keyword() != "budget", "{text} against {schema}");
            assert!(mismatch.to_string().chars().count() <= 200);
        }
        // jsonschema forgets what a `$dynamicRef` without an anchor has evaluated.
        if is_comparable {
            assert_eq!(ours.is_ok(), theirs.is_valid(&value), "{ours:?} for {text} against {schema}");
        }
    }
});
