//! From a schema document to a [`Program`]: what each keyword of JSON Schema 2020-12 means.
//!
//! It decides which schemas are refused because no message could be checked against them: references out of the
//! document, references that go round without going into the data, patterns that do not run in linear time.

use super::document::{Document, Place, count, shown, vet_alone};
use super::ecma::Refusal;
use super::number::{Decimal, Limit};
use super::pattern::Pattern;
use super::program::{Check, Choices, Count, Counted, Dependents, Named, Node, NodeId, Program, Properties};
use super::quick::{ANY, types};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A subschema is counted once for each dynamic scope in which it is used.
const MAX_NODES: usize = 100_000;
/// What the patterns of one schema may occupy when compiled.
const MAX_PATTERNS_BYTES: usize = 64 << 20;

/// The `$dynamicAnchor`s that evaluation has come across, each with the outermost resource that has it.
type Scope<'s> = BTreeMap<&'s str, usize>;

/// A subschema to be compiled.
#[derive(Clone, Copy)]
struct Task<'s> {
    place: Place<'s>,
    scope: usize,
    keyword: &'static str,
}

struct Compiler<'d, 's> {
    document: &'d Document<'s>,
    tasks: Vec<Task<'s>>,
    /// How many edges lead to each of `tasks`.
    edges: Vec<u32>,
    known: HashMap<(*const Value, usize, usize), NodeId>,
    scopes: Vec<Scope<'s>>,
    scope_ids: HashMap<Scope<'s>, usize>,
    patterns: HashMap<&'s str, Pattern>,
    /// What they occupy.
    pattern_bytes: usize,
    names: BTreeSet<String>,
}

/// Compiles a document. Besides, the names of properties that it mentions.
pub(super) fn compile(document: &Document<'_>, schema: &Value) -> Result<(Program, BTreeSet<String>), String> {
    let mut compiler = Compiler {
        document,
        tasks: Vec::new(),
        edges: Vec::new(),
        known: HashMap::new(),
        scopes: vec![Scope::new()],
        scope_ids: HashMap::from([(Scope::new(), 0)]),
        patterns: HashMap::new(),
        pattern_bytes: 0,
        names: BTreeSet::new(),
    };
    let (whole, _) = document.follow("#", 0)?;
    debug_assert!(std::ptr::eq(whole.schema, schema), "the document is of this schema");
    compiler.node(whole, 0, "false")?;
    let mut nodes: Vec<Node> = Vec::new();
    while let Some(task) = compiler.tasks.get(nodes.len()).copied() {
        nodes.push(compiler.compile(task)?);
    }
    refuse_loops(&nodes)?;
    let mut slots = 0;
    for (node, edges) in nodes.iter_mut().zip(&compiler.edges) {
        if *edges > 1 {
            node.slot = Some(slots);
            slots += 1;
        }
    }
    let size = nodes.iter().map(|node| 1 + node.checks.iter().map(Check::size).sum::<u64>()).sum();
    Ok((Program { nodes: nodes.into(), slots, size }, compiler.names))
}

impl<'s> Compiler<'_, 's> {
    /// The node of a subschema that is entered from `scope`.
    fn node(&mut self, place: Place<'s>, scope: usize, keyword: &'static str) -> Result<NodeId, String> {
        let resource = self.document.home(place.schema, place.resource);
        let place = Place { resource, ..place };
        let scope = self.enter(scope, resource);
        let next = self.tasks.len();
        let key = (std::ptr::from_ref(place.schema), resource, scope);
        let id = *self.known.entry(key).or_insert(next as NodeId);
        if id as usize == next {
            if next >= MAX_NODES {
                return Err(format!("invalid schema: over {MAX_NODES} subschemas, counted for each dynamic scope"));
            }
            self.tasks.push(Task { place, scope, keyword });
            self.edges.push(0);
        }
        if let Some(edges) = self.edges.get_mut(id as usize) {
            *edges += 1;
        }
        Ok(id)
    }

    /// The scope inside a resource that is entered from `scope`.
    fn enter(&mut self, scope: usize, resource: usize) -> usize {
        let Some(outside) = self.scopes.get(scope) else { return scope };
        let mut inside = outside.clone();
        for name in self.document.dynamic_anchors(resource) {
            inside.entry(name).or_insert(resource);
        }
        if let Some(known) = self.scope_ids.get(&inside) {
            return *known;
        }
        self.scope_ids.insert(inside.clone(), self.scopes.len());
        self.scopes.push(inside);
        self.scopes.len() - 1
    }

    fn compile(&mut self, task: Task<'s>) -> Result<Node, String> {
        let mut node = Node { types: ANY, checks: Box::default(), slot: None, gathers: false };
        let keywords = match task.place.schema {
            Value::Object(keywords) => keywords,
            Value::Bool(true) => return Ok(node),
            _ => return Ok(Node { checks: Box::new([Check::Never(task.keyword)]), ..node }),
        };
        node.types = keywords.get("type").and_then(types).unwrap_or(ANY);
        let mut checks = Vec::new();
        self.assertions(keywords, &mut checks)?;
        self.children(keywords, task, &mut checks)?;
        self.branches(keywords, task, &mut checks)?;
        for (keyword, check) in [
            ("unevaluatedProperties", Check::UnevaluatedProperties as fn(NodeId) -> Check),
            ("unevaluatedItems", Check::UnevaluatedItems),
        ] {
            if let Some(inner) = self.inner(keywords, task, keyword)? {
                checks.push(check(inner));
                node.gathers = true;
            }
        }
        node.checks = checks.into();
        Ok(node)
    }

    /// What is asked of the value itself.
    fn assertions(&mut self, keywords: &'s Map<String, Value>, checks: &mut Vec<Check>) -> Result<(), String> {
        if let Some(value) = keywords.get("const") {
            checks.push(Check::Equal("const", Box::new(Choices::of(std::slice::from_ref(value)))));
        }
        if let Some(Value::Array(values)) = keywords.get("enum") {
            checks.push(Check::Equal("enum", Box::new(Choices::of(values))));
        }
        for (keyword, holds) in [
            ("minimum", Ordering::is_ge as fn(Ordering) -> bool),
            ("maximum", Ordering::is_le),
            ("exclusiveMinimum", Ordering::is_gt),
            ("exclusiveMaximum", Ordering::is_lt),
        ] {
            if let Some(Value::Number(limit)) = keywords.get(keyword) {
                checks.push(Check::Bound(keyword, Limit::of(limit), holds));
            }
        }
        if let Some(Value::Number(unit)) = keywords.get("multipleOf") {
            checks.extend(Decimal::of_schema(unit).map(Check::MultipleOf));
        }
        for (keyword, of, at_most) in [
            ("minLength", Counted::Characters, false),
            ("maxLength", Counted::Characters, true),
            ("minItems", Counted::Items, false),
            ("maxItems", Counted::Items, true),
            ("minProperties", Counted::Members, false),
            ("maxProperties", Counted::Members, true),
        ] {
            if let Some(bound) = keywords.get(keyword).and_then(count) {
                checks.push(Check::Count(Count { keyword, of, bound, at_most }));
            }
        }
        if let Some(Value::Array(required)) = keywords.get("required") {
            checks.push(Check::Required(self.sorted(required.iter().filter_map(Value::as_str))));
        }
        for keyword in ["dependentRequired", "dependencies"] {
            if let Some(Value::Object(rules)) = keywords.get(keyword) {
                checks.extend(self.dependents(rules).map(|rules| Check::DependentRequired(keyword, Box::new(rules))));
            }
        }
        if let Some(Value::String(pattern)) = keywords.get("pattern") {
            checks.push(Check::Pattern(self.pattern(pattern)?));
        }
        if keywords.get("uniqueItems") == Some(&Value::Bool(true)) {
            checks.push(Check::UniqueItems);
        }
        Ok(())
    }

    /// What is asked of the values inside the value.
    fn children(
        &mut self,
        keywords: &'s Map<String, Value>,
        task: Task<'s>,
        checks: &mut Vec<Check>,
    ) -> Result<(), String> {
        let named = self.named(keywords, task, "properties")?;
        let mut patterns = Vec::new();
        if let Some(Value::Object(schemas)) = keywords.get("patternProperties") {
            for (pattern, schema) in schemas {
                patterns.push((self.pattern(pattern)?, self.child(schema, task, "patternProperties")?));
            }
        }
        let others = self.inner(keywords, task, "additionalProperties")?;
        if !named.is_empty() || !patterns.is_empty() || others.is_some() {
            checks.push(Check::Properties(Box::new(Properties { named, patterns: patterns.into(), others })));
        }
        if let Some(node) = self.inner(keywords, task, "propertyNames")? {
            checks.push(Check::PropertyNames(node));
        }
        let prefix = self.list(keywords, task, "prefixItems")?.unwrap_or_default();
        let rest = self.inner(keywords, task, "items")?;
        if !prefix.is_empty() || rest.is_some() {
            checks.push(Check::Items { prefix, rest });
        }
        if let Some(node) = self.inner(keywords, task, "contains")? {
            let bound = |keyword| keywords.get(keyword).and_then(count);
            let (min, max) = (bound("minContains").unwrap_or(1), bound("maxContains").unwrap_or(u64::MAX));
            checks.push(Check::Contains { node, min, max });
        }
        Ok(())
    }

    /// What other subschemas ask of the same value.
    fn branches(
        &mut self,
        keywords: &'s Map<String, Value>,
        task: Task<'s>,
        checks: &mut Vec<Check>,
    ) -> Result<(), String> {
        for keyword in ["dependentSchemas", "dependencies"] {
            let named = self.named(keywords, task, keyword)?;
            if !named.is_empty() {
                checks.push(Check::DependentSchemas(named));
            }
        }
        for (keyword, check) in
            [("allOf", Check::AllOf as fn(Box<[NodeId]>) -> Check), ("anyOf", Check::AnyOf), ("oneOf", Check::OneOf)]
        {
            checks.extend(self.list(keywords, task, keyword)?.map(check));
        }
        checks.extend(self.inner(keywords, task, "not")?.map(Check::Not));
        if let Some(condition) = self.inner(keywords, task, "if")? {
            let then = self.inner(keywords, task, "then")?;
            let otherwise = self.inner(keywords, task, "else")?;
            checks.push(Check::If { condition, then, otherwise });
        }
        for keyword in ["$ref", "$dynamicRef"] {
            if let Some(Value::String(reference)) = keywords.get(keyword) {
                checks.push(Check::Reference(self.reference(reference, task, keyword)?));
            }
        }
        Ok(())
    }

    /// The node to which `$ref` or `$dynamicRef` leads.
    fn reference(&mut self, reference: &str, task: Task<'s>, keyword: &'static str) -> Result<NodeId, String> {
        let (mut place, dynamic) = self.document.follow(reference, task.place.resource)?;
        if !self.document.knows(place.schema) {
            vet_alone(place.schema)?;
        }
        if let Some(name) = dynamic.filter(|_| keyword == "$dynamicRef") {
            let outermost = self.scopes.get(task.scope).and_then(|scope| scope.get(name));
            let elsewhere = outermost.and_then(|resource| self.document.dynamic_anchor(*resource, name));
            place = elsewhere.unwrap_or(place);
        }
        self.node(place, task.scope, keyword)
    }

    fn child(&mut self, schema: &'s Value, task: Task<'s>, keyword: &'static str) -> Result<NodeId, String> {
        self.node(Place { schema, resource: task.place.resource }, task.scope, keyword)
    }

    /// The schema that a keyword holds.
    fn inner(
        &mut self,
        keywords: &'s Map<String, Value>,
        task: Task<'s>,
        keyword: &'static str,
    ) -> Result<Option<NodeId>, String> {
        keywords.get(keyword).map(|schema| self.child(schema, task, keyword)).transpose()
    }

    /// The list of schemas that a keyword holds.
    fn list(
        &mut self,
        keywords: &'s Map<String, Value>,
        task: Task<'s>,
        keyword: &'static str,
    ) -> Result<Option<Box<[NodeId]>>, String> {
        let Some(Value::Array(schemas)) = keywords.get(keyword) else { return Ok(None) };
        schemas.iter().map(|schema| self.child(schema, task, keyword)).collect::<Result<_, _>>().map(Some)
    }

    /// The schemas that a keyword holds by name; of `dependencies` those that are schemas.
    fn named(
        &mut self,
        keywords: &'s Map<String, Value>,
        task: Task<'s>,
        keyword: &'static str,
    ) -> Result<Named, String> {
        let Some(Value::Object(schemas)) = keywords.get(keyword) else { return Ok(Named::default()) };
        let mut named: Vec<(Box<str>, NodeId)> = Vec::new();
        for (name, schema) in schemas.iter().filter(|(_, schema)| !schema.is_array()) {
            self.names.insert(name.clone());
            named.push((name.as_str().into(), self.child(schema, task, keyword)?));
        }
        named.sort_unstable();
        Ok(named.into())
    }

    fn sorted<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Box<[Box<str>]> {
        let mut sorted: Vec<Box<str>> = names.map(Box::from).collect();
        sorted.sort_unstable();
        sorted.dedup();
        self.names.extend(sorted.iter().map(ToString::to_string));
        sorted.into()
    }

    /// Names that need others; `None` where only schemas depend on names.
    fn dependents(&mut self, rules: &Map<String, Value>) -> Option<Dependents> {
        let lists = || rules.iter().filter_map(|(name, needed)| Some((name.as_str(), needed.as_array()?)));
        let needed = lists().flat_map(|(_, needed)| needed.iter().filter_map(Value::as_str));
        let names = self.sorted(lists().map(|(name, _)| name).chain(needed));
        let place = |name: &str| names.binary_search_by(|other| (**other).cmp(name)).ok();
        let places = |needed: &[Value]| needed.iter().filter_map(|name| place(name.as_str()?)).collect();
        let rules: Box<[_]> = lists().filter_map(|(name, needed)| Some((place(name)?, places(needed)))).collect();
        (!rules.is_empty()).then_some(Dependents { names, rules })
    }

    fn pattern(&mut self, text: &'s str) -> Result<Pattern, String> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(pattern.clone());
        }
        let refused = |why: Refusal| format!("the pattern {} is not accepted: {}", shown(text), why.words());
        let pattern = Pattern::compile(text).map_err(refused)?;
        self.pattern_bytes += pattern.bytes();
        if self.pattern_bytes > MAX_PATTERNS_BYTES {
            let most = MAX_PATTERNS_BYTES >> 20;
            return Err(format!("the patterns of this schema are too large: they compile to over {most} MiB together"));
        }
        self.patterns.insert(text, pattern.clone());
        Ok(pattern)
    }
}

/// Refuses what would check one value for ever: nodes that lead back to themselves without going into the data.
fn refuse_loops(nodes: &[Node]) -> Result<(), String> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        Open,
        Done,
    }
    let in_place = |node: NodeId| -> Vec<NodeId> {
        nodes.get(node as usize).map(|node| node.checks.iter().flat_map(Check::in_place).collect()).unwrap_or_default()
    };
    let mut seen = vec![Seen::Not; nodes.len()];
    for start in 0..nodes.len() as NodeId {
        if seen.get(start as usize) != Some(&Seen::Not) {
            continue;
        }
        if let Some(place) = seen.get_mut(start as usize) {
            *place = Seen::Open;
        }
        let mut open = vec![(start, in_place(start))];
        while let Some((node, pending)) = open.last_mut() {
            let next = pending.pop();
            let (node, state) = match next {
                None => (*node, Seen::Done),
                Some(next) => (next, Seen::Open),
            };
            let Some(place) = seen.get_mut(node as usize) else { continue };
            match (state, *place) {
                (Seen::Done, _) => {
                    *place = Seen::Done;
                    open.pop();
                }
                (_, Seen::Open) => {
                    let message = "invalid schema: a reference leads back to itself without going into the data, \
                                   so that checking would never end";
                    return Err(message.to_owned());
                }
                (_, Seen::Not) => {
                    *place = Seen::Open;
                    open.push((node, in_place(node)));
                }
                (_, Seen::Done) => {}
            }
        }
    }
    Ok(())
}
