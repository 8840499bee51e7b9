//! Texts from and to JavaScript: strings, and the text of a tick's commands, whose pieces are measured in UTF-16 units.

use std::borrow::Cow;

use napi::{Env, JsString, Result, Status};

/// The text of a JavaScript string. ASCII, which most is, is copied as it lies; V8's own way to UTF-8 goes unit by unit.
pub(crate) fn read(string: JsString<'_>) -> Result<String> {
    // As many bytes as units: every unit is ASCII.
    if string.utf8_len()? == string.utf16_len()? {
        let bytes = string.into_latin1()?.take();
        return String::from_utf8(bytes).map_err(|error| napi::Error::new(Status::GenericFailure, error.to_string()));
    }
    string.into_utf8()?.into_owned()
}

/// A JavaScript string of a text; one byte a unit where it is ASCII.
pub(crate) fn write<'env>(env: &'env Env, text: &str) -> Result<JsString<'env>> {
    if text.is_ascii() { env.create_string_latin1(text) } else { env.create_string(text) }
}

/// Splits a text into pieces of given lengths in UTF-16 units.
#[derive(Debug)]
pub(crate) struct Utf16Pieces<'t> {
    rest: &'t str,
    is_ascii: bool,
    /// Two texts met in the middle of a surrogate pair that neither of them had: the second half is still to come.
    half: bool,
}

impl<'t> Utf16Pieces<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text, is_ascii: text.is_ascii(), half: false }
    }

    /// Returns true if no text is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next piece of this many units.
    pub(crate) fn next(&mut self, units: u32) -> Cow<'t, str> {
        if self.is_ascii {
            return Cow::Borrowed(self.split((units as usize).min(self.rest.len())));
        }
        self.walk(units as usize)
    }

    fn split(&mut self, bytes: usize) -> &'t str {
        let (piece, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        piece
    }

    fn walk(&mut self, units: usize) -> Cow<'t, str> {
        let starts_half = self.half && units > 0;
        self.half &= units == 0;
        let mut left = units - usize::from(starts_half);
        let mut bytes = 0;
        for character in self.rest.chars() {
            if left < character.len_utf16() {
                break;
            }
            left -= character.len_utf16();
            bytes += character.len_utf8();
        }
        let piece = self.split(bytes);
        if left == 0 && !starts_half {
            return Cow::Borrowed(piece);
        }
        let mut repaired = if starts_half { "\u{fffd}".to_owned() } else { String::new() };
        repaired.push_str(piece);
        // What is left is one unit, and the next character has two: lone surrogates that only look like a pair.
        if left > 0
            && let Some(pair) = self.rest.chars().next()
        {
            self.split(pair.len_utf8());
            self.half = true;
            repaired.push('\u{fffd}');
        }
        Cow::Owned(repaired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, units: &[u32]) -> Vec<String> {
        let mut pieces = Utf16Pieces::new(text);
        units.iter().map(|units| pieces.next(*units).into_owned()).collect()
    }

    #[test]
    fn pieces_are_measured_in_utf16() {
        assert_eq!(pieces("abcd", &[1, 0, 3]), ["a", "", "bcd"]);
        assert_eq!(pieces("ä€x😀y", &[2, 1, 2, 1]), ["ä€", "x", "😀", "y"]);
    }

    #[test]
    fn a_pair_that_two_texts_made_is_two_replacements() {
        assert_eq!(pieces("a😀b", &[2, 2]), ["a\u{fffd}", "\u{fffd}b"]);
        assert_eq!(pieces("😀", &[1, 1]), ["\u{fffd}", "\u{fffd}"]);
        assert_eq!(pieces("😀", &[1, 0, 1]), ["\u{fffd}", "", "\u{fffd}"]);
    }

    #[test]
    fn more_than_there_is_ends_at_the_end() {
        assert_eq!(pieces("ab", &[5, 1]), ["ab", ""]);
    }
}
