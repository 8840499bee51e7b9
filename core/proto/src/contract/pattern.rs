//! A schema's `pattern`: whether it occurs in a text, in time and memory that are counted.
//!
//! THREATS J6. Each byte of a text is one transition of an automaton whose states are made when they are first needed.
//! A transition that is known costs a nanosecond, whatever the pattern; a new one costs as much as the sets of places
//! in the pattern that it leads from and to, which for `a.{3000}b` are thousands. Hence new ones are counted, as
//! [`Effort`]; known ones are left to the caller, who counts bytes.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{CacheError, LazyStateID};
use regex_automata::nfa::thompson;
use regex_automata::{Input, MatchKind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one pattern may occupy when compiled.
pub(super) const MAX_PATTERN_BYTES: usize = 4 << 20;
/// What the states of one pattern may occupy on one thread before they are forgotten. A pattern near
/// [`MAX_PATTERN_BYTES`] needs, and gets, up to 5 MiB.
const MAX_STATES_BYTES: usize = 1 << 20;
/// What the states of all patterns may occupy on one thread, besides those of the pattern in use.
const MAX_THREAD_BYTES: usize = 16 << 20;
/// How many patterns have states on one thread at a time.
const MAX_THREAD_PATTERNS: usize = 1024;
/// What a message may cost in new transitions; some nanoseconds each.
const MAX_EFFORT: u64 = 2 << 20;
/// What a new transition costs apart from the sets at its ends: looking for the state and making it.
const TRANSITION: usize = 24;

/// What new transitions have cost one message: the places in patterns that were looked at, roughly.
#[derive(Debug, Default)]
pub(super) struct Effort(u64);

impl Effort {
    pub(super) fn spent(&self) -> u64 {
        self.0
    }

    fn spend(&mut self, places: usize) -> Result<(), Exhausted> {
        self.0 = self.0.saturating_add(places as u64);
        if self.0 > MAX_EFFORT { Err(Exhausted) } else { Ok(()) }
    }
}

/// The message costs more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl From<CacheError> for Exhausted {
    fn from(_: CacheError) -> Self {
        Self
    }
}

/// A compiled pattern. Clones are the same pattern and share what is learned of it.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<Automaton>);

#[derive(Debug)]
struct Automaton {
    /// Of all that this process compiles.
    id: u64,
    dfa: DFA,
    /// What any state takes in a cache, apart from its set: transitions, and its entries in two tables.
    state_bytes: usize,
}

impl Pattern {
    /// Compiles an ECMA 262 pattern; `None` where it needs backtracking, or is too large, or is none.
    pub(super) fn compile(text: &str) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let translated = with_ascii_words(&jsonschema_regex::to_rust_regex(text).ok()?);
        let nfa = thompson::Config::new()
            .nfa_size_limit(Some(MAX_PATTERN_BYTES))
            .which_captures(thompson::WhichCaptures::None);
        // `All`: a match inside a character (see `search`) must not end the search. What is left of Unicode word
        // boundaries, `\b{start}`, gives up on text that is not ASCII.
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .unicode_word_boundary(true)
            .cache_capacity(MAX_STATES_BYTES)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().thompson(nfa).configure(config).build(&translated).ok()?;
        let transitions = dfa.byte_classes().alphabet_len().next_power_of_two();
        let state_bytes = transitions * size_of::<LazyStateID>() + 3 * size_of::<Arc<[u8]>>();
        Some(Self(Arc::new(Automaton { id: NEXT.fetch_add(1, Ordering::Relaxed), dfa, state_bytes })))
    }

    /// Whether it occurs in a text.
    pub(super) fn is_match(&self, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        LEARNED.try_with(|learned| learned.borrow_mut().search(&self.0, text, effort)).unwrap_or(Err(Exhausted))
    }
}

/// ECMA 262 means the ASCII word characters by `\b` and `\B`, as it does by `\w`, which is translated already.
fn with_ascii_words(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    // How many brackets are open, and whether the next is the first of its class, where `]` is a character.
    let (mut depth, mut is_first) = (0_usize, false);
    while let Some(c) = chars.next() {
        let was_first = std::mem::take(&mut is_first);
        match c {
            '\\' => {
                let escaped = chars.next();
                match escaped {
                    Some('b' | 'B') if depth == 0 && chars.peek() != Some(&'{') => {
                        translated.extend(["(?-u:\\", if escaped == Some('b') { "b)" } else { "B)" }]);
                    }
                    // Words' ends to the crate, characters to ECMA 262.
                    Some(sign @ ('<' | '>')) => translated.push(sign),
                    _ => translated.extend([Some(c), escaped].into_iter().flatten()),
                }
                continue;
            }
            '[' => {
                depth += 1;
                is_first = true;
            }
            '^' if was_first => is_first = true,
            ']' if !was_first => depth = depth.saturating_sub(1),
            _ => {}
        }
        translated.push(c);
    }
    translated
}

thread_local! {
    static LEARNED: RefCell<Shelf> = const { RefCell::new(Shelf { places: Vec::new(), bytes: 0, hand: 0 }) };
}

/// What a thread has learned of patterns.
struct Shelf {
    /// By the pattern's id modulo [`MAX_THREAD_PATTERNS`]; empty until the first is needed.
    places: Vec<Option<Box<Learned>>>,
    bytes: usize,
    /// Which place is emptied next.
    hand: usize,
}

impl Shelf {
    fn search(&mut self, automaton: &Automaton, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        if self.places.is_empty() {
            self.places.resize_with(MAX_THREAD_PATTERNS, || None);
        }
        let index = automaton.id as usize % MAX_THREAD_PATTERNS;
        let Some(place) = self.places.get_mut(index) else { return Err(Exhausted) };
        if place.as_ref().is_none_or(|learned| learned.id != automaton.id) {
            let before = place.take().map_or(0, |learned| learned.bytes);
            self.bytes = self.bytes.saturating_sub(before);
            let learned = Learned::new(automaton);
            // Room for its sets is made, whether or not it is used.
            effort.spend(64 + learned.floor / 128)?;
            *place = Some(Box::new(learned));
        }
        let Some(learned) = place else { return Err(Exhausted) };
        let answer = learned.search(automaton, text, effort);
        if learned.has_grown {
            learned.has_grown = false;
            self.bytes = self.bytes.saturating_sub(learned.bytes);
            learned.bytes = learned.cache.memory_usage() + learned.widths.capacity() * WIDTH_BYTES;
            self.bytes += learned.bytes;
            self.shrink(index);
        }
        answer
    }

    /// Empties places until what is left is within bounds, other than the one in use.
    fn shrink(&mut self, used: usize) {
        for _ in 0..MAX_THREAD_PATTERNS {
            if self.bytes <= MAX_THREAD_BYTES {
                return;
            }
            self.hand = (self.hand + 1) % MAX_THREAD_PATTERNS;
            if self.hand != used
                && let Some(learned) = self.places.get_mut(self.hand).and_then(Option::take)
            {
                self.bytes = self.bytes.saturating_sub(learned.bytes);
            }
        }
    }
}

/// A state of an automaton, as far as counting goes.
#[derive(Clone, Copy, Default)]
struct Width {
    /// How many bytes its set takes; one or two for each place in the pattern.
    bytes: usize,
    /// Whether a text has ended here.
    has_ended: bool,
}

/// What an entry of [`Learned::widths`] takes.
const WIDTH_BYTES: usize = size_of::<(LazyStateID, Width)>() + 1;

/// The states of one pattern that texts have led to.
struct Learned {
    id: u64,
    cache: Cache,
    widths: HashMap<LazyStateID, Width>,
    clears: usize,
    /// The width of the state that the last clearing has kept, under an id that is not told.
    kept: usize,
    /// What the cache takes without any state.
    floor: usize,
    has_grown: bool,
    /// What the shelf counts.
    bytes: usize,
}

impl Learned {
    fn new(automaton: &Automaton) -> Self {
        let cache = automaton.dfa.create_cache();
        let floor = cache.memory_usage();
        Self { id: automaton.id, cache, widths: HashMap::new(), clears: 0, kept: 0, floor, has_grown: true, bytes: 0 }
    }

    fn search(&mut self, automaton: &Automaton, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        let dfa = &automaton.dfa;
        let input = Input::new(text);
        let mut state =
            self.learn(automaton, None, effort, |cache| dfa.start_state_forward(cache, &input).map_err(|_| Exhausted))?;
        for (at, byte) in text.bytes().enumerate() {
            let from = state;
            if !from.is_tagged() {
                state = dfa.next_state_untagged(&self.cache, from, byte);
                if !state.is_tagged() {
                    continue;
                }
            }
            if from.is_tagged() || state.is_unknown() {
                state = self.learn(automaton, Some(from), effort, |cache| Ok(dfa.next_state(cache, from, byte)?))?;
            }
            // A match is seen one byte late. Inside a character it is an empty one, of `\B`, and none.
            if state.is_match() && text.is_char_boundary(at) {
                return Ok(true);
            } else if state.is_dead() {
                return Ok(false);
            } else if state.is_quit() {
                return Err(Exhausted);
            }
        }
        let has_ended = self.widths.get(&state).is_some_and(|width| width.has_ended);
        if has_ended {
            return Ok(dfa.next_eoi_state(&mut self.cache, state)?.is_match());
        }
        let clears = self.clears;
        let end = self.learn(automaton, Some(state), effort, |cache| Ok(dfa.next_eoi_state(cache, state)?))?;
        // Where the cache was cleared on the way the id is another state's, or none's.
        if clears == self.clears
            && let Some(width) = self.widths.get_mut(&state)
        {
            width.has_ended = true;
        }
        Ok(end.is_match())
    }

    fn width(&self, state: LazyStateID) -> usize {
        self.widths.get(&state).map_or(self.kept, |width| width.bytes)
    }

    /// Takes a transition that may be new, and counts what it costs then.
    fn learn(
        &mut self,
        automaton: &Automaton,
        from: Option<LazyStateID>,
        effort: &mut Effort,
        take: impl FnOnce(&mut Cache) -> Result<LazyStateID, Exhausted>,
    ) -> Result<LazyStateID, Exhausted> {
        let source = from.map(|from| self.width(from));
        let mut before = self.cache.memory_usage();
        let next = take(&mut self.cache)?;
        if self.clears != self.cache.clear_count() {
            self.clears = self.cache.clear_count();
            self.widths.clear();
            self.kept = source.unwrap_or(0);
            before = self.floor;
        }
        let grown = self.cache.memory_usage().saturating_sub(before);
        if grown > 0 {
            let bytes = grown.saturating_sub(automaton.state_bytes);
            self.widths.insert(next, Width { bytes, has_ended: false });
            self.has_grown = true;
        }
        match source {
            // A start is made once, and looked up from then on.
            None if grown == 0 => Ok(next),
            _ => effort.spend(TRANSITION + source.unwrap_or(0) + self.width(next)).map(|()| next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::jsonschema;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn is_match(pattern: &str, text: &str) -> Result<bool, Exhausted> {
        Pattern::compile(pattern).unwrap().is_match(text, &mut Effort::default())
    }

    /// Words are ASCII, as ECMA 262 has them, and text that is not does not stop the search.
    #[test]
    fn word_boundaries_are_those_of_ecma_262() {
        for (pattern, text, expected) in [
            (r"\bcat\b", "the cat sat", true),
            (r"\bcat\b", "concat", false),
            (r"\bcat\b", "écaté", true),
            (r"\bcat\b", "中文 cat", true),
            (r"\bcat\B", "中文 cats", true),
            (r"\B", "aéa", false),
            (r"\B", "éé", true),
            (r"\B", "", true),
            (r"^(\b\w+\b ?)+$", "one two", true),
            (r"[\\b\]]\b", "\\b", true),
            (r"\\b", "\\b", true),
            (r"\<b\>", "é <b>", true),
            (r"\<b\>", "é b", false),
        ] {
            assert_eq!(is_match(pattern, text), Ok(expected), "{pattern} {text:?}");
        }
    }

    /// 2^14 states are more than a cache holds: what is forgotten on the way must not change the answer.
    #[test]
    fn clearing_the_cache_changes_no_answer() {
        let pattern = Pattern::compile("(a|b)*a(a|b){13}x").unwrap();
        let mut text = String::new();
        let mut seed = 1_u32;
        for _ in 0..30_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push(if seed >> 31 == 0 { 'a' } else { 'b' });
        }
        for tail in ["a", "b"] {
            for _ in 0..2 {
                let text = format!("{text}{tail}{}x", "b".repeat(13));
                assert_eq!(pattern.is_match(&text, &mut Effort::default()), Ok(tail == "a"));
            }
        }
        LEARNED.with_borrow(|shelf| {
            let learned = shelf.places[pattern.0.id as usize % MAX_THREAD_PATTERNS].as_ref().unwrap();
            assert!(learned.clears > 0 && learned.cache.memory_usage() <= MAX_STATES_BYTES + (64 << 10));
        });
    }

    /// However many patterns there are and whatever they meet, a thread keeps a bounded amount of it, and counts right.
    #[test]
    fn what_a_thread_learns_is_bounded() {
        let long = "n".repeat(4_000);
        let wide = (0..30).map(|index| (format!("^.{{1,{}}}$", 4_000 + index), long.as_str()));
        let many = (0..MAX_THREAD_PATTERNS + 100).map(|index| (format!("^n{{1,{}}}$", 1 + index % 9), "n"));
        for (pattern, text) in wide.chain(many) {
            assert_eq!(is_match(&pattern, text), Ok(true), "{pattern}");
            LEARNED.with_borrow(|shelf| {
                let counted: usize = shelf.places.iter().flatten().map(|learned| learned.bytes).sum();
                assert_eq!(counted, shelf.bytes);
                assert!(counted <= MAX_THREAD_BYTES + (2 << 20), "{counted}");
                assert!(shelf.places.len() == MAX_THREAD_PATTERNS);
            });
        }
    }

    /// What has been learned costs nothing again.
    #[test]
    fn a_known_text_costs_no_effort() {
        for (pattern, text) in [("^.{1,2000}$", "中".repeat(1_400)), (r"a[^x]{300}b", "a".repeat(3_000))] {
            let pattern = Pattern::compile(pattern).unwrap();
            let (mut first, mut again) = (Effort::default(), Effort::default());
            let answer = pattern.is_match(&text, &mut first);
            assert!(first.spent() > 1_000 && answer.is_ok());
            assert_eq!(pattern.is_match(&text, &mut again), answer);
            assert_eq!(again.spent(), 0);
        }
    }

    proptest! {
        /// As the crate regex decides, of which no word boundaries are asked (they are Unicode's there).
        #[test]
        fn decides_as_regex_does(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "é", "中", ".", "[ab]", "[^a]", "(a|ab)", "(é|)", "^", "$", "x?", "*", "+", "{2,5}",
                    "|", r"\d", r"\w", r"\S", r"\p{L}", "(?:b*)",
                ]),
                0..8,
            ),
            text in "[abx1é中 \n]{0,12}",
        ) {
            let pattern = parts.concat();
            let theirs = jsonschema(&json!({"pattern": pattern})).ok();
            let ours = Pattern::compile(&pattern);
            prop_assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                for _ in 0..2 {
                    let answer = ours.is_match(&text, &mut Effort::default());
                    prop_assert_eq!(answer, Ok(theirs.is_valid(&json!(text))));
                }
            }
        }
    }
}
