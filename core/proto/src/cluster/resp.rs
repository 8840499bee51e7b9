//! RESP3, the protocol of Redis: words out, values in.
//!
//! Whoever stands behind the connection, a value that is larger or deeper than any that is asked for ends it.

use std::borrow::Cow;

use super::store::Value;

/// The longest line: a number, a simple string, an error.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// What one value may take, strings and the places of their list together.
const MAX_VALUE_BYTES: usize = 128 * 1024 * 1024;
const MAX_DEPTH: usize = 16;

/// Appends a command.
pub fn encode<'w>(words: impl IntoIterator<Item = Cow<'w, [u8]>>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut count = 0_u32;
    for word in words {
        count += 1;
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(&word);
        out.extend_from_slice(b"\r\n");
    }
    let head = format!("*{count}\r\n");
    out.splice(start..start, head.bytes());
}

/// Something that came.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The answer to the first command that has none yet. A map is a list of keys and values in turn.
    Answer(Value),
    /// What nobody asked for, or what answers a subscription: its kind is the first of the list.
    Push(Vec<Value>),
}

/// That was no RESP3, or more of it than anything here asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes bytes apart, as they come.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Where what is not yet taken begins.
    start: usize,
    /// Where the end of a line is looked for.
    searched: usize,
    /// The length of the string whose line is taken, and what makes a value of it.
    string: Option<(u8, usize)>,
    /// Lists that are not full, the outermost first.
    open: Vec<Open>,
    /// What the value takes by now.
    size: usize,
}

#[derive(Debug)]
struct Open {
    kind: u8,
    left: usize,
    values: Vec<Value>,
}

/// What a line has begun.
enum Begun {
    Value(Value),
    String(u8, usize),
    List(u8, usize),
}

impl Decoder {
    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.bytes.len() || self.start > 64 * 1024) {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next that has come whole; `None`: more bytes are needed.
    ///
    /// # Errors
    /// The peer does not speak RESP3, or sends too much of it: nothing that follows can be understood.
    pub fn take(&mut self) -> Result<Option<Received>, Malformed> {
        loop {
            let begun = match self.string {
                Some((kind, len)) => {
                    let Some(text) = self.take_string(len)? else { return Ok(None) };
                    self.string = None;
                    Begun::Value(string(kind, text)?)
                }
                None => {
                    let Some(line) = self.take_line()? else { return Ok(None) };
                    begin(&line)?
                }
            };
            match begun {
                Begun::Value(value) => {
                    if let Some(received) = self.close(value) {
                        self.size = 0;
                        return Ok(Some(received));
                    }
                }
                Begun::String(kind, len) => {
                    self.grow(len)?;
                    self.string = Some((kind, len));
                }
                Begun::List(kind, len) => {
                    self.grow(len.checked_mul(size_of::<Value>()).ok_or(Malformed)?)?;
                    if self.open.len() >= MAX_DEPTH {
                        return Err(Malformed);
                    }
                    // What it claims to hold is made room for as it comes.
                    self.open.push(Open { kind, left: len, values: Vec::with_capacity(len.min(64)) });
                    if let Some(received) = self.close_full() {
                        self.size = 0;
                        return Ok(Some(received));
                    }
                }
            }
        }
    }

    fn grow(&mut self, by: usize) -> Result<(), Malformed> {
        self.size = self.size.checked_add(by).filter(|size| *size <= MAX_VALUE_BYTES).ok_or(Malformed)?;
        Ok(())
    }

    /// The next line, without its end.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let from = self.searched.max(self.start);
        let Some(found) = self.bytes[from..].windows(2).position(|pair| pair == b"\r\n") else {
            self.searched = self.bytes.len().saturating_sub(1).max(self.start);
            return if self.bytes.len() - self.start > MAX_LINE_BYTES { Err(Malformed) } else { Ok(None) };
        };
        let line = self.bytes[self.start..from + found].to_vec();
        self.start = from + found + 2;
        self.searched = self.start;
        Ok(Some(line))
    }

    fn take_string(&mut self, len: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let Some(text) = self.bytes[self.start..].get(..len + 2) else { return Ok(None) };
        let text = text.strip_suffix(b"\r\n").ok_or(Malformed)?.to_vec();
        self.start += len + 2;
        self.searched = self.start;
        Ok(Some(text))
    }

    /// Puts a value where it belongs.
    fn close(&mut self, value: Value) -> Option<Received> {
        let Some(list) = self.open.last_mut() else { return Some(Received::Answer(value)) };
        list.values.push(value);
        list.left -= 1;
        self.close_full()
    }

    /// Closes lists that are full.
    fn close_full(&mut self) -> Option<Received> {
        while let Some(list) = self.open.pop_if(|list| list.left == 0) {
            let value = match list.kind {
                // What is said about the value that follows: nothing here asks for it.
                b'|' => continue,
                b'>' if self.open.is_empty() => return Some(Received::Push(list.values)),
                _ => Value::Array(list.values),
            };
            match self.open.last_mut() {
                None => return Some(Received::Answer(value)),
                Some(outer) => {
                    outer.values.push(value);
                    outer.left -= 1;
                }
            }
        }
        None
    }
}

fn begin(line: &[u8]) -> Result<Begun, Malformed> {
    let (&kind, rest) = line.split_first().ok_or(Malformed)?;
    let len = || count(rest);
    Ok(match kind {
        b'+' | b',' | b'(' => Begun::Value(Value::Bytes(rest.to_vec())),
        b'-' => Begun::Value(Value::Error(String::from_utf8_lossy(rest).into_owned())),
        b':' => Begun::Value(Value::Int(text(rest)?.parse().map_err(|_| Malformed)?)),
        b'#' => Begun::Value(Value::Int(i64::from(rest == b"t"))),
        b'_' => Begun::Value(Value::Nil),
        b'$' | b'*' if rest == b"-1" => Begun::Value(Value::Nil),
        b'$' | b'=' | b'!' => Begun::String(kind, len()?),
        b'*' | b'~' | b'>' => Begun::List(kind, len()?),
        b'%' | b'|' => Begun::List(kind, len()?.checked_mul(2).ok_or(Malformed)?),
        _ => return Err(Malformed),
    })
}

fn string(kind: u8, bytes: Vec<u8>) -> Result<Value, Malformed> {
    Ok(match kind {
        b'!' => Value::Error(String::from_utf8_lossy(&bytes).into_owned()),
        // Its form comes first: `txt:`.
        b'=' => Value::Bytes(bytes.get(4..).ok_or(Malformed)?.to_vec()),
        _ => Value::Bytes(bytes),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn count(digits: &[u8]) -> Result<usize, Malformed> {
    let is_count = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if is_count { text(digits)?.parse().map_err(|_| Malformed) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], at_a_time: usize) -> Result<Vec<Received>, Malformed> {
        let (mut decoder, mut received) = (Decoder::default(), Vec::new());
        for bytes in bytes.chunks(at_a_time.max(1)) {
            decoder.push(bytes);
            while let Some(next) = decoder.take()? {
                received.push(next);
            }
        }
        Ok(received)
    }

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().into())
    }

    #[test]
    fn a_command_is_a_list_of_strings() {
        let mut out = b"x".to_vec();
        encode([Cow::Borrowed(&b"SET"[..]), Cow::Borrowed(b""), Cow::Owned(vec![0, 13, 10])], &mut out);
        assert_eq!(out, b"x*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\n\0\r\n\r\n");
    }

    #[test]
    fn values_of_every_kind_are_read_however_they_are_cut() {
        let text = b"+OK\r\n-ERR no\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n,1.5\r\n(123\r\n=8\r\ntxt:abcd\r\n!6\r\nOH no!\r\n\
            *2\r\n*0\r\n%1\r\n+k\r\n~1\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n|1\r\n+ttl\r\n:3\r\n:4\r\n";
        let expected = [
            bytes("OK"),
            Value::Error("ERR no".to_owned()),
            Value::Int(-7),
            bytes("a\r\nbc"),
            Value::Nil,
            Value::Nil,
            Value::Nil,
            Value::Int(1),
            Value::Int(0),
            bytes("1.5"),
            bytes("123"),
            bytes("abcd"),
            Value::Error("OH no!".to_owned()),
            Value::Array(vec![Value::Array(vec![]), Value::Array(vec![bytes("k"), Value::Array(vec![Value::Int(1)])])]),
        ];
        let mut expected: Vec<Received> = expected.into_iter().map(Received::Answer).collect();
        expected.push(Received::Push(vec![bytes("message"), bytes("c"), bytes("")]));
        expected.push(Received::Answer(Value::Int(4)));
        for at_a_time in [1, 2, 3, 7, 1000] {
            assert_eq!(all(text, at_a_time).unwrap(), expected, "{at_a_time} bytes at a time");
        }
    }

    #[test]
    fn what_is_no_resp_or_too_much_of_it_is_refused() {
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$+3\r\nabc\r\n",
            b"$3\r\nabcd\r\n",
            b"$99999999999999999999\r\n",
            b"$999999999\r\n",
            b"*999999999\r\n",
            b"%9999999999\r\n",
            b"=2\r\nab\r\n",
            b"\x16\x03\x01\r\n",
        ] {
            assert_eq!(all(text, 1000), Err(Malformed), "{}", text.escape_ascii());
        }
        assert_eq!(all(&b"*1\r\n".repeat(17), 1000), Err(Malformed));
        assert_eq!(all(&b"+".repeat(MAX_LINE_BYTES + 2), 1000), Err(Malformed));
        assert_eq!(all(b"*2\r\n$100000000\r\n", 1000), Ok(vec![]), "nothing is made room for before it comes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in "[+:$*%>|_=!~#,0-9a\r\n-]{0,40}", raw: Vec<u8>, at_a_time in 1..9_usize) {
            for bytes in [text.replace('\n', "\r\n").as_bytes(), &raw] {
                prop_assert_eq!(all(bytes, at_a_time), all(bytes, usize::MAX).and(all(bytes, 1)));
            }
        }

        #[test]
        fn strings_arrive_as_they_were_sent(words in prop::collection::vec(any::<Vec<u8>>(), 0..9), at_a_time in 1..99_usize) {
            let mut out = Vec::new();
            encode(words.iter().map(|word| Cow::Borrowed(&word[..])), &mut out);
            let expected = Value::Array(words.into_iter().map(Value::Bytes).collect());
            prop_assert_eq!(all(&out, at_a_time), Ok(vec![Received::Answer(expected)]));
        }
    }
}
