//! A schema's `pattern`: whether it occurs in a text, in time and memory that are counted.
//!
//! Each byte of a text is one transition of an automaton whose states are made when they are first needed.
//! A transition that is known costs a nanosecond, whatever the pattern; a new one costs as much as the sets of places
//! in the pattern that it leads from and to, which for `a.{3000}b` are thousands. Hence new ones are counted, as
//! [`Effort`]; known ones are left to the caller, who counts bytes.

use super::ecma::{Refusal, translate};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{CacheError, LazyStateID};
use regex_automata::nfa::thompson::{self, NFA};
use regex_automata::{Input, MatchKind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What one pattern may occupy when compiled.
pub(super) const MAX_PATTERN_BYTES: usize = 4 << 20;
/// What the states of one pattern may occupy on one thread before they are forgotten. A pattern near
/// [`MAX_PATTERN_BYTES`] needs, and gets, up to 5 MiB.
const MAX_STATES_BYTES: usize = 2 << 20;
/// What the states of all patterns may occupy on one thread, besides those of the pattern in use.
const MAX_THREAD_BYTES: usize = 16 << 20;
/// What they may occupy on all threads before each must do with an equal share of this. So all of them occupy at most twice
/// as much: some threads have taken it while they were few, and do nothing now; the others take their shares.
const MAX_LEARNED_BYTES: usize = 128 << 20;
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
    /// Compiles an ECMA 262 pattern.
    pub(super) fn compile(text: &str) -> Result<Self, Refusal> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let nfa = thompson::Config::new()
            .nfa_size_limit(Some(MAX_PATTERN_BYTES))
            .which_captures(thompson::WhichCaptures::None);
        let nfa =
            NFA::compiler().configure(nfa).build(&translate(text)?).map_err(|error| match error.size_limit() {
                Some(_) => Refusal::Size,
                None => Refusal::Unknown,
            })?;
        // `All`: a match inside a character (see `search`) must not end the search.
        let config =
            DFA::config().match_kind(MatchKind::All).cache_capacity(MAX_STATES_BYTES).skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa).map_err(|_| Refusal::Size)?;
        let transitions = dfa.byte_classes().alphabet_len().next_power_of_two();
        let state_bytes = transitions * size_of::<LazyStateID>() + 3 * size_of::<Arc<[u8]>>();
        Ok(Self(Arc::new(Automaton { id: NEXT.fetch_add(1, Ordering::Relaxed), dfa, state_bytes })))
    }

    /// What it occupies, apart from what threads learn.
    pub(super) fn bytes(&self) -> usize {
        self.0.dfa.get_nfa().memory_usage()
    }

    /// Whether it occurs in a text.
    pub(super) fn is_match(&self, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        // Whoever has used it up does not even make room for states.
        effort.spend(0)?;
        LEARNED.try_with(|learned| learned.borrow_mut().search(&self.0, text, effort)).unwrap_or(Err(Exhausted))
    }
}

thread_local! {
    static LEARNED: RefCell<Shelf> =
        const { RefCell::new(Shelf { places: Vec::new(), share: Share { bytes: 0, is_counted: false }, hand: 0 }) };
}

/// What a thread keeps, as part of what all of them do; given back when the thread ends.
struct Share {
    bytes: usize,
    is_counted: bool,
}

/// How many threads keep something, and how much.
static THREADS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

impl Share {
    fn replace(&mut self, old: usize, new: usize) {
        BYTES.fetch_add(new, Ordering::Relaxed);
        BYTES.fetch_sub(old, Ordering::Relaxed);
        self.bytes = self.bytes.saturating_add(new).saturating_sub(old);
    }

    /// Whether it is more than it may be now.
    fn is_too_large(&self) -> bool {
        is_too_large(self.bytes, BYTES.load(Ordering::Relaxed), THREADS.load(Ordering::Relaxed))
    }
}

/// Whether one of so many threads keeps too much, where all of them keep `all`.
fn is_too_large(bytes: usize, all: usize, threads: usize) -> bool {
    bytes > MAX_THREAD_BYTES || all > MAX_LEARNED_BYTES && bytes > MAX_LEARNED_BYTES / threads.max(1)
}

impl Drop for Share {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
        THREADS.fetch_sub(usize::from(self.is_counted), Ordering::Relaxed);
    }
}

/// What a thread has learned of patterns.
struct Shelf {
    /// By the pattern's id modulo [`MAX_THREAD_PATTERNS`]; empty until the first is needed.
    places: Vec<Option<Box<Learned>>>,
    share: Share,
    /// Which place is emptied next.
    hand: usize,
}

impl Shelf {
    fn search(&mut self, automaton: &Automaton, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        if self.places.is_empty() {
            self.places.resize_with(MAX_THREAD_PATTERNS, || None);
            self.share.is_counted = true;
            THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let index = automaton.id as usize % MAX_THREAD_PATTERNS;
        let Some(place) = self.places.get_mut(index) else { return Err(Exhausted) };
        if place.as_ref().is_none_or(|learned| learned.id != automaton.id) {
            self.share.replace(place.take().map_or(0, |learned| learned.bytes), 0);
            let learned = Learned::new(automaton);
            // Room for its sets is made, whether or not it is used.
            effort.spend(64 + learned.floor / 128)?;
            *place = Some(Box::new(learned));
        }
        let Some(learned) = place else { return Err(Exhausted) };
        let answer = learned.search(automaton, text, effort);
        if learned.has_grown {
            learned.has_grown = false;
            let bytes = learned.cache.memory_usage() + learned.widths.capacity() * WIDTH_BYTES;
            self.share.replace(std::mem::replace(&mut learned.bytes, bytes), bytes);
            self.shrink(index);
        }
        answer
    }

    /// Empties places until what is left is within bounds, other than the one in use.
    fn shrink(&mut self, used: usize) {
        for _ in 0..MAX_THREAD_PATTERNS {
            if !self.share.is_too_large() {
                return;
            }
            self.hand = (self.hand + 1) % MAX_THREAD_PATTERNS;
            if self.hand != used
                && let Some(learned) = self.places.get_mut(self.hand).and_then(Option::take)
            {
                self.share.replace(learned.bytes, 0);
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
    use super::super::ecma::Refusal;
    use super::super::schema::jsonschema;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn is_match(pattern: &str, text: &str) -> Result<bool, Exhausted> {
        Pattern::compile(pattern).unwrap().is_match(text, &mut Effort::default())
    }

    /// Words are ASCII, and text that is not does not stop the search.
    #[test]
    fn signs_mean_what_ecma_262_says() {
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
            // A dot is no line terminator.
            ("^.$", "\n", false),
            ("^.$", "\r", false),
            ("^.$", "\u{2028}", false),
            ("^.$", "\u{2029}", false),
            ("^.$", "\u{85}", true),
            ("^.$", "\u{b}", true),
            ("^.$", "😀", true),
            ("^[.]$", "\r", false),
            ("^(?s:.)(?:.)$", "\ra", true),
            ("^(?s:.(?-s:.))$", "\r\r", false),
            ("^(?s:.).$", "\r\r", false),
            // The text has one begin and one end.
            ("a$", "a\n", false),
            ("^b", "a\nb", false),
            // Digits and words are ASCII, spaces are not.
            (r"^\d$", "٣", false),
            (r"^\D$", "٣", true),
            (r"^[\d]$", "7", true),
            (r"^\w$", "é", false),
            (r"^[^\W]$", "_", true),
            (r"^[\W]$", "é", true),
            (r"^\s$", "\u{feff}", true),
            (r"^\s$", "\u{3000}", true),
            (r"^\s$", "\u{2028}", true),
            (r"^\s$", "\u{85}", false),
            (r"^[\S]$", "\u{a0}", false),
            (r"^\S$", "\u{180e}", true),
            // Classes.
            ("[]", "a", false),
            ("a|[]", "a", true),
            ("^[^]$", "\n", true),
            ("^[[:alpha:]$", ":", true),
            ("^[[:alpha:]$", "b", false),
            ("^[a&&b]{2}$", "&b", true),
            ("^[a~~b-d--]$", "-", true),
            ("^[+--]$", ",", true),
            (r"^[\w-]$", "-", true),
            (r"^[\b]$", "\u{8}", true),
            (r"^[\]\\^]{3}$", r"]\^", true),
            // Characters by number.
            (r"^\cJ\x41\u0042\u{43}\0$", "\nABC\0", true),
            (r"^\ud83d\ude00$", "😀", true),
            (r"^[\ud83d\ude00-\u{1F64F}]$", "😃", true),
            (r"^\f\n\r\t\v$", "\u{c}\n\r\t\u{b}", true),
            (r"^\/\-\ \_\§$", "/- _§", true),
            // Groups and properties.
            ("^(?<größe>a)(?:b)$", "ab", true),
            ("^(?i:AÉ)b$", "aéb", true),
            ("^(?i:A)b$", "aB", false),
            ("^(?i:A(?-i:b))$", "aB", false),
            ("^(?i:A(?s:B.))$", "ab\n", true),
            // Where case is ignored, a set has what has a spelling in it, and its complement the rest.
            (r"^(?i:\p{Lu})$", "a", true),
            (r"^(?i:[^\p{Lu}])$", "a", false),
            (r"^(?i:\w\w)$", "\u{212a}\u{17f}", true),
            (r"^(?i:\W)$", "\u{17f}", false),
            (r"^(?i:[^\W])$", "\u{212a}", true),
            (r"^(?i:a(?-i:\P{Lu}))$", "Ab", true),
            (r"^(?i:a(?-i:\P{Lu}))$", "AB", false),
            (r"^(?i:a)\P{Lu}$", "AB", false),
            (r"^\p{Script=Greek}\P{L}\p{Lu}$", "α1Ä", true),
            (r"^a{2}b{1,}?c{0,2}$", "aab", true),
            ("^ #$", " #", true),
            ("", "", true),
        ] {
            assert_eq!(is_match(pattern, text), Ok(expected), "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_is_refused_has_a_reason() {
        for (pattern, reason) in [
            ("(", Refusal::Syntax),
            ("a**", Refusal::Syntax),
            ("a{1000}{1000}", Refusal::Syntax),
            (r"\Aa\z", Refusal::Syntax),
            (r"\a", Refusal::Syntax),
            (r"\pL", Refusal::Syntax),
            (r"[\w-.]", Refusal::Syntax),
            ("(?P<name>a)", Refusal::Syntax),
            ("(?x: a)", Refusal::Syntax),
            ("]", Refusal::Syntax),
            ("(?i)a", Refusal::GlobalFlags),
            ("(?m:^a$)", Refusal::MultiLine),
            (r"(?i:\P{Lu})", Refusal::ComplementOfCase),
            (r"(?i:a(?s:[^b\P{L}]))", Refusal::ComplementOfCase),
            ("(?=a)b", Refusal::LookAround),
            ("(?!a)b", Refusal::LookAround),
            ("(?<=a)b", Refusal::LookAround),
            ("(?<!a)b", Refusal::LookAround),
            (r"(a)\1", Refusal::Backreference),
            (r"(?<n>a)\k<n>", Refusal::Backreference),
            (r"\p{Klingon}", Refusal::Unknown),
            (r"\ud83d", Refusal::Unknown),
            (r"[\ud800-\udfff]", Refusal::Unknown),
            (&format!("{}{}", "(".repeat(1_000), ")".repeat(1_000)), Refusal::Unknown),
            ("(?:a{1000}){1000}", Refusal::Size),
            ("a{4000000000}", Refusal::Size),
        ] {
            assert_eq!(Pattern::compile(pattern).err(), Some(reason), "{pattern}");
        }
    }

    /// 2^14 states are more than a cache holds: what is forgotten on the way must not change the answer.
    #[test]
    fn clearing_the_cache_changes_no_answer() {
        let pattern = Pattern::compile("(a|b)*a(a|b){13}x|cdefghijklmnopqrstuvw").unwrap();
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
                assert_eq!(counted, shelf.share.bytes);
                assert!(counted <= MAX_THREAD_BYTES + MAX_STATES_BYTES + (1 << 20), "{counted}");
                assert!(shelf.places.len() == MAX_THREAD_PATTERNS);
            });
        }
    }

    /// A thread may keep much while all of them keep little, and its equal share when they do not.
    #[test]
    fn what_all_threads_learn_is_bounded() {
        for (bytes, all, threads, is) in [
            (0, 0, 1, false),
            (MAX_THREAD_BYTES, MAX_LEARNED_BYTES, 8, false),
            (MAX_THREAD_BYTES + 1, 0, 1, true),
            (MAX_THREAD_BYTES, MAX_LEARNED_BYTES + 1, 8, false),
            (MAX_THREAD_BYTES, MAX_LEARNED_BYTES + 1, 9, true),
            (MAX_LEARNED_BYTES / 255, usize::MAX, 255, false),
            (MAX_LEARNED_BYTES / 255 + 1, MAX_LEARNED_BYTES + 1, 255, true),
            (0, usize::MAX, 255, false),
        ] {
            assert_eq!(is_too_large(bytes, all, threads), is, "{bytes} of {all} on {threads} threads");
        }
        // A thread counts from its first pattern on.
        let pattern = Pattern::compile("^a{1,3}$").unwrap();
        let kept = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                assert_eq!(pattern.is_match("aa", &mut Effort::default()), Ok(true));
                LEARNED.with_borrow(|shelf| (shelf.share.is_counted, shelf.share.bytes))
            });
            thread.join().unwrap()
        });
        assert!(kept.0 && kept.1 > 500, "{kept:?}");
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
            let is_syntax = jsonschema_regex::is_valid_ecma_regex(&pattern);
            prop_assert_eq!(ours.is_ok(), theirs.is_some() && is_syntax);
            if let (Ok(ours), Some(theirs)) = (ours, theirs) {
                for _ in 0..2 {
                    let answer = ours.is_match(&text, &mut Effort::default());
                    prop_assert_eq!(answer, Ok(theirs.is_valid(&json!(text))));
                }
            }
        }
    }
}
