//! Vetted JSON text as a flat table of values: what the evaluator walks over, and where a place in it is named.
//!
//! Nothing recurses, nothing is copied but strings that are written with escapes. A value takes 20 bytes whatever it
//! is, so that a message's table is at most a small multiple of its text.

use super::cursor::{ARRAY, BOOLEAN, Cursor, FLOAT, NULL, OBJECT, STRING};
use super::text::unescape;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// What a path says at most, in characters.
const MAX_PATH: usize = 160;

/// One value, or one key of an object: keys stand before their values.
#[derive(Clone, Copy, Debug)]
struct Value {
    kind: u8,
    /// The characters stand unescaped in `Instance::decoded`.
    escaped: bool,
    start: u32,
    end: u32,
    /// The value that follows this one and everything in it.
    next: u32,
    /// Items of an array, members of an object.
    count: u32,
}

/// A parsed message. Values are known by their index, in the order in which they begin.
#[derive(Debug)]
pub(super) struct Instance<'t> {
    text: &'t str,
    values: Vec<Value>,
    decoded: String,
    /// Of every value, once one has been asked for: equal values have equal digests.
    digests: Vec<u128>,
}

impl<'t> Instance<'t> {
    /// `None`: not JSON, or over 4 GiB.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        u32::try_from(text.len()).ok().filter(|len| *len < u32::MAX)?;
        let mut instance = Self { text, values: Vec::new(), decoded: String::new(), digests: Vec::new() };
        let mut cursor = Cursor::new(text);
        instance.read(&mut cursor)?;
        cursor.is_at_end().then_some(instance)
    }

    fn read(&mut self, cursor: &mut Cursor<'t>) -> Option<()> {
        let mut open: Vec<usize> = Vec::new();
        loop {
            let index = self.values.len();
            let start = cursor.at();
            let kind = cursor.kind()?;
            self.push(kind, start, start);
            match kind {
                STRING => self.string(index, cursor)?,
                OBJECT | ARRAY => {
                    cursor.enter();
                    if !cursor.leaves(end_of(kind)) {
                        open.push(index);
                        self.key(kind, cursor)?;
                        continue;
                    }
                }
                FLOAT => {
                    let kind = cursor.number()?.1;
                    self.set(index, kind, start, cursor.at());
                }
                _ => {
                    cursor.skip()?;
                    self.set(index, kind, start, cursor.at());
                }
            }
            loop {
                let Some(&parent) = open.last() else { return Some(()) };
                let next = self.values.len() as u32;
                let container = self.values.get_mut(parent)?;
                container.count += 1;
                let kind = container.kind;
                cursor.separator(end_of(kind))?;
                if !cursor.leaves(end_of(kind)) {
                    self.key(kind, cursor)?;
                    break;
                }
                container.next = next;
                open.pop();
            }
        }
    }

    fn push(&mut self, kind: u8, start: usize, end: usize) {
        let next = self.values.len() as u32 + 1;
        self.values.push(Value { kind, escaped: false, start: start as u32, end: end as u32, next, count: 0 });
    }

    fn set(&mut self, index: usize, kind: u8, start: usize, end: usize) {
        if let Some(value) = self.values.get_mut(index) {
            *value = Value { kind, start: start as u32, end: end as u32, ..*value };
        }
    }

    /// The key of a member and its colon, where the container is an object.
    fn key(&mut self, container: u8, cursor: &mut Cursor<'t>) -> Option<()> {
        if container == OBJECT {
            let index = self.values.len();
            self.push(STRING, 0, 0);
            self.string(index, cursor)?;
            cursor.colon()?;
        }
        Some(())
    }

    fn string(&mut self, index: usize, cursor: &mut Cursor<'t>) -> Option<()> {
        let start = cursor.at() + 1;
        let (raw, escaped) = cursor.string()?;
        if escaped {
            let start = self.decoded.len();
            unescape(raw, &mut self.decoded);
            self.set(index, STRING, start, self.decoded.len());
            self.values.get_mut(index)?.escaped = true;
        } else {
            self.set(index, STRING, start, start + raw.len());
        }
        Some(())
    }

    fn value(&self, index: u32) -> Value {
        const NOTHING: Value = Value { kind: NULL, escaped: false, start: 0, end: 0, next: u32::MAX, count: 0 };
        self.values.get(index as usize).copied().unwrap_or(NOTHING)
    }

    /// How many values there are, keys counted.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The bit of the value's type, as in [`cursor`](super::cursor).
    pub(super) fn kind(&self, index: u32) -> u8 {
        self.value(index).kind
    }

    /// How many items or members.
    pub(super) fn count(&self, index: u32) -> usize {
        self.value(index).count as usize
    }

    /// The value behind this one and everything in it: its next sibling, if it has one.
    pub(super) fn next(&self, index: u32) -> u32 {
        self.value(index).next
    }

    /// The characters of a string or a key, the text of a number or a literal.
    pub(super) fn text(&self, index: u32) -> &str {
        let value = self.value(index);
        let source = if value.escaped { &self.decoded } else { self.text };
        source.get(value.start as usize..value.end as usize).unwrap_or_default()
    }

    /// The number, rounded correctly, with one zero.
    pub(super) fn number(&self, index: u32) -> f64 {
        as_number(self.text(index))
    }

    /// A word that two values share when JSON Schema calls them equal, and otherwise by a chance of 1 in 2^128: the
    /// keys of the hash are this process's secret. Made for all values at once, in one pass.
    pub(super) fn digest(&mut self, index: u32) -> u128 {
        if self.digests.is_empty() {
            self.digests = vec![0; self.values.len()];
            for index in (0..self.values.len() as u32).rev() {
                let digest = self.digest_of(index);
                if let Some(place) = self.digests.get_mut(index as usize) {
                    *place = digest;
                }
            }
        }
        self.digests.get(index as usize).copied().unwrap_or_default()
    }

    /// Whether [`Instance::digest`] still has to do its work.
    pub(super) fn has_digests(&self) -> bool {
        !self.digests.is_empty()
    }

    /// From the digests of the parts, which stand behind it.
    fn digest_of(&self, index: u32) -> u128 {
        let known = |index: u32| self.digests.get(index as usize).copied().unwrap_or_default();
        let value = self.value(index);
        match value.kind {
            ARRAY => hash((b'[', children(self, index).map(known).collect::<Vec<_>>())),
            // Whatever their order, hence the sum: each part is a keyed hash of a name that occurs once.
            OBJECT => {
                let members = children(self, index).map(|key| hash((b':', known(key), known(key + 1))));
                hash((b'{', members.fold(0, u128::wrapping_add)))
            }
            STRING => hash((b'"', self.text(index))),
            NULL | BOOLEAN => hash((b'?', self.text(index))),
            _ => hash((b'0', self.number(index).to_bits())),
        }
    }

    /// A JSON pointer to a value, in which names that `names` does not hold are shown as `*`; bounded.
    pub(super) fn path(&self, to: u32, names: &BTreeSet<String>) -> String {
        let mut path = String::new();
        let mut length = 0;
        let mut at = 0;
        while at != to {
            let object = self.kind(at) == OBJECT;
            let inside = |(_, child): &(usize, u32)| to < self.next(child + u32::from(object));
            let Some((ordinal, child)) = children(self, at).enumerate().find(inside) else { break };
            if object && to == child {
                break;
            }
            let segment = match object {
                false => ordinal.to_string(),
                true if names.contains(self.text(child)) => escaped(self.text(child)),
                true => "*".to_owned(),
            };
            length += segment.chars().count() + 1;
            if length > MAX_PATH {
                path.push_str("/…");
                break;
            }
            path.push('/');
            path.push_str(&segment);
            at = child + u32::from(object);
        }
        path
    }
}

/// A name as a segment of a JSON pointer that a log may hold.
fn escaped(name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    name.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// The items of an array, the keys of an object.
pub(super) fn children<'i>(instance: &'i Instance<'_>, index: u32) -> impl Iterator<Item = u32> + 'i {
    let value = instance.value(index);
    let step = u32::from(value.kind == OBJECT);
    let mut child = index + 1;
    (0..value.count).map(move |_| {
        let this = child;
        child = instance.next(this + step);
        this
    })
}

fn end_of(kind: u8) -> u8 {
    if kind == OBJECT { b'}' } else { b']' }
}

/// The text of a number as every parser downstream holds it: the nearest 64-bit float.
pub(super) fn as_number(text: &str) -> f64 {
    // Adding zero makes -0 be 0.
    text.parse().unwrap_or(0.0) + 0.0
}

fn hash(part: impl std::hash::Hash) -> u128 {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
    u128::from(KEYS.0.hash_one(&part)) << 64 | u128::from(KEYS.1.hash_one(&part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(text: &str) -> u128 {
        Instance::parse(text).unwrap().digest(0)
    }

    #[test]
    fn values_stand_in_the_order_of_the_text() {
        let instance = Instance::parse(r#"{"a":[1, "x\n", {}] , "\u0062":{"c":null},"d":true}"#).unwrap();
        let texts: Vec<&str> = (0..instance.len() as u32).map(|index| instance.text(index)).collect();
        assert_eq!(texts, ["", "a", "", "1", "x\n", "", "b", "", "c", "null", "d", "true"]);
        assert_eq!(children(&instance, 0).collect::<Vec<_>>(), [1, 6, 10]);
        assert_eq!(children(&instance, 2).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((instance.count(0), instance.count(2), instance.count(5)), (3, 3, 0));
        let names = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(instance.path(0, &names), "");
        assert_eq!(instance.path(4, &names), "/a/1");
        assert_eq!(instance.path(9, &names), "/b/*");
        assert_eq!(instance.path(10, &names), "", "a key is in its object");
        assert!(["", "[", "[1", "{\"a\"", "{\"a\":", "\"", "1 2", "[1]]"].iter().all(|t| Instance::parse(t).is_none()));
    }

    #[test]
    fn equal_is_what_json_schema_calls_equal() {
        for (one, two) in [
            ("1", "1.0"),
            ("0", "-0.0"),
            ("100", "1e2"),
            (r#"{"a":1,"b":[2]}"#, r#"{"b" : [2.0], "\u0061":1}"#),
            ("null", "null"),
            (r#""\u00e9""#, "\"é\""),
        ] {
            assert_eq!(digest(one), digest(two), "{one} {two}");
        }
        let different = [
            json!([1, true, "1", null, [1], {"1": 1}, 0, false, "", [], {}, "null", "true"]),
            json!([[[1], 2], [1, [2]], [1, 2], [[1, 2]]]),
            json!([{"a": "b"}, {"b": "a"}, {"a": {"b": 1}}, {"a": 1, "b": 1}]),
            json!(["ab", ["a", "b"], ["", "ab"], ["ab", ""]]),
        ];
        for list in different {
            let digests: BTreeSet<u128> = list.as_array().unwrap().iter().map(|v| digest(&v.to_string())).collect();
            assert_eq!(digests.len(), list.as_array().unwrap().len(), "{list}");
        }
    }
}
