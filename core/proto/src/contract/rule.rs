//! The rules of a message's form, by name.

use core::fmt;

/// A key of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    /// `event`, a string; required.
    Event,
    /// `data`, anything.
    Data,
    /// `status`, `"ok"` or `"error"`.
    Status,
    /// `id`, a string or an integer.
    Id,
}

impl Member {
    /// The key in the message.
    pub fn name(self) -> &'static str {
        match self {
            Member::Event => "event",
            Member::Data => "data",
            Member::Status => "status",
            Member::Id => "id",
        }
    }

    pub(super) fn of(key: &[u8]) -> Option<Member> {
        Some(match key {
            b"event" => Member::Event,
            b"data" => Member::Data,
            b"status" => Member::Status,
            b"id" => Member::Id,
            _ => return None,
        })
    }
}

/// The rule that a message breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The text breaks the grammar of RFC 8259, or ends too early.
    NotJson,
    /// The text begins with U+FEFF.
    ByteOrderMark,
    /// A string holds a control character that is not escaped.
    ControlCharacter,
    /// A backslash begins no escape of RFC 8259.
    BadEscape,
    /// A `\u` escape is half of a surrogate pair.
    LoneSurrogate,
    /// A number's text is longer than 128 characters.
    NumberTooLong,
    /// An integer is beyond ±2^53, or a number beyond what a 64-bit float holds.
    NumberTooLarge,
    /// More containers are open than `json_limits.max_depth`.
    TooDeep,
    /// An object has more keys than `json_limits.max_keys`.
    TooManyKeys,
    /// An object has the same key twice, whatever their spelling.
    DuplicateKey,
    /// A key is `__proto__`, `constructor` or `prototype`.
    ForbiddenKey,
    /// The text is not an object.
    NotAnObject,
    /// The envelope has a key of its own.
    UnknownKey,
    /// `event`, `id` or `status` is of another type than the contract says.
    WrongType(Member),
    /// `status` is a string other than `ok` and `error`.
    UnknownStatus,
    /// The envelope has no `event`.
    MissingEvent,
    /// Something follows the envelope.
    TrailingData,
}

impl Rule {
    /// The stable name, for logs and counters: `duplicate_key`.
    pub fn name(self) -> &'static str {
        match self {
            Rule::NotJson => "not_json",
            Rule::ByteOrderMark => "byte_order_mark",
            Rule::ControlCharacter => "control_character",
            Rule::BadEscape => "bad_escape",
            Rule::LoneSurrogate => "lone_surrogate",
            Rule::NumberTooLong => "number_too_long",
            Rule::NumberTooLarge => "number_too_large",
            Rule::TooDeep => "too_deep",
            Rule::TooManyKeys => "too_many_keys",
            Rule::DuplicateKey => "duplicate_key",
            Rule::ForbiddenKey => "forbidden_key",
            Rule::NotAnObject => "not_an_object",
            Rule::UnknownKey => "unknown_key",
            Rule::WrongType(_) => "wrong_type",
            Rule::UnknownStatus => "unknown_status",
            Rule::MissingEvent => "missing_event",
            Rule::TrailingData => "trailing_data",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::NotJson => "not json",
            Rule::ByteOrderMark => "begins with a byte order mark",
            Rule::ControlCharacter => "control character in a string",
            Rule::BadEscape => "invalid escape in a string",
            Rule::LoneSurrogate => "lone surrogate in a string",
            Rule::NumberTooLong => "number over 128 characters",
            Rule::NumberTooLarge => "number too large",
            Rule::TooDeep => "nested too deep",
            Rule::TooManyKeys => "too many keys in an object",
            Rule::DuplicateKey => "duplicate key",
            Rule::ForbiddenKey => "forbidden key",
            Rule::NotAnObject => "not an object",
            Rule::UnknownKey => "unknown key in the envelope",
            Rule::WrongType(member) => return write!(f, "wrong type of `{}`", member.name()),
            Rule::UnknownStatus => "`status` is neither `ok` nor `error`",
            Rule::MissingEvent => "`event` is missing",
            Rule::TrailingData => "data after the envelope",
        })
    }
}
