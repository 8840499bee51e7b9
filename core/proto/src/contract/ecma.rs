//! ECMA 262 patterns, which JSON Schema speaks, in the words of the crate regex.
//!
//! It decides what each sign means, as ECMA 262 has it with the flag `u`: what is not of that grammar is refused, though
//! the crate would take it for something (`(?i)`, `\A`, `[[:alpha:]]`), and what the crate means otherwise is rewritten
//! (`.`, `\s`, `\b`, `[]`). Whether patterns run in linear time is decided by refusing look-around and backreferences.

use std::fmt::Write;

/// Why a pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not of the grammar.
    Syntax,
    /// Flags for the whole pattern, `(?i)`, as other languages have them.
    GlobalFlags,
    /// `(?m:…)`: anchors that the crate knows for other ends of lines only.
    MultiLine,
    /// `\P{…}` where case is ignored: with the flag `u` that is whatever has a spelling outside the property, to the crate what
    /// has none inside.
    ComplementOfCase,
    LookAround,
    Backreference,
    /// A property of characters, half of a surrogate pair, or brackets in brackets beyond what the crate takes.
    Unknown,
    /// Too large when compiled.
    Size,
}

impl Refusal {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Syntax => "it is no regular expression of ECMA 262 (as with the flag `u`)",
            Self::GlobalFlags => {
                "it is no regular expression of ECMA 262, which has no flags for the whole: write `(?i:…)`, or [Aa]"
            }
            Self::MultiLine => "the modifier `m` is not known here: `^` and `$` are the ends of the text",
            Self::ComplementOfCase => r"`\P{…}` is not known where case is ignored: write it outside of `(?i:…)`",
            Self::LookAround => "patterns run in linear time, without look-around",
            Self::Backreference => "patterns run in linear time, without backreferences",
            Self::Unknown => {
                "it names a Unicode property that is not known or half a surrogate pair, or is nested too deep"
            }
            Self::Size => "patterns run in linear time, and compile to at most 4 MiB each",
        }
    }
}

/// What `.` stands for: anything but a line terminator (ECMA 262 section 12.3).
const DOT: &str = r"[^\n\r\x{2028}\x{2029}]";
const DIGITS: &str = "0-9";
const WORDS: &str = "0-9A-Za-z_";
/// `WhiteSpace` and `LineTerminator` (sections 12.2 and 12.3).
const SPACES: &str =
    r"\x{9}-\x{d}\x{20}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";
const EVERYTHING: &str = r"\x{0}-\x{10ffff}";

/// The pattern as the crate regex understands it.
pub(super) fn translate(pattern: &str) -> Result<String, Refusal> {
    if !jsonschema_regex::is_valid_ecma_regex(pattern) {
        let has_flags = ["(?i)", "(?m)", "(?s)", "(?x)", "(?u)"].iter().any(|flags| pattern.starts_with(flags));
        return Err(if has_flags { Refusal::GlobalFlags } else { Refusal::Syntax });
    }
    let out = String::with_capacity(pattern.len() * 2);
    let mut translator = Translator { rest: pattern, out, modifiers: vec![Modifiers::default()] };
    translator.run()?;
    Ok(translator.out)
}

/// What `(?…:` has set for a group.
#[derive(Clone, Copy, Default)]
struct Modifiers {
    /// `.` stands for everything (`s`).
    dot_all: bool,
    /// `i`.
    ignores_case: bool,
}

/// Goes through a pattern that keeps to the grammar.
struct Translator<'p> {
    rest: &'p str,
    out: String,
    /// Those of the whole, and of each open group.
    modifiers: Vec<Modifiers>,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        Some(next)
    }

    fn eat(&mut self, start: &str) -> bool {
        let rest = self.rest.strip_prefix(start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn modifiers(&self) -> Modifiers {
        self.modifiers.last().copied().unwrap_or_default()
    }

    fn run(&mut self) -> Result<(), Refusal> {
        while let Some(next) = self.next() {
            match next {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => {
                    self.modifiers.pop();
                    self.out.push(')');
                }
                '.' if self.modifiers().dot_all => self.out.extend(["[", EVERYTHING, "]"]),
                '.' => self.out.push_str(DOT),
                '^' | '$' | '|' | '*' | '+' | '?' => self.out.push(next),
                '{' => {
                    let end = self.rest.find('}').map_or(self.rest.len(), |end| end + 1);
                    let (count, rest) = self.rest.split_at(end);
                    self.out.extend(["{", count]);
                    self.rest = rest;
                }
                literal => self.code(literal as u32),
            }
        }
        Ok(())
    }

    /// The opening parenthesis has been read. Names are dropped: nothing asks what a group has matched.
    fn group(&mut self) -> Result<(), Refusal> {
        let mut modifiers = self.modifiers();
        if !self.eat("?") {
            self.out.push_str("(?:");
        } else if ["=", "!", "<=", "<!"].iter().any(|start| self.eat(start)) {
            return Err(Refusal::LookAround);
        } else if self.eat("<") {
            while self.next().is_some_and(|letter| letter != '>') {}
            self.out.push_str("(?:");
        } else {
            let mut adds = true;
            while let Some(flag) = self.next() {
                match flag {
                    '-' => adds = false,
                    'i' => modifiers.ignores_case = adds,
                    's' => modifiers.dot_all = adds,
                    'm' if adds => return Err(Refusal::MultiLine),
                    'm' => {}
                    _ => break,
                }
            }
            self.out.push_str(if modifiers.ignores_case { "(?i:" } else { "(?-i:" });
        }
        self.modifiers.push(modifiers);
        Ok(())
    }

    /// An escape outside a class; the backslash has been read.
    fn escape(&mut self) -> Result<(), Refusal> {
        match self.next() {
            // Words are ASCII, as `\w` is.
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => self.out.push_str(r"(?-u:\B)"),
            Some('k' | '1'..='9') => return Err(Refusal::Backreference),
            Some(other) => self.character_or_set(other)?,
            None => {}
        }
        Ok(())
    }

    /// A class; the opening bracket has been read. A `]` behind it ends it: `[]` is nothing, `[^]` is anything.
    fn class(&mut self) -> Result<(), Refusal> {
        let negated = self.eat("^");
        if self.eat("]") {
            self.out.extend([if negated { "[" } else { "[^" }, EVERYTHING, "]"]);
            return Ok(());
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        while !self.eat("]") {
            self.class_atom()?;
            // A hyphen before the end is one; all others stand in ranges of single characters.
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                self.out.push('-');
                self.class_atom()?;
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn class_atom(&mut self) -> Result<(), Refusal> {
        match self.next() {
            Some('\\') => match self.next() {
                Some('b') => self.code(8),
                Some(other) => self.character_or_set(other)?,
                None => {}
            },
            Some(literal) => self.code(literal as u32),
            None => {}
        }
        Ok(())
    }

    /// What an escape stands for that means the same inside and outside of classes; its letter has been read.
    fn character_or_set(&mut self, letter: char) -> Result<(), Refusal> {
        match letter {
            'd' => self.out.extend(["[", DIGITS, "]"]),
            'D' => self.out.extend(["[^", DIGITS, "]"]),
            'w' => self.out.extend(["[", WORDS, "]"]),
            'W' => self.out.extend(["[^", WORDS, "]"]),
            's' => self.out.extend(["[", SPACES, "]"]),
            'S' => self.out.extend(["[^", SPACES, "]"]),
            'P' if self.modifiers().ignores_case => return Err(Refusal::ComplementOfCase),
            'p' | 'P' => {
                let end = self.rest.find('}').map_or(self.rest.len(), |end| end + 1);
                let (name, rest) = self.rest.split_at(end);
                self.out.extend([if letter == 'p' { r"\p" } else { r"\P" }, name]);
                self.rest = rest;
            }
            'f' => self.code(0xc),
            'n' => self.code(0xa),
            'r' => self.code(0xd),
            't' => self.code(9),
            'v' => self.code(0xb),
            '0' => self.code(0),
            'c' => {
                let control = self.next().map_or(0, |letter| letter as u32 % 32);
                self.code(control);
            }
            'x' => {
                let code = self.hex(2);
                self.code(code);
            }
            'u' => {
                let code = self.unicode();
                self.code(code);
            }
            itself => self.code(itself as u32),
        }
        Ok(())
    }

    /// `\u` has been read: `{…}`, four digits, or a surrogate pair in eight.
    fn unicode(&mut self) -> u32 {
        if self.eat("{") {
            let digits = self.rest.find('}').unwrap_or(self.rest.len());
            let code = self.hex(digits);
            self.eat("}");
            return code;
        }
        let first = self.hex(4);
        let low = |rest: &str| u32::from_str_radix(rest.strip_prefix(r"\u")?.get(..4)?, 16).ok();
        match (first, low(self.rest)) {
            (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) => {
                self.rest = self.rest.get(6..).unwrap_or_default();
                0x10000 + ((first & 0x3ff) << 10 | second & 0x3ff)
            }
            _ => first,
        }
    }

    /// So many hexadecimal digits.
    fn hex(&mut self, digits: usize) -> u32 {
        let (digits, rest) = self.rest.split_at_checked(digits).unwrap_or((self.rest, ""));
        self.rest = rest;
        u32::from_str_radix(digits.trim_start_matches('0'), 16).unwrap_or(0)
    }

    /// One character, whatever it is; half of a surrogate pair is none to the crate, which refuses it.
    fn code(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(plain) if plain.is_ascii_alphanumeric() => self.out.push(plain),
            _ => {
                // Into a `String`: cannot fail.
                let _ = write!(self.out, r"\x{{{code:x}}}");
            }
        }
    }
}
