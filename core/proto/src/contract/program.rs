//! What a schema is compiled to: a graph of nodes, each a list of checks on one value.
//!
//! Every reference is an edge, the dynamic ones too: a subschema that means different things in different dynamic
//! scopes has a node for each. The graph has no cycle that does not go into the data, so that whoever walks it ends.

use super::instance::Instance;
use super::number::{Decimal, Limit};
use super::pattern::Pattern;
use serde_json::Value;
use std::cmp::Ordering;

/// A node's place in [`Program::nodes`].
pub(super) type NodeId = u32;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Program {
    /// The first is the whole schema.
    pub(super) nodes: Box<[Node]>,
    /// How many nodes have a [`Node::slot`].
    pub(super) slots: u32,
    /// What a value can cost at most, in steps and apart from its own length: nodes, names, branches, patterns.
    pub(super) size: u64,
}

/// What one value has to be.
#[derive(Debug)]
pub(super) struct Node {
    /// Bits of [`cursor`](super::cursor).
    pub(super) types: u8,
    pub(super) checks: Box<[Check]>,
    /// Where answers are kept, when more than one way leads here.
    pub(super) slot: Option<u32>,
    /// Whether a check wants to know what the others have evaluated.
    pub(super) gathers: bool,
}

impl Node {
    /// The keyword that nothing passes here: the schema is `false`.
    pub(super) fn never(&self) -> Option<&'static str> {
        match &*self.checks {
            [Check::Never(keyword)] => Some(keyword),
            _ => None,
        }
    }
}

/// One keyword, or the few that belong together.
#[derive(Debug)]
pub(super) enum Check {
    /// Under which keyword the `false` stands.
    Never(&'static str),
    Equal(&'static str, Box<Choices>),
    Bound(&'static str, Limit, fn(Ordering) -> bool),
    MultipleOf(Decimal),
    Count(Count),
    Pattern(Pattern),
    UniqueItems,
    /// Sorted.
    Required(Box<[Box<str>]>),
    DependentRequired(&'static str, Box<Dependents>),
    Properties(Box<Properties>),
    PropertyNames(NodeId),
    Items {
        prefix: Box<[NodeId]>,
        rest: Option<NodeId>,
    },
    Contains {
        node: NodeId,
        min: u64,
        max: u64,
    },
    DependentSchemas(Named),
    AllOf(Box<[NodeId]>),
    AnyOf(Box<[NodeId]>),
    OneOf(Box<[NodeId]>),
    Not(NodeId),
    If {
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
    },
    Reference(NodeId),
    UnevaluatedProperties(NodeId),
    UnevaluatedItems(NodeId),
}

/// Nodes by name, sorted.
pub(super) type Named = Box<[(Box<str>, NodeId)]>;

/// The node of this name.
pub(super) fn find(named: &[(Box<str>, NodeId)], name: &str) -> Option<NodeId> {
    let index = named.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
    named.get(index).map(|(_, node)| *node)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) keyword: &'static str,
    pub(super) of: Counted,
    /// The least or, with `at_most`, the greatest.
    pub(super) bound: u64,
    pub(super) at_most: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Characters,
    Items,
    Members,
}

#[derive(Debug)]
pub(super) struct Properties {
    pub(super) named: Named,
    pub(super) patterns: Box<[(Pattern, NodeId)]>,
    pub(super) others: Option<NodeId>,
}

/// `dependentRequired`.
#[derive(Debug)]
pub(super) struct Dependents {
    /// Every name that it mentions, sorted.
    pub(super) names: Box<[Box<str>]>,
    /// Indices in `names`: with the first, all others.
    pub(super) rules: Box<[(usize, Box<[usize]>)]>,
}

/// The values of `enum` or `const`, by kind and sorted.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) literals: Vec<Box<str>>,
    pub(super) strings: Vec<Box<str>>,
    /// The bits of each.
    pub(super) numbers: Vec<u64>,
    /// Digests of arrays and objects.
    pub(super) compound: Vec<u128>,
}

impl Choices {
    pub(super) fn of(values: &[Value]) -> Self {
        let mut choices = Self::default();
        for value in values.iter().filter(|value| can_be_met(value)) {
            match value {
                Value::Null | Value::Bool(_) => choices.literals.push(value.to_string().into()),
                Value::String(string) => choices.strings.push(string.as_str().into()),
                Value::Number(number) => {
                    choices.numbers.extend(Limit::of(number).exact().map(|number| (number + 0.0).to_bits()));
                }
                Value::Array(_) | Value::Object(_) => {
                    let text = value.to_string();
                    choices.compound.extend(Instance::parse(&text).map(|mut value| value.digest(0)));
                }
            }
        }
        choices.literals.sort_unstable();
        choices.strings.sort_unstable();
        choices.numbers.sort_unstable();
        choices.compound.sort_unstable();
        choices
    }

    pub(super) fn len(&self) -> usize {
        self.literals.len() + self.strings.len() + self.numbers.len() + self.compound.len()
    }
}

/// `false`: an integer in it is none that a message can hold, nor rounds to.
fn can_be_met(value: &Value) -> bool {
    match value {
        Value::Number(number) => Limit::of(number).exact().is_some(),
        Value::Array(items) => items.iter().all(can_be_met),
        Value::Object(members) => members.values().all(can_be_met),
        _ => true,
    }
}

impl Check {
    /// What it adds to [`Program::size`].
    pub(super) fn size(&self) -> u64 {
        let size = match self {
            Self::Equal(_, choices) => choices.len(),
            Self::Required(names) => names.len(),
            Self::DependentRequired(_, dependents) => {
                dependents.names.len() + dependents.rules.iter().map(|(_, names)| 1 + names.len()).sum::<usize>()
            }
            Self::Properties(properties) => 1 + properties.named.len() + 2 * properties.patterns.len(),
            Self::Items { prefix, .. } => 1 + prefix.len(),
            Self::DependentSchemas(named) => named.len(),
            Self::AllOf(nodes) | Self::AnyOf(nodes) | Self::OneOf(nodes) => nodes.len(),
            Self::If { .. } => 3,
            _ => 1,
        };
        1 + size as u64
    }

    /// The nodes that check the same value.
    pub(super) fn in_place(&self) -> Vec<NodeId> {
        match self {
            Self::AllOf(nodes) | Self::AnyOf(nodes) | Self::OneOf(nodes) => nodes.to_vec(),
            Self::Not(node) | Self::Reference(node) => vec![*node],
            Self::If { condition, then, otherwise } => {
                [Some(*condition), *then, *otherwise].into_iter().flatten().collect()
            }
            Self::DependentSchemas(named) => named.iter().map(|(_, node)| *node).collect(),
            _ => Vec::new(),
        }
    }
}
