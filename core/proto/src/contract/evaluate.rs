//! Walks a [`Program`] over an [`Instance`]: does the message fit, and if not, where is the first mismatch.
//!
//! Nothing recurses: what is being checked lies on a stack of frames. Nodes that more than one way leads to
//! are asked once for each value and remembered, so that a message costs at most a small multiple of its size times
//! the schema's, however unions and references are nested. All work is counted in steps; beyond [`budget`] the message
//! is a mismatch. No list of errors is made: wording a mismatch costs no more than finding it.

use super::cursor::{ARRAY, FLOAT, INTEGER, OBJECT, STRING};
use super::instance::Instance;
use super::memo::{Evaluated, Memo};
use super::number::Decimal;
use super::pattern::{Effort, Exhausted, Pattern};
use super::program::{Check, Choices, Count, Counted, Dependents, Node, NodeId, Program, Properties, find};

/// Steps for each byte of the message (and 64 more) and each unit of the schema's size. Generated schemas and data that
/// are made to branch stay under an eighth of it.
const STEPS: u64 = 8;

/// A step buys so much [`Effort`] of a pattern.
const EFFORT: u64 = 32;

/// The most steps that checking `len` bytes against this schema may take.
pub(super) fn budget(program: &Program, len: usize) -> u64 {
    STEPS.saturating_mul(len as u64 + 64).saturating_mul(program.size)
}

/// Where and by which keyword a message does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) value: u32,
    pub(super) keyword: &'static str,
}

/// A node that is being checked on a value.
struct Frame {
    node: NodeId,
    value: u32,
    /// Whether who asked wants to know what has been evaluated.
    collects: bool,
    /// Whether somebody wants to know.
    gathers: bool,
    /// Whether a mismatch here need not be one of the message.
    tentative: bool,
    evaluated: Evaluated,
    check: usize,
    /// How far the check has come; each check's own.
    stage: usize,
    ordinal: usize,
    /// The item or key it is at; 0 before the first.
    at: u32,
    matched: u64,
}

impl Frame {
    /// Asks a node about a value inside the frame's.
    fn ask_inside(&self, node: NodeId, value: u32) -> Answer {
        Answer::Ask { node, value, collects: false, tentative: self.tentative }
    }

    /// Asks a node about the frame's own value, which must fit it too.
    fn ask_too(&self, node: NodeId) -> Answer {
        Answer::Ask { node, value: self.value, collects: self.gathers, tentative: self.tentative }
    }
}

/// What a check says.
enum Answer {
    Holds,
    /// Another node has to be asked first.
    Ask {
        node: NodeId,
        value: u32,
        collects: bool,
        tentative: bool,
    },
    Fails(&'static str),
    /// As the node that was asked has failed.
    FailsThere,
}

pub(super) struct Evaluation<'p, 't> {
    program: &'p Program,
    pub(super) instance: Instance<'t>,
    frames: Vec<Frame>,
    memo: Memo,
    /// What the node that was asked last has answered.
    returned: Option<(bool, Evaluated)>,
    failure: Failure,
    pub(super) steps: u64,
    budget: u64,
    effort: Effort,
}

impl<'p, 't> Evaluation<'p, 't> {
    pub(super) fn new(program: &'p Program, instance: Instance<'t>, budget: u64) -> Self {
        let memo = Memo::new(program.slots, instance.len());
        let failure = Failure { value: 0, keyword: "schema" };
        Self {
            program,
            instance,
            frames: Vec::new(),
            memo,
            returned: None,
            failure,
            steps: 0,
            budget,
            effort: Effort::default(),
        }
    }

    /// Whether the whole message fits.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.ask(0, 0, false, false);
        while let Some(mut frame) = self.frames.pop() {
            if self.steps > self.budget {
                return Err(Failure { value: 0, keyword: "budget" });
            }
            match self.go_on(&mut frame) {
                Answer::Holds => self.leave(frame, true),
                Answer::Ask { node, value, collects, tentative } => {
                    self.frames.push(frame);
                    self.ask(node, value, collects, tentative);
                }
                Answer::Fails(keyword) => {
                    self.failure = Failure { value: frame.value, keyword };
                    self.leave(frame, false);
                }
                Answer::FailsThere => self.leave(frame, false),
            }
        }
        match self.returned {
            _ if self.steps > self.budget => Err(Failure { value: 0, keyword: "budget" }),
            Some((true, _)) => Ok(()),
            _ => Err(self.failure),
        }
    }

    /// Asks a node about a value: answers at once, or puts a frame on the stack.
    fn ask(&mut self, id: NodeId, value: u32, collects: bool, tentative: bool) {
        self.steps += 1;
        let program = self.program;
        let Some(node) = program.nodes.get(id as usize) else { return };
        let keyword = match node.never() {
            None if node.types & self.instance.kind(value) == 0 => Some("type"),
            never => never,
        };
        if let Some(keyword) = keyword {
            self.failure = Failure { value, keyword };
            self.returned = Some((false, Evaluated::Nothing));
            return;
        }
        if node.checks.is_empty() {
            self.returned = Some((true, Evaluated::Nothing));
            return;
        }
        let has_parts = self.instance.count(value) > 0;
        let collects = collects && has_parts;
        if let Some(answer) = node.slot.and_then(|slot| self.known(slot, value, collects, tentative)) {
            self.returned = Some(answer);
            return;
        }
        let gathers = has_parts && (collects || node.gathers);
        self.frames.push(Frame {
            node: id,
            value,
            collects,
            gathers,
            tentative,
            evaluated: Evaluated::Nothing,
            check: 0,
            stage: 0,
            ordinal: 0,
            at: 0,
            matched: 0,
        });
    }

    /// An answer that was given before.
    fn known(&mut self, slot: u32, value: u32, collects: bool, tentative: bool) -> Option<(bool, Evaluated)> {
        match self.memo.answer(slot, value)? {
            // Where the message fails for good its place is wanted: asked again, once at most.
            false if tentative => Some((false, Evaluated::Nothing)),
            true if !collects => Some((true, Evaluated::Nothing)),
            true => {
                let evaluated = self.memo.evaluated(slot, value)?.clone();
                self.steps += evaluated.size();
                Some((true, evaluated))
            }
            false => None,
        }
    }

    /// A frame is done: remembers the answer and gives it to who asked.
    fn leave(&mut self, frame: Frame, holds: bool) {
        let slot = self.program.nodes.get(frame.node as usize).and_then(|node| node.slot);
        let evaluated = if holds && frame.collects { frame.evaluated } else { Evaluated::Nothing };
        if let Some(slot) = slot {
            self.memo.keep(slot, frame.value, holds);
            if holds && frame.collects {
                self.steps += evaluated.size();
                self.memo.keep_evaluated(slot, frame.value, evaluated.clone());
            }
        }
        self.returned = Some((holds, evaluated));
    }

    /// Goes through a frame's checks until one fails or needs another node.
    fn go_on(&mut self, frame: &mut Frame) -> Answer {
        let program = self.program;
        let checks = program.nodes.get(frame.node as usize).map_or(&[][..], |node| &node.checks);
        while let Some(check) = checks.get(frame.check) {
            self.steps += 1;
            match self.check(check, frame) {
                Answer::Holds => {}
                other => return other,
            }
            if self.steps > self.budget {
                return Answer::Fails("budget");
            }
            frame.check += 1;
            (frame.stage, frame.ordinal, frame.at, frame.matched) = (0, 0, 0, 0);
        }
        Answer::Holds
    }

    fn check(&mut self, check: &'p Check, frame: &mut Frame) -> Answer {
        let kind = self.instance.kind(frame.value);
        let fits = |holds: bool, keyword| if holds { Answer::Holds } else { Answer::Fails(keyword) };
        match check {
            Check::Never(keyword) => Answer::Fails(keyword),
            Check::Equal(keyword, choices) => fits(self.is_one_of(choices, frame.value), keyword),
            Check::Bound(keyword, limit, holds) if kind & (INTEGER | FLOAT) != 0 => {
                fits(holds(limit.compare(self.instance.number(frame.value))), keyword)
            }
            Check::MultipleOf(unit) if kind & (INTEGER | FLOAT) != 0 => {
                let number = Decimal::of(self.instance.number(frame.value));
                fits(number.is_some_and(|number| number.is_multiple_of(*unit)), "multipleOf")
            }
            Check::Count(count) => fits(self.is_within(*count, frame.value), count.keyword),
            Check::Pattern(pattern) if kind == STRING => fits(self.matches(pattern, frame.value), "pattern"),
            Check::UniqueItems if kind == ARRAY => fits(self.is_unique(frame.value), "uniqueItems"),
            Check::Required(names) if kind == OBJECT => fits(self.has_all(names, frame.value), "required"),
            Check::DependentRequired(keyword, dependents) if kind == OBJECT => {
                fits(self.has_dependents(dependents, frame.value), keyword)
            }
            Check::Properties(properties) if kind == OBJECT => self.properties(properties, frame),
            Check::PropertyNames(node) if kind == OBJECT => self.property_names(*node, frame),
            Check::Items { prefix, rest } if kind == ARRAY => self.items(prefix, *rest, frame),
            Check::Contains { node, min, max } if kind == ARRAY => self.contains(*node, *min, *max, frame),
            Check::DependentSchemas(named) if kind == OBJECT => self.dependent_schemas(named, frame),
            Check::AllOf(nodes) => self.all_of(nodes, frame),
            Check::AnyOf(nodes) => self.any_of(nodes, frame),
            Check::OneOf(nodes) => self.one_of(nodes, frame),
            Check::Not(node) => match self.returned.take() {
                None => Answer::Ask { node: *node, value: frame.value, collects: false, tentative: true },
                Some((holds, _)) => fits(!holds, "not"),
            },
            Check::If { condition, then, otherwise } => self.condition(*condition, *then, *otherwise, frame),
            Check::Reference(node) => self.all_of(std::slice::from_ref(node), frame),
            Check::UnevaluatedProperties(node) if kind == OBJECT => {
                self.unevaluated(*node, "unevaluatedProperties", frame)
            }
            Check::UnevaluatedItems(node) if kind == ARRAY => self.unevaluated(*node, "unevaluatedItems", frame),
            _ => Answer::Holds,
        }
    }

    fn is_one_of(&mut self, choices: &Choices, value: u32) -> bool {
        self.steps += u64::from(choices.len().checked_ilog2().unwrap_or(0));
        let kind = self.instance.kind(value);
        if kind & (ARRAY | OBJECT) != 0 {
            return !choices.compound.is_empty() && choices.compound.binary_search(&self.digest(value)).is_ok();
        }
        let text = self.instance.text(value);
        match kind {
            STRING => choices.strings.binary_search_by(|other| (**other).cmp(text)).is_ok(),
            INTEGER | FLOAT => choices.numbers.binary_search(&self.instance.number(value).to_bits()).is_ok(),
            _ => choices.literals.iter().any(|other| **other == *text),
        }
    }

    fn digest(&mut self, value: u32) -> u128 {
        if !self.instance.has_digests() {
            self.steps += self.instance.len() as u64;
        }
        self.instance.digest(value)
    }

    fn is_within(&mut self, count: Count, value: u32) -> bool {
        let kind = self.instance.kind(value);
        let counted = match count.of {
            Counted::Characters if kind == STRING => {
                let text = self.instance.text(value);
                self.steps += text.len() as u64 / 64;
                text.chars().count()
            }
            Counted::Items if kind == ARRAY => self.instance.count(value),
            Counted::Members if kind == OBJECT => self.instance.count(value),
            _ => return true,
        };
        if count.at_most { counted as u64 <= count.bound } else { counted as u64 >= count.bound }
    }

    fn matches(&mut self, pattern: &Pattern, value: u32) -> bool {
        let text = self.instance.text(value);
        let before = self.effort.spent();
        let answer = pattern.is_match(text, &mut self.effort);
        self.steps += 1 + text.len() as u64 / 8 + (self.effort.spent() - before) / EFFORT;
        answer.unwrap_or_else(|Exhausted| {
            self.budget = 0;
            false
        })
    }

    fn is_unique(&mut self, value: u32) -> bool {
        let count = self.instance.count(value);
        self.steps += count as u64;
        if count < 2 {
            return true;
        }
        self.digest(value);
        let mut digests = Vec::with_capacity(count);
        let mut item = value + 1;
        for _ in 0..count {
            digests.push(self.instance.digest(item));
            item = self.instance.next(item);
        }
        digests.sort_unstable();
        digests.windows(2).all(|pair| pair.first() != pair.last())
    }

    /// The names of a value's members, each once.
    fn names(&mut self, value: u32) -> impl Iterator<Item = &str> {
        self.steps += self.instance.count(value) as u64;
        let instance = &self.instance;
        super::instance::children(instance, value).map(|key| instance.text(key))
    }

    fn has_all(&mut self, names: &[Box<str>], value: u32) -> bool {
        if names.len() > self.instance.count(value) {
            return false;
        }
        let is_needed = |name: &&str| names.binary_search_by(|other| (**other).cmp(name)).is_ok();
        self.names(value).filter(is_needed).count() == names.len()
    }

    fn has_dependents(&mut self, dependents: &Dependents, value: u32) -> bool {
        let mut present = vec![false; dependents.names.len()];
        for name in self.names(value) {
            if let Ok(index) = dependents.names.binary_search_by(|other| (**other).cmp(name))
                && let Some(is_present) = present.get_mut(index)
            {
                *is_present = true;
            }
        }
        let has = |index: &usize| present.get(*index).copied().unwrap_or_default();
        self.steps += dependents.rules.iter().map(|(_, needed)| 1 + needed.len() as u64).sum::<u64>();
        dependents.rules.iter().all(|(name, needed)| !has(name) || needed.iter().all(has))
    }

    /// Whether the node that was asked, if any, has refused.
    fn was_refused(&mut self) -> bool {
        self.returned.take().is_some_and(|(holds, _)| !holds)
    }

    fn never(&self, node: NodeId) -> bool {
        self.program.nodes.get(node as usize).and_then(Node::never).is_some()
    }

    fn properties(&mut self, properties: &Properties, frame: &mut Frame) -> Answer {
        if self.was_refused() {
            return Answer::FailsThere;
        }
        let count = self.instance.count(frame.value);
        if frame.at == 0 {
            frame.at = frame.value + 1;
        }
        while frame.ordinal < count {
            self.steps += 1;
            // Also where the patterns have used it up: nothing is asked of them any more.
            if self.steps > self.budget {
                return Answer::Fails("budget");
            }
            let (key, stage) = (frame.at, frame.stage);
            frame.stage += 1;
            let node = match stage.checked_sub(1) {
                None => find(&properties.named, self.instance.text(key)),
                Some(index) if index < properties.patterns.len() => properties
                    .patterns
                    .get(index)
                    .and_then(|(pattern, node)| self.matches(pattern, key).then_some(*node)),
                Some(_) => {
                    let others = properties.others.filter(|_| frame.matched == 0);
                    frame.ordinal += 1;
                    frame.at = self.instance.next(key + 1);
                    (frame.stage, frame.matched) = (0, 0);
                    if others.is_some_and(|node| self.never(node)) {
                        return Answer::Fails("additionalProperties");
                    }
                    match others {
                        Some(node) => return frame.ask_inside(node, key + 1),
                        None => continue,
                    }
                }
            };
            if let Some(node) = node {
                frame.matched = 1;
                if frame.gathers {
                    frame.evaluated.mark(frame.ordinal, count);
                }
                return frame.ask_inside(node, key + 1);
            }
        }
        if properties.others.is_some() {
            frame.evaluated = Evaluated::All;
        }
        Answer::Holds
    }

    fn property_names(&mut self, node: NodeId, frame: &mut Frame) -> Answer {
        if self.was_refused() {
            return Answer::Fails("propertyNames");
        }
        if frame.ordinal == self.instance.count(frame.value) {
            return Answer::Holds;
        }
        let key = if frame.at == 0 { frame.value + 1 } else { self.instance.next(frame.at + 1) };
        frame.at = key;
        frame.ordinal += 1;
        Answer::Ask { node, value: key, collects: false, tentative: true }
    }

    /// The next item of an array that a check goes through.
    fn next_item(&self, frame: &mut Frame) -> Option<u32> {
        if frame.ordinal == self.instance.count(frame.value) {
            return None;
        }
        frame.at = if frame.at == 0 { frame.value + 1 } else { self.instance.next(frame.at) };
        frame.ordinal += 1;
        Some(frame.at)
    }

    fn items(&mut self, prefix: &[NodeId], rest: Option<NodeId>, frame: &mut Frame) -> Answer {
        if self.was_refused() {
            return Answer::FailsThere;
        }
        let ordinal = frame.ordinal;
        if let Some(node) = prefix.get(ordinal).copied().or(rest)
            && let Some(item) = self.next_item(frame)
        {
            if frame.gathers && rest.is_none() {
                frame.evaluated.mark(ordinal, self.instance.count(frame.value));
            }
            return frame.ask_inside(node, item);
        }
        if rest.is_some() {
            frame.evaluated = Evaluated::All;
        }
        Answer::Holds
    }

    fn contains(&mut self, node: NodeId, min: u64, max: u64, frame: &mut Frame) -> Answer {
        if self.returned.take().is_some_and(|(holds, _)| holds) {
            frame.matched += 1;
            if frame.gathers {
                frame.evaluated.mark(frame.ordinal - 1, self.instance.count(frame.value));
            }
        }
        let enough = frame.matched >= min && max == u64::MAX && !frame.gathers;
        if frame.matched > max {
            return Answer::Fails("maxContains");
        }
        match self.next_item(frame) {
            Some(item) if !enough => Answer::Ask { node, value: item, collects: false, tentative: true },
            _ if frame.matched >= min => Answer::Holds,
            _ => Answer::Fails(if min == 1 { "contains" } else { "minContains" }),
        }
    }

    fn dependent_schemas(&mut self, named: &[(Box<str>, NodeId)], frame: &mut Frame) -> Answer {
        if !self.takes_over(frame) {
            return Answer::FailsThere;
        }
        while frame.ordinal < self.instance.count(frame.value) {
            self.steps += 1;
            let key = if frame.at == 0 { frame.value + 1 } else { self.instance.next(frame.at + 1) };
            frame.at = key;
            frame.ordinal += 1;
            if let Some(node) = find(named, self.instance.text(key)) {
                return frame.ask_too(node);
            }
        }
        Answer::Holds
    }

    /// Adds what the node that was asked, if any, has evaluated; `false`: it has refused.
    fn takes_over(&mut self, frame: &mut Frame) -> bool {
        let Some((holds, evaluated)) = self.returned.take() else { return true };
        if holds {
            self.steps += evaluated.size();
            frame.evaluated.add(evaluated);
        }
        holds
    }

    fn all_of(&mut self, nodes: &[NodeId], frame: &mut Frame) -> Answer {
        if !self.takes_over(frame) {
            return Answer::FailsThere;
        }
        frame.stage += 1;
        nodes.get(frame.stage - 1).map_or(Answer::Holds, |node| frame.ask_too(*node))
    }

    fn any_of(&mut self, nodes: &[NodeId], frame: &mut Frame) -> Answer {
        if frame.stage > 0 && self.takes_over(frame) {
            frame.matched += 1;
            if !frame.gathers {
                return Answer::Holds;
            }
        }
        frame.stage += 1;
        match nodes.get(frame.stage - 1) {
            Some(node) => Answer::Ask { node: *node, value: frame.value, collects: frame.gathers, tentative: true },
            None if frame.matched > 0 => Answer::Holds,
            None => Answer::Fails("anyOf"),
        }
    }

    fn one_of(&mut self, nodes: &[NodeId], frame: &mut Frame) -> Answer {
        if frame.stage > 0 && self.takes_over(frame) {
            frame.matched += 1;
            if frame.matched > 1 {
                return Answer::Fails("oneOf");
            }
        }
        frame.stage += 1;
        match nodes.get(frame.stage - 1) {
            Some(node) => Answer::Ask { node: *node, value: frame.value, collects: frame.gathers, tentative: true },
            None if frame.matched == 1 => Answer::Holds,
            None => Answer::Fails("oneOf"),
        }
    }

    fn condition(
        &mut self,
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
        frame: &mut Frame,
    ) -> Answer {
        let stage = frame.stage;
        frame.stage += 1;
        let next = match stage {
            0 => {
                return Answer::Ask { node: condition, value: frame.value, collects: frame.gathers, tentative: true };
            }
            1 if self.takes_over(frame) => then,
            1 => otherwise,
            _ if self.takes_over(frame) => None,
            _ => return Answer::FailsThere,
        };
        next.map_or(Answer::Holds, |node| frame.ask_too(node))
    }

    fn unevaluated(&mut self, node: NodeId, keyword: &'static str, frame: &mut Frame) -> Answer {
        if self.was_refused() {
            return Answer::FailsThere;
        }
        let step = u32::from(self.instance.kind(frame.value) == OBJECT);
        while frame.ordinal < self.instance.count(frame.value) {
            self.steps += 1;
            let child = if frame.at == 0 { frame.value + 1 } else { self.instance.next(frame.at + step) };
            frame.at = child;
            frame.ordinal += 1;
            if frame.evaluated.holds(frame.ordinal - 1) {
                continue;
            }
            if self.never(node) {
                return Answer::Fails(keyword);
            }
            return frame.ask_inside(node, child + step);
        }
        frame.evaluated = Evaluated::All;
        Answer::Holds
    }
}
