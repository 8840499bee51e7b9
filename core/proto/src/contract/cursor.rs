//! Steps through JSON text that [`Contract::read`](super::Contract::read) has vetted: it finds where values end and
//! checks no grammar. On other text it may go astray, but it ends and does not panic.

use super::text::plain_end;

pub(super) const NULL: u8 = 1;
pub(super) const BOOLEAN: u8 = 1 << 1;
pub(super) const INTEGER: u8 = 1 << 2;
/// A number with a fraction or an exponent.
pub(super) const FLOAT: u8 = 1 << 3;
pub(super) const STRING: u8 = 1 << 4;
pub(super) const ARRAY: u8 = 1 << 5;
pub(super) const OBJECT: u8 = 1 << 6;

/// A place in vetted JSON text.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The offset of the byte that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// What kind of value begins here; `FLOAT` for any number.
    pub(super) fn kind(&self) -> Option<u8> {
        Some(match self.peek()? {
            b'"' => STRING,
            b'{' => OBJECT,
            b'[' => ARRAY,
            b't' | b'f' => BOOLEAN,
            b'n' => NULL,
            b'-' | b'0'..=b'9' => FLOAT,
            _ => return None,
        })
    }

    /// Steps into a container.
    pub(super) fn enter(&mut self) {
        self.at += 1;
        self.skip_space();
    }

    /// Steps over the end of a container if it is here.
    pub(super) fn leaves(&mut self, end: u8) -> bool {
        let ends = self.peek() == Some(end);
        self.at += usize::from(ends);
        ends
    }

    /// Steps over the comma after a value, or up to the end of the container.
    pub(super) fn separator(&mut self, end: u8) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b',' => self.enter(),
            byte if byte == end => {}
            _ => return None,
        }
        Some(())
    }

    /// Steps over the colon after a key.
    pub(super) fn colon(&mut self) -> Option<()> {
        self.skip_space();
        (self.peek()? == b':').then(|| self.enter())
    }

    /// A string without its quotes, and whether it has escapes.
    pub(super) fn string(&mut self) -> Option<(&'t str, bool)> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => return None,
            }
        }
        let raw = self.text.get(start..self.at)?;
        self.at += 1;
        Some((raw, escaped))
    }

    /// A number as it is written, and whether that is an integer.
    pub(super) fn number(&mut self) -> Option<(&'t str, u8)> {
        let start = self.at;
        let mut kind = INTEGER;
        while let Some(byte @ (b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) = self.peek() {
            if matches!(byte, b'.' | b'e' | b'E') {
                kind = FLOAT;
            }
            self.at += 1;
        }
        Some((self.text.get(start..self.at)?, kind))
    }

    /// Steps over a value of any kind.
    pub(super) fn skip(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                _ => self.skip_scalar(),
            }
            if open == 0 {
                return Some(());
            }
        }
    }

    /// Steps over a number or a literal.
    fn skip_scalar(&mut self) {
        while let Some(byte) = self.peek()
            && !matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']' | b' ' | b'\n' | b'\r' | b'\t')
        {
            self.at += 1;
        }
    }
}
