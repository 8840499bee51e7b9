//! The table of options as JSON: what the tables and types of other languages are written from.

use serde_json::{Map, Value, json};

use super::Options;
use super::table::{OptionInfo, Scope, Section, Shape};

/// Every object of options and its members, as JSON: names, documentation, defaults, ranges.
pub fn options_json() -> Value {
    let mut sections = Vec::new();
    collect(Options::SECTION, &mut sections);
    Value::Array(sections.into_iter().map(section).collect())
}

/// The objects of options, each once, those inside of one after it.
fn collect(section: &'static Section, found: &mut Vec<&'static Section>) {
    if found.iter().any(|known| known.name == section.name) {
        return;
    }
    found.push(section);
    section.options.iter().filter_map(|option| option.shape.section()).for_each(|inner| collect(inner, found));
}

fn section(section: &Section) -> Value {
    let options: Vec<_> = section.options.iter().map(option).collect();
    json!({"name": section.name, "doc": section.doc(), "options": options})
}

fn option(option: &OptionInfo) -> Value {
    let mut row = shape(&option.shape);
    let mut say = |name: &str, value: Value| row.insert(name.to_owned(), value);
    say("name", option.name.into());
    say("doc", option.doc().into());
    say("accepted", option.shape.words(option.name).into());
    say("nullable", option.is_nullable.into());
    say("required", option.is_required().into());
    if let Some(range) = range(&option.shape) {
        say("range", range.into());
    }
    // As text: a number keeps its digits, an object its order.
    say("default", option.default_json().into());
    say("secret", option.is_secret().into());
    if let Some(absent) = option.absent() {
        say("absent", absent.into());
    }
    if let Some(scope) = option.scope() {
        say("scope", if scope == Scope::Route { "route" } else { "process" }.into());
        say("reloadable", option.is_reloadable().into());
    }
    Value::Object(row)
}

/// From where to where a number is accepted.
fn range(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Whole { least, most } => Some(format!("{least} to {most}")),
        Shape::Number { least, most, .. } => Some(format!("{least} to {most}")),
        _ => None,
    }
}

fn shape(shape: &Shape) -> Map<String, Value> {
    let described = match shape {
        Shape::Flag => json!({"type": "flag"}),
        Shape::Text(_) => json!({"type": "text"}),
        Shape::Whole { .. } => json!({"type": "whole"}),
        Shape::Codes(codes) => json!({"type": "codes", "values": codes}),
        Shape::Number { .. } => json!({"type": "number"}),
        Shape::Choice(names) => json!({"type": "choice", "values": names}),
        Shape::List { item, most, .. } if *most == usize::MAX => json!({"type": "list", "item": self::shape(item)}),
        Shape::List { item, most, .. } => json!({"type": "list", "item": self::shape(item), "most": most}),
        Shape::Map { item, most, .. } => json!({"type": "map", "item": self::shape(item), "most": most}),
        Shape::Section { section, .. } => json!({"type": "section", "section": section.name}),
        Shape::Ways { names, section, .. } => json!({"type": "ways", "values": names, "section": section.name}),
        Shape::OneOrMany(_) => json!({"type": "one_or_many"}),
        Shape::Route(_) => json!({"type": "route"}),
        Shape::Any => json!({"type": "any"}),
    };
    match described {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
