//! One schema document: where its subschemas stand, by which identifiers they can be referred to, and whether each
//! keyword is given what it takes.
//!
//! It decides which schemas are refused at start with words about the keyword at fault; the meta-schema is asked after
//! it. What the keywords mean is decided by `compile`. No reference ever leaves the document.

use super::uri;
use serde_json::{Map, Value};
use std::collections::HashMap;

pub(super) const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// What an error says at most of the schema's own text, in characters.
const MAX_SHOWN: usize = 400;
/// Schemas inside schemas.
const MAX_NESTING: usize = 128;
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// A part of the document with an identifier of its own, or the whole.
#[derive(Debug)]
struct Resource<'s> {
    base: String,
    root: &'s Value,
    /// By name; whether it is a `$dynamicAnchor`.
    anchors: HashMap<&'s str, (&'s Value, bool)>,
}

/// What a reference leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'s> {
    pub(super) schema: &'s Value,
    pub(super) resource: usize,
}

/// A schema whose keywords have been looked through.
#[derive(Debug)]
pub(super) struct Document<'s> {
    resources: Vec<Resource<'s>>,
    by_uri: HashMap<String, usize>,
    /// The resource of every subschema, by its address.
    homes: HashMap<*const Value, usize>,
    /// Every reference and the resource in which it stands.
    references: Vec<(&'s str, usize)>,
}

/// What a keyword takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Schema,
    Schemas,
    NamedSchemas,
    /// The old `dependencies`: names or a schema for each name.
    Dependencies,
    Types,
    Count,
    Number,
    PositiveNumber,
    Text,
    Names,
    NamedNames,
    List,
    Boolean,
}

fn takes(keyword: &str) -> Option<Takes> {
    Some(match keyword {
        "additionalProperties"
        | "propertyNames"
        | "items"
        | "contains"
        | "not"
        | "if"
        | "then"
        | "else"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contentSchema" => Takes::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Takes::Schemas,
        "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => Takes::NamedSchemas,
        "dependencies" => Takes::Dependencies,
        "type" => Takes::Types,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
        | "maxContains" => Takes::Count,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Takes::Number,
        "multipleOf" => Takes::PositiveNumber,
        "$id" | "$schema" | "$ref" | "$dynamicRef" | "$anchor" | "$dynamicAnchor" | "$comment" | "pattern"
        | "format" | "title" | "description" | "contentEncoding" | "contentMediaType" => Takes::Text,
        "required" => Takes::Names,
        "dependentRequired" => Takes::NamedNames,
        "enum" | "examples" => Takes::List,
        "uniqueItems" | "deprecated" | "readOnly" | "writeOnly" => Takes::Boolean,
        _ => return None,
    })
}

impl Takes {
    /// Whether this value will do, apart from the schemas inside it.
    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Schema => is_schema(value),
            Self::Schemas => value.as_array().is_some_and(|list| !list.is_empty()),
            Self::NamedSchemas => value.is_object(),
            Self::Dependencies => {
                value.as_object().is_some_and(|map| map.values().all(|one| is_schema(one) || is_names(one)))
            }
            Self::Types => match value {
                Value::Array(list) => !list.is_empty() && list.iter().all(is_type) && is_names(value),
                one => is_type(one),
            },
            Self::Count => count(value).is_some(),
            Self::Number => value.is_number(),
            Self::PositiveNumber => value.as_f64().is_some_and(|number| number > 0.0),
            Self::Text => value.is_string(),
            Self::Names => is_names(value),
            Self::NamedNames => value.as_object().is_some_and(|map| map.values().all(is_names)),
            Self::List => value.is_array(),
            Self::Boolean => value.is_boolean(),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Schema => "a schema (an object or a boolean)".to_owned(),
            Self::Schemas => "a list of schemas, one at least".to_owned(),
            Self::NamedSchemas => "an object of schemas".to_owned(),
            Self::Dependencies => "an object of schemas or lists of names".to_owned(),
            Self::Types => format!("one of {}, or a list of them without repetition", TYPES.join(", ")),
            Self::Count => "a whole number, 0 or more".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::PositiveNumber => "a number above 0".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Names => "a list of names without repetition".to_owned(),
            Self::NamedNames => "an object of lists of names without repetition".to_owned(),
            Self::List => "a list".to_owned(),
            Self::Boolean => "true or false".to_owned(),
        }
    }
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn is_names(value: &Value) -> bool {
    let Some(list) = value.as_array() else { return false };
    let mut names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.len() == list.len()
}

/// A whole number that is not negative, also written `2.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    let whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0;
    value.as_u64().or_else(|| value.as_f64().filter(whole).map(|number| number as u64))
}

/// A subschema that has still to be looked at.
struct Pending<'s> {
    schema: &'s Value,
    path: String,
    resource: usize,
    nesting: usize,
}

impl<'s> Document<'s> {
    /// Goes through every subschema; the error says which keyword is wrong.
    pub(super) fn read(schema: &'s Value) -> Result<Self, String> {
        let document = Self::survey(schema)?;
        // Also those in parts that nothing uses.
        for (reference, resource) in &document.references {
            document.follow(reference, *resource)?;
        }
        Ok(document)
    }

    fn survey(schema: &'s Value) -> Result<Self, String> {
        let whole = Resource { base: uri::NO_BASE.to_owned(), root: schema, anchors: HashMap::new() };
        let mut document =
            Self { resources: vec![whole], by_uri: HashMap::new(), homes: HashMap::new(), references: Vec::new() };
        document.by_uri.insert(uri::NO_BASE.to_owned(), 0);
        let mut pending = vec![Pending { schema, path: String::new(), resource: 0, nesting: 0 }];
        while let Some(next) = pending.pop() {
            document.look_at(next, &mut pending)?;
        }
        Ok(document)
    }

    fn look_at(&mut self, mut this: Pending<'s>, pending: &mut Vec<Pending<'s>>) -> Result<(), String> {
        if this.nesting > MAX_NESTING {
            return Err(format!("invalid schema{}: over {MAX_NESTING} schemas inside each other", at(&this.path)));
        }
        let Value::Object(keywords) = this.schema else {
            self.homes.insert(this.schema, this.resource);
            return if this.schema.is_boolean() { Ok(()) } else { Err(wrong(&this.path, "schema", Takes::Schema)) };
        };
        Self::vet(keywords, &this.path)?;
        self.identify(keywords, &mut this)?;
        for (keyword, value) in keywords {
            let inside = |schema, name: Option<String>| Pending {
                schema,
                path: match name {
                    Some(name) => format!("{}/{keyword}/{}", this.path, name.replace('~', "~0").replace('/', "~1")),
                    None => format!("{}/{keyword}", this.path),
                },
                resource: this.resource,
                nesting: this.nesting + 1,
            };
            match (takes(keyword), value) {
                (Some(Takes::Schema), value) => pending.push(inside(value, None)),
                (Some(Takes::Schemas), Value::Array(list)) => {
                    pending
                        .extend((0..).zip(list).map(|(index, one): (usize, _)| inside(one, Some(index.to_string()))));
                }
                (Some(Takes::NamedSchemas | Takes::Dependencies), Value::Object(map)) => {
                    let schemas = map.iter().filter(|(_, one)| keyword != "dependencies" || is_schema(one));
                    pending.extend(schemas.map(|(name, one)| inside(one, Some(name.clone()))));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn vet(keywords: &Map<String, Value>, path: &str) -> Result<(), String> {
        for (keyword, value) in keywords {
            if let Some(takes) = takes(keyword)
                && !takes.accepts(value)
            {
                return Err(wrong(&format!("{path}/{keyword}"), keyword, takes));
            }
        }
        match keywords.get("$schema").and_then(Value::as_str) {
            Some(draft) if draft.trim_end_matches('#') != DRAFT => {
                Err(format!("`$schema` is {}; only {DRAFT} is accepted", shown(draft)))
            }
            _ => Ok(()),
        }
    }

    /// Notes `$id` and the anchors of a subschema.
    fn identify(&mut self, keywords: &'s Map<String, Value>, this: &mut Pending<'s>) -> Result<(), String> {
        let text = |keyword| keywords.get(keyword).and_then(Value::as_str);
        let twice =
            |what: &str, name: &str| Err(format!("`{what}` {} stands in two places of the schema", shown(name)));
        if let Some(id) = text("$id") {
            if is_builtin(id) {
                return Err(leaves(id));
            }
            let base = self.resources.get(this.resource).map_or(uri::NO_BASE, |resource| &resource.base);
            let base = uri::resolve(base, id.split('#').next().unwrap_or_default());
            if this.path.is_empty() {
                self.by_uri.insert(base.clone(), 0);
                self.resources.iter_mut().for_each(|whole| whole.base.clone_from(&base));
            } else {
                this.resource = self.resources.len();
                if self.by_uri.insert(base.clone(), this.resource).is_some() {
                    return twice("$id", id);
                }
                self.resources.push(Resource { base, root: this.schema, anchors: HashMap::new() });
            }
        }
        self.homes.insert(this.schema, this.resource);
        let references = ["$ref", "$dynamicRef"].into_iter().filter_map(text);
        self.references.extend(references.map(|reference| (reference, this.resource)));
        for (keyword, dynamic) in [("$anchor", false), ("$dynamicAnchor", true)] {
            if let Some(name) = text(keyword)
                && let Some(resource) = self.resources.get_mut(this.resource)
                && resource.anchors.insert(name, (this.schema, dynamic)).is_some()
            {
                return twice(keyword, name);
            }
        }
        Ok(())
    }

    /// The resource to which a schema belongs that stands inside one of `around`.
    pub(super) fn home(&self, schema: &'s Value, around: usize) -> usize {
        self.homes.get(&std::ptr::from_ref(schema)).copied().unwrap_or(around)
    }

    /// Whether a schema stands where the document has subschemas.
    pub(super) fn knows(&self, schema: &Value) -> bool {
        self.homes.contains_key(&std::ptr::from_ref(schema))
    }

    /// The names of a resource's `$dynamicAnchor`s.
    pub(super) fn dynamic_anchors(&self, resource: usize) -> impl Iterator<Item = &'s str> {
        let anchors = self.resources.get(resource).into_iter().flat_map(|resource| &resource.anchors);
        anchors.filter(|(_, (_, dynamic))| *dynamic).map(|(name, _)| *name)
    }

    /// The subschema that a resource calls `name` dynamically.
    pub(super) fn dynamic_anchor(&self, resource: usize, name: &str) -> Option<Place<'s>> {
        let (schema, dynamic) = *self.resources.get(resource)?.anchors.get(name)?;
        dynamic.then_some(Place { schema, resource })
    }

    /// Follows a reference that stands in `from`. Besides, the name when a `$dynamicAnchor` was meant.
    pub(super) fn follow<'r>(&self, reference: &'r str, from: usize) -> Result<(Place<'s>, Option<&'r str>), String> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let nothing = || format!("invalid schema: the reference {} leads to nothing in it", shown(reference));
        let resource = if document.is_empty() {
            from
        } else {
            let base = &self.resources.get(from).ok_or_else(nothing)?.base;
            let uri = uri::resolve(base, document);
            if is_builtin(&uri) {
                return Err(leaves(reference));
            }
            *self.by_uri.get(&uri).ok_or_else(|| leaves(reference))?
        };
        let found = self.resources.get(resource).ok_or_else(nothing)?;
        if let Some((schema, dynamic)) = found.anchors.get(fragment) {
            return Ok((Place { schema, resource }, dynamic.then_some(fragment)));
        }
        let pointer = uri::decoded(fragment).filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let place = pointer.and_then(|pointer| self.walk(found.root, resource, &pointer)).ok_or_else(nothing)?;
        Ok((place, None))
    }

    /// Follows a JSON pointer from the root of a resource.
    fn walk(&self, root: &'s Value, mut resource: usize, pointer: &str) -> Option<Place<'s>> {
        let mut schema = root;
        for segment in pointer.split('/').skip(1) {
            schema = match schema {
                Value::Object(members) => members.get(&segment.replace("~1", "/").replace("~0", "~"))?,
                Value::Array(items) => items.get(segment.parse::<usize>().ok()?)?,
                _ => return None,
            };
            resource = self.home(schema, resource);
        }
        Some(Place { schema, resource })
    }
}

/// Looks at a schema that only a reference reaches, under a keyword that means nothing. Its references are followed
/// when it is compiled.
pub(super) fn vet_alone(schema: &Value) -> Result<(), String> {
    Document::survey(schema).map(drop)
}

fn wrong(path: &str, keyword: &str, takes: Takes) -> String {
    let place = at(path);
    match keyword {
        "schema" => format!("invalid schema{place}: must be {}", takes.words()),
        _ => format!("invalid schema{place}: `{keyword}` must be {}", takes.words()),
    }
}

/// A place in the schema for an error: bounded, and without control characters, which names may have.
pub(super) fn at(path: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    let path: String = path.chars().take(MAX_SHOWN).map(shown).collect();
    if path.is_empty() { path } else { format!(" at {path}") }
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

/// A text of the schema, quoted and bounded.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(MAX_SHOWN).collect();
    format!("{start:?}")
}
