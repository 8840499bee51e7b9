//! The one-pass strict JSON scanner: RFC 8259 to the letter, plus the limits of `json_limits`.
//!
//! It decides whether a text is JSON that every parser downstream reads the same way, and where each value begins and
//! ends. It builds no value and does not recurse: open containers live on an explicit stack that `max_depth` bounds.
//! Each byte is looked at once; only a string with a backslash in it is visited again, to be unescaped.

use super::JsonLimits;
use super::rule::Rule;
use super::text::{byte, digits_end, hex4, plain_end, tag, unescape};
use std::hash::{BuildHasher, RandomState};

/// 2^53, the largest integer that every JSON parser holds exactly.
const MAX_SAFE_INTEGER: &[u8] = b"9007199254740992";
/// The longest accepted text of one number.
const MAX_NUMBER_LEN: usize = 128;
/// Up to so many keys of one object are compared with each other directly; with more they are hashed and sorted.
const DIRECT_KEYS: usize = 32;
/// What a [`Scratch`] keeps between messages, in entries and in bytes.
const KEPT_KEYS: usize = 1024;
const KEPT_BYTES: usize = 16 * 1024;

/// Buffers that reading a message needs and that the next message reuses: one per shard.
///
/// While a message is read they hold at most a small multiple of its length; between messages less than 100 KiB.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The open containers below the envelope.
    frames: Vec<Frame>,
    /// The keys of all open objects, innermost last.
    keys: Vec<Key>,
    /// The unescaped text of those keys that were written with escapes.
    decoded: String,
    /// Hash and index of the keys of one large object, when it closes.
    hashes: Vec<(u64, usize)>,
    /// Keyed at random, so that nobody can prepare keys that collide.
    hasher: RandomState,
    /// How often two keys were compared byte by byte or by hash.
    #[cfg(test)]
    pub(super) comparisons: usize,
}

impl Scratch {
    /// Empty buffers; they grow with the messages seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last message, and gives back the memory of an unusually large one.
    fn reset(&mut self) {
        self.frames.clear();
        self.keys.clear();
        self.decoded.clear();
        self.hashes.clear();
        if self.keys.capacity() > KEPT_KEYS || self.decoded.capacity() > KEPT_BYTES {
            self.keys.shrink_to(KEPT_KEYS);
            self.hashes.shrink_to(KEPT_KEYS);
            self.decoded.shrink_to(KEPT_BYTES);
        }
    }
}

/// An open container.
#[derive(Clone, Copy, Debug)]
struct Frame {
    object: bool,
    /// Where its keys begin in `Scratch::keys`.
    keys: usize,
    /// Where its keys begin in `Scratch::decoded`.
    decoded: usize,
}

/// A key of an open object.
#[derive(Clone, Copy, Debug)]
struct Key {
    /// Equal keys have equal tags; the reverse needs a look at the bytes.
    tag: u64,
    /// The opening quote in the text.
    at: usize,
    text: Text,
}

/// A string of the message: where its characters stand, without the quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: usize,
    end: usize,
    /// With a backslash in it. For a [`Key`]: its characters stand unescaped in `Scratch::decoded`.
    escaped: bool,
}

impl Text {
    /// As it is written, escapes and all.
    pub(super) fn raw<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether a backslash is in it.
    pub(super) fn is_escaped(&self) -> bool {
        self.escaped
    }
}

/// What a number is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Neither a fraction nor an exponent.
    Integer,
    /// A fraction, an exponent or both.
    Float,
}

/// A place in a text that is being read.
pub(super) struct Scanner<'t, 's> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    limits: JsonLimits,
    scratch: &'s mut Scratch,
}

impl<'t, 's> Scanner<'t, 's> {
    pub(super) fn new(text: &'t str, limits: JsonLimits, scratch: &'s mut Scratch) -> Self {
        scratch.reset();
        Self { text, bytes: text.as_bytes(), at: 0, limits, scratch }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The offset of the byte that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next byte; NUL, which no rule of the grammar accepts, at the end.
    pub(super) fn peek(&self) -> u8 {
        byte(self.bytes, self.at)
    }

    /// Steps over a byte that was peeked.
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// A rule broken at `at`, where the scanner then stands.
    #[cold]
    pub(super) fn broken_at<T>(&mut self, at: usize, rule: Rule) -> Result<T, Rule> {
        self.at = at;
        Err(rule)
    }

    /// A whole value of any kind, from its first byte to its last, with the envelope open around it.
    pub(super) fn value(&mut self) -> Result<(), Rule> {
        loop {
            let opened = match self.peek() {
                b'"' => self.string_body().map(|_| false)?,
                b'{' => self.open(true)?,
                b'[' => self.open(false)?,
                b'-' | b'0'..=b'9' => self.number().map(|_| false)?,
                b't' => self.literal(b"true").map(|()| false)?,
                b'f' => self.literal(b"false").map(|()| false)?,
                b'n' => self.literal(b"null").map(|()| false)?,
                _ => return Err(Rule::NotJson),
            };
            if !opened && self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Opens a container and goes to its first value. An empty one is closed at once: `false`.
    fn open(&mut self, object: bool) -> Result<bool, Rule> {
        // The envelope is open too.
        if self.scratch.frames.len() + 2 > self.limits.max_depth {
            return Err(Rule::TooDeep);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == if object { b'}' } else { b']' } {
            self.at += 1;
            return Ok(false);
        }
        let frame = Frame { object, keys: self.scratch.keys.len(), decoded: self.scratch.decoded.len() };
        self.scratch.frames.push(frame);
        if object {
            self.object_key(frame)?;
        }
        Ok(true)
    }

    /// Closes what ends here and goes to the next value; `true` when the outermost value has ended.
    fn after_value(&mut self) -> Result<bool, Rule> {
        while let Some(&frame) = self.scratch.frames.last() {
            self.skip_space();
            match (self.peek(), frame.object) {
                (b',', object) => {
                    self.at += 1;
                    self.skip_space();
                    if object {
                        self.object_key(frame)?;
                    }
                    return Ok(false);
                }
                (b'}', true) => {
                    if self.scratch.keys.len() - frame.keys > DIRECT_KEYS {
                        self.compare_many(frame)?;
                    }
                    self.scratch.keys.truncate(frame.keys);
                    self.scratch.decoded.truncate(frame.decoded);
                }
                (b']', false) => {}
                _ => return Err(Rule::NotJson),
            }
            self.at += 1;
            self.scratch.frames.pop();
        }
        Ok(true)
    }

    /// A key of an open object and its colon: counted, and compared with the keys before it.
    fn object_key(&mut self, frame: Frame) -> Result<(), Rule> {
        let at = self.at;
        let text = self.key()?;
        let bytes = bytes_of(self.text, self.scratch, text);
        let tag = tag(bytes);
        let earlier = self.scratch.keys.get(frame.keys..).unwrap_or_default();
        if earlier.len() >= self.limits.max_keys {
            return self.broken_at(at, Rule::TooManyKeys);
        }
        if earlier.len() < DIRECT_KEYS {
            #[cfg(test)]
            let compared = earlier.len();
            let same = |key: &Key| key.tag == tag && bytes_of(self.text, self.scratch, key.text) == bytes;
            if earlier.iter().any(same) {
                return self.broken_at(at, Rule::DuplicateKey);
            }
            #[cfg(test)]
            {
                self.scratch.comparisons += compared;
            }
        }
        self.scratch.keys.push(Key { tag, at, text });
        Ok(())
    }

    /// A key and its colon. A key written with escapes stands unescaped at the end of `Scratch::decoded` afterwards.
    #[expect(clippy::inline_always, reason = "a tenth of the time of a short message, measured")]
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Text, Rule> {
        let at = self.at;
        if self.peek() != b'"' {
            return Err(Rule::NotJson);
        }
        let mut text = self.string()?;
        if text.escaped {
            text = self.decode(text);
        }
        if matches!(bytes_of(self.text, self.scratch, text), b"__proto__" | b"constructor" | b"prototype") {
            return self.broken_at(at, Rule::ForbiddenKey);
        }
        self.skip_space();
        if self.peek() != b':' {
            return Err(Rule::NotJson);
        }
        self.at += 1;
        self.skip_space();
        Ok(text)
    }

    #[cold]
    fn decode(&mut self, text: Text) -> Text {
        let start = self.scratch.decoded.len();
        unescape(text.raw(self.text), &mut self.scratch.decoded);
        Text { start, end: self.scratch.decoded.len(), escaped: true }
    }

    /// The unescaped characters of a key.
    pub(super) fn key_bytes(&self, key: Text) -> &[u8] {
        bytes_of(self.text, self.scratch, key)
    }

    /// Looks for duplicates among the many keys of a closing object in n log n: only equal hashes are compared.
    #[cold]
    fn compare_many(&mut self, frame: Frame) -> Result<(), Rule> {
        let mut hashes = std::mem::take(&mut self.scratch.hashes);
        hashes.clear();
        let scratch = &*self.scratch;
        let keys = scratch.keys.get(frame.keys..).unwrap_or_default();
        let hash = |key: &Key| scratch.hasher.hash_one(bytes_of(self.text, scratch, key.text));
        hashes.extend(keys.iter().enumerate().map(|(index, key)| (hash(key), index)));
        hashes.sort_unstable();
        let mut duplicate: Option<usize> = None;
        #[cfg(test)]
        let mut comparisons = 0;
        for (position, &(hash, index)) in hashes.iter().enumerate() {
            // Hashes are keyed: a run of equal ones is a run of equal keys, and ends the loop at its second entry.
            for &(_, other) in hashes.iter().skip(position + 1).take_while(|(next, _)| *next == hash) {
                #[cfg(test)]
                {
                    comparisons += 1;
                }
                let (Some(one), Some(two)) = (keys.get(index), keys.get(other)) else { continue };
                if bytes_of(self.text, scratch, one.text) == bytes_of(self.text, scratch, two.text) {
                    duplicate = Some(one.at.max(two.at));
                    break;
                }
            }
            if duplicate.is_some() {
                break;
            }
        }
        #[cfg(test)]
        {
            self.scratch.comparisons += comparisons + hashes.len();
        }
        self.scratch.hashes = hashes;
        duplicate.map_or(Ok(()), |at| self.broken_at(at, Rule::DuplicateKey))
    }

    /// A string, from quote to quote.
    pub(super) fn string(&mut self) -> Result<Text, Rule> {
        let start = self.at + 1;
        let escaped = self.string_body()?;
        Ok(Text { start, end: self.at - 1, escaped })
    }

    /// Steps over a string; whether it has escapes.
    #[expect(clippy::inline_always, reason = "a tenth of the time of a short message, measured")]
    #[inline(always)]
    fn string_body(&mut self) -> Result<bool, Rule> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(Rule::ControlCharacter),
                None => return Err(Rule::NotJson),
            }
        }
    }

    /// One escape, or the two that spell a surrogate pair.
    #[inline(never)] // keeps the registers of `string_body` to itself
    fn escape(&mut self) -> Result<(), Rule> {
        match byte(self.bytes, self.at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => match hex4(self.bytes, self.at + 2) {
                Some(0xD800..=0xDBFF) => {
                    let follows = byte(self.bytes, self.at + 6) == b'\\' && byte(self.bytes, self.at + 7) == b'u';
                    let low = if follows { hex4(self.bytes, self.at + 8) } else { None };
                    if !matches!(low, Some(0xDC00..=0xDFFF)) {
                        return Err(Rule::LoneSurrogate);
                    }
                    self.at += 12;
                }
                Some(0xDC00..=0xDFFF) => return Err(Rule::LoneSurrogate),
                Some(_) => self.at += 6,
                None => return Err(Rule::BadEscape),
            },
            _ => return Err(Rule::BadEscape),
        }
        Ok(())
    }

    /// A number: its grammar, its length, and whether every parser can hold it.
    pub(super) fn number(&mut self) -> Result<Number, Rule> {
        let start = self.at;
        let first = start + usize::from(self.peek() == b'-');
        let whole = digits_end(self.bytes, first);
        if whole == first || (whole > first + 1 && byte(self.bytes, first) == b'0') {
            return Err(Rule::NotJson);
        }
        let mut at = whole;
        if byte(self.bytes, at) == b'.' {
            at = self.digits(at + 1)?;
        }
        let exponent = matches!(byte(self.bytes, at), b'e' | b'E');
        if exponent {
            let sign = usize::from(matches!(byte(self.bytes, at + 1), b'+' | b'-'));
            at = self.digits(at + 1 + sign)?;
        }
        if at - start > MAX_NUMBER_LEN {
            return Err(Rule::NumberTooLong);
        }
        let kind = if at == whole { Number::Integer } else { Number::Float };
        let too_large = match kind {
            Number::Integer if whole - first < MAX_SAFE_INTEGER.len() => false,
            Number::Integer => {
                let digits = self.bytes.get(first..whole).unwrap_or_default();
                digits.len() > MAX_SAFE_INTEGER.len() || digits > MAX_SAFE_INTEGER
            }
            // Without an exponent 128 characters are finite.
            Number::Float => exponent && !self.text.get(start..at).is_some_and(is_finite),
        };
        if too_large {
            return Err(Rule::NumberTooLarge);
        }
        self.at = at;
        Ok(kind)
    }

    /// The end of one or more digits that begin at `start`.
    fn digits(&mut self, start: usize) -> Result<usize, Rule> {
        let end = digits_end(self.bytes, start);
        if end == start { self.broken_at(start, Rule::NotJson) } else { Ok(end) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Rule> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(Rule::NotJson);
        }
        self.at += word.len();
        Ok(())
    }
}

fn is_finite(number: &str) -> bool {
    number.parse().is_ok_and(f64::is_finite)
}

/// The characters of a key: in the text, or unescaped in the scratch.
fn bytes_of<'a>(text: &'a str, scratch: &'a Scratch, key: Text) -> &'a [u8] {
    let source = if key.escaped { &scratch.decoded } else { text };
    source.as_bytes().get(key.start..key.end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{BadEnvelope, Contract, JsonLimits};
    use std::collections::BTreeMap;

    fn read_with(limits: JsonLimits, data: &str, scratch: &mut Scratch) -> Result<(), BadEnvelope> {
        let contract = Contract::compile(&BTreeMap::new(), limits).unwrap();
        let text = format!(r#"{{"event":"e","data":{data}}}"#);
        let read = contract.read(&text, scratch).map(|envelope| assert_eq!(envelope.data, data));
        read.map_err(|bad| BadEnvelope { at: bad.at.saturating_sub(20), ..bad })
    }

    fn read(data: &str) -> Result<(), Rule> {
        read_with(JsonLimits::default(), data, &mut Scratch::new()).map_err(|bad| bad.rule)
    }

    fn object(keys: impl Iterator<Item = String>) -> String {
        let members: Vec<String> = keys.map(|key| format!("\"{key}\":0")).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn the_grammar_is_rfc_8259() {
        for data in [
            "0",
            "-0",
            "1",
            "-1",
            "10",
            "0.0",
            "-0.5",
            "1e5",
            "1E+5",
            "1e-5",
            "0e0",
            "0.10e01",
            "1.5E-3",
            "true",
            "false",
            "null",
            "\"\"",
            "\"a\"",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "[1,2]",
            "[[],[[]],{}]",
            r#"{"a":{"b":[{}]}}"#,
            r#"{"":0}"#,
            r#"{"a":1,"A":2," a":3}"#,
            r#""\u0000\uFFFF\u00e9\uD834\uDD1E""#,
            "\"\u{7f}\u{2028}\u{feff}\"",
            "\"/ \u{10ffff}\"",
            r#"{"a" : [ 1 , 2 ] , "b" : null }"#,
            "1e308",
            "1e-400",
            "0e999",
            "0.0e999",
        ] {
            assert_eq!(read(data), Ok(()), "{data}");
        }
        for data in [
            "",
            "+1",
            ".5",
            "1.",
            "01",
            "-01",
            "00",
            "-",
            "--1",
            "1e",
            "1e+",
            "1.e5",
            "1.5.5",
            "0x10",
            "1_0",
            "NaN",
            "-NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "tru",
            "True",
            "nulll",
            "falsey",
            "undefined",
            "'a'",
            "\"a",
            "a\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "1]",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{,}",
            "[",
            "{",
            "[[",
            "{\"a\":",
            "{\"a\":[",
            "1/**/",
            "//\n1",
            "\u{a0}1",
            "\u{b}1",
            "[1]]",
            "{}}",
            "1,2",
            "\u{ff10}",
            "[1]\0",
        ] {
            assert!(read(data).is_err(), "{data}");
        }
    }

    #[test]
    fn strings_hold_no_control_characters_and_only_known_escapes() {
        for byte in 0..0x20_u8 {
            for length in 0..20 {
                let data = format!("\"{}{}tail of it\"", "x".repeat(length), char::from(byte));
                assert_eq!(read(&data), Err(Rule::ControlCharacter), "{data:?}");
            }
        }
        for escape in [r"\x41", r"\'", r"\0", r"\U0041", r"\u", r"\u12", r"\u12G4", r"\u+123", r"\u 123", "\\\n"] {
            assert_eq!(read(&format!("\"{escape}\"")), Err(Rule::BadEscape), "{escape}");
            assert_eq!(read(&format!("{{\"{escape}\":1}}")), Err(Rule::BadEscape), "{escape}");
        }
        assert!(read("\"\\").is_err());
        assert!(read("\"\\\"").is_err());
    }

    #[test]
    fn lone_surrogates_are_refused() {
        for escape in [
            r"\uD800",
            r"\uDBFF",
            r"\uDC00",
            r"\uDFFF",
            r"\udc00",
            r"\uD800x",
            r"\uD800\n",
            r"\uD800\u0041",
            r"\uD800\uD800",
            r"\uDC00\uD800",
            r"\uD800 \uDC00",
            r"\uD83D\uDE00\uD83D",
        ] {
            assert_eq!(read(&format!("\"{escape}\"")), Err(Rule::LoneSurrogate), "{escape}");
            assert_eq!(read(&format!("{{\"{escape}\":1}}")), Err(Rule::LoneSurrogate), "{escape}");
        }
    }

    // THREATS J2 and J3.
    #[test]
    fn numbers_are_what_every_parser_holds() {
        for data in ["9007199254740992", "-9007199254740992", "999999999999999", "9007199254740993.0", "1e300", "1e17"]
        {
            assert_eq!(read(data), Ok(()), "{data}");
        }
        for data in [
            "9007199254740993",
            "-9007199254740993",
            "9999999999999999",
            "10000000000000000",
            "18446744073709551616",
            "18446744073709551617",
            "1e309",
            "-1e400",
            "1e99999999999999999999",
            "123456789e301",
        ] {
            assert_eq!(read(data), Err(Rule::NumberTooLarge), "{data}");
            assert_eq!(read(&format!("[0,{data}]")), Err(Rule::NumberTooLarge), "{data}");
        }
        let of_length = |length: usize| format!("0.{}", "1".repeat(length - 2));
        assert_eq!(read(&of_length(128)), Ok(()));
        assert_eq!(read(&of_length(129)), Err(Rule::NumberTooLong));
        assert_eq!(read(&"9".repeat(128)), Err(Rule::NumberTooLarge));
        assert_eq!(read(&format!("{}.5", "9".repeat(126))), Ok(()));
        for bomb in ["9".repeat(100_000), of_length(100_000), format!("1e{}", "0".repeat(100_000))] {
            assert_eq!(read(&bomb), Err(Rule::NumberTooLong));
        }
    }

    // THREATS J2: the stack never holds more than the limit, whatever the message.
    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // The envelope is one of the 32.
        assert_eq!(read(&nested(31)), Ok(()));
        assert_eq!(read(&nested(32)), Err(Rule::TooDeep));
        let objects = |depth: usize| format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(read(&objects(31)), Ok(()));
        assert_eq!(read(&objects(32)), Err(Rule::TooDeep));
        let beside = format!("[{}[]]", format!("{},", nested(30)).repeat(100));
        assert_eq!(read(&beside), Ok(()));
        let mut scratch = Scratch::new();
        for bomb in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "[{\"a\":".repeat(50_000)] {
            let bad = read_with(JsonLimits::default(), &bomb, &mut scratch).unwrap_err();
            assert_eq!(bad.rule, Rule::TooDeep);
            assert!(bad.at < 6 * 32, "decided at byte {}", bad.at);
            assert!(scratch.frames.len() <= 31);
        }
        let shallow = JsonLimits { max_depth: 1, ..JsonLimits::default() };
        assert!(read_with(shallow, "1", &mut scratch).is_ok());
        assert_eq!(read_with(shallow, "[]", &mut scratch).unwrap_err().rule, Rule::TooDeep);
        let deep = JsonLimits { max_depth: 128, ..JsonLimits::default() };
        assert!(read_with(deep, &nested(127), &mut scratch).is_ok());
        assert_eq!(read_with(deep, &nested(128), &mut scratch).unwrap_err().rule, Rule::TooDeep);
    }

    #[test]
    fn keys_are_counted_per_object() {
        let keys = |count: usize| object((0..count).map(|index| format!("k{index}")));
        assert_eq!(read(&keys(256)), Ok(()));
        assert_eq!(read(&keys(257)), Err(Rule::TooManyKeys));
        assert_eq!(read(&format!("[{},{}]", keys(256), keys(256))), Ok(()));
        assert_eq!(read(&keys(20_000)), Err(Rule::TooManyKeys));
        let few = JsonLimits { max_keys: 1, ..JsonLimits::default() };
        let mut scratch = Scratch::new();
        assert!(read_with(few, r#"{"a":{"b":1}}"#, &mut scratch).is_ok());
        assert_eq!(read_with(few, r#"{"a":1,"b":1}"#, &mut scratch).unwrap_err().rule, Rule::TooManyKeys);
    }

    // THREATS J3.
    #[test]
    fn duplicate_keys_are_found_in_any_spelling_and_any_number() {
        for data in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"\u0061":1,"a":2}"#,
            r#"{"\u0061":1,"\u0061":2}"#,
            r#"{"é":1,"\u00e9":2}"#,
            r#"{"😀":1,"\ud83d\ude00":2}"#,
            r#"{"a/b":1,"a\/b":2}"#,
            r#"{"":1,"":2}"#,
            r#"[{"x":{"a":1,"b":{"a":1},"a":2}}]"#,
            r#"{"a long key that ends alike":1,"a long key that ends alike":2}"#,
        ] {
            assert_eq!(read(data), Err(Rule::DuplicateKey), "{data}");
        }
        for data in [
            r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":1,"A":1,"\u0061 ":1,"\\u0061":1}"#,
            r#"{"same ends, one middle, same ends":1,"same ends, two middle, same ends":2}"#,
        ] {
            assert_eq!(read(data), Ok(()), "{data}");
        }
        for count in [2, 8, 31, 32, 33, 34, 100, 255] {
            for again in [0, count / 2, count - 1] {
                let keys = (0..count).map(|index| format!("key {index}"));
                assert_eq!(read(&object(keys.clone())), Ok(()));
                assert_eq!(read(&object(keys.clone().chain([format!("key {again}")]))), Err(Rule::DuplicateKey));
                let escaped = format!("\\u006bey {again}");
                assert_eq!(read(&object([escaped.clone()].into_iter().chain(keys.clone()))), Err(Rule::DuplicateKey));
                assert_eq!(read(&object(keys.chain([escaped]))), Err(Rule::DuplicateKey));
            }
        }
    }

    // THREATS J4.
    #[test]
    fn keys_that_poison_prototypes_are_refused_at_any_depth() {
        for key in ["__proto__", "constructor", "prototype", r"__prot\u006f__", r"\u0063onstructor", r"prototyp\u0065"]
        {
            for data in [format!(r#"{{"{key}":1}}"#), format!(r#"[[{{"a":{{"b":0,"{key}":{{}}}}}}]]"#)] {
                assert_eq!(read(&data), Err(Rule::ForbiddenKey), "{data}");
            }
            // As a value they are harmless.
            assert_eq!(read(&format!(r#"["{key}"]"#)), Ok(()));
        }
        for key in ["_proto_", "__proto__ ", "Constructor", "prototypes", "__PROTO__", "toString"] {
            assert_eq!(read(&format!(r#"{{"{key}":1}}"#)), Ok(()), "{key}");
        }
    }

    // THREATS J2: the work on keys is linear, also for keys made to look alike.
    #[test]
    fn comparing_keys_is_linear() {
        let limits = JsonLimits { max_keys: 65_536, ..JsonLimits::default() };
        let alike = |index: usize| format!("same head {index:06} same tail");
        let mut scratch = Scratch::new();
        for count in [100, 1_000, 10_000, 60_000] {
            scratch.comparisons = 0;
            assert!(read_with(limits, &object((0..count).map(alike)), &mut scratch).is_ok());
            // The first 32 with each other, then each once by its hash.
            assert!(scratch.comparisons <= 32 * 32 / 2 + count, "{count} keys: {}", scratch.comparisons);
        }
        // Many objects that are just small enough to compare directly.
        let small = object((0..DIRECT_KEYS).map(alike));
        scratch.comparisons = 0;
        let many = vec![small; 100].join(",");
        assert!(read_with(limits, &format!("[{many}]"), &mut scratch).is_ok());
        assert!(scratch.comparisons <= 100 * DIRECT_KEYS * DIRECT_KEYS / 2);
        // Many equal keys end at the first pair.
        scratch.comparisons = 0;
        let keys = (0..DIRECT_KEYS).map(alike).chain((0..50_000).map(|_| alike(999_999)));
        assert_eq!(read_with(limits, &object(keys), &mut scratch).unwrap_err().rule, Rule::DuplicateKey);
        assert!(scratch.comparisons < 52_000);
    }

    #[test]
    fn a_scratch_gives_large_buffers_back_and_keeps_small_ones() {
        let limits = JsonLimits { max_keys: 65_536, ..JsonLimits::default() };
        let mut scratch = Scratch::new();
        let escaped = |index: usize| format!("\\u0061 long and escaped key {index}");
        assert!(read_with(limits, &object((0..50_000).map(escaped)), &mut scratch).is_ok());
        assert!(scratch.keys.capacity() > KEPT_KEYS && scratch.decoded.capacity() > KEPT_BYTES);
        assert!(read_with(limits, r#"{"a":{"b":1}}"#, &mut scratch).is_ok());
        assert!(scratch.keys.capacity() <= KEPT_KEYS, "{}", scratch.keys.capacity());
        assert!(scratch.hashes.capacity() <= KEPT_KEYS && scratch.decoded.capacity() <= KEPT_BYTES);
        let kept = (scratch.keys.capacity(), scratch.frames.capacity());
        assert!(kept.0 > 0);
        assert!(read_with(limits, r#"{"a":{"b":1}}"#, &mut scratch).is_ok());
        assert_eq!(kept, (scratch.keys.capacity(), scratch.frames.capacity()));
    }
}
