//! Roles: what a connection may do, as its credential or the application said when it was let in.

use core::fmt;
use std::sync::Arc;

/// The longest name of a role, in bytes.
pub const MAX_ROLE_BYTES: usize = 64;

/// How many roles a connection may have.
pub const MAX_ROLES: usize = 64;

/// The roles of a connection, each once; without any nothing is allocated. One word, because every idle connection has it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Roles(Option<Arc<Box<[Box<str>]>>>);

impl Roles {
    /// Checks `names`, and keeps each once.
    ///
    /// # Errors
    /// More than 64, or one that is not 1 to 64 bytes without control characters or spaces. The error says what is accepted.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, &'static str> {
        let mut kept: Vec<Box<str>> = Vec::new();
        for name in names {
            check_role(name)?;
            if kept.iter().all(|known| **known != *name) {
                if kept.len() == MAX_ROLES {
                    return Err("must be at most 64 roles");
                }
                kept.push(name.into());
            }
        }
        Ok(Self((!kept.is_empty()).then(|| Arc::new(kept.into()))))
    }

    /// The roles, in the order in which they were given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.as_ref().map_or(&[][..], |roles| &***roles).iter().map(|role| &**role)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether one of these is one of `others`.
    pub fn has_any_of(&self, others: &Roles) -> bool {
        others.iter().any(|other| self.iter().any(|role| role == other))
    }

    /// The memory that the names take.
    pub fn bytes(&self) -> usize {
        self.iter().map(|role| size_of::<Box<str>>() + role.len()).sum()
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Whether `name` can name a role: a claim may list them with spaces between, and they stand in log records.
fn check_role(name: &str) -> Result<(), &'static str> {
    let is_bad = |letter: char| letter.is_control() || letter.is_whitespace();
    if (1..=MAX_ROLE_BYTES).contains(&name.len()) && !name.chars().any(is_bad) {
        return Ok(());
    }
    Err("must be 1 to 64 bytes without control characters or spaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_short_printable_and_few() {
        let longest = "x".repeat(64);
        for good in ["a", "chat:write", "Zoë", longest.as_str()] {
            assert!(Roles::new([good]).is_ok(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", " ", "a b", "a\n", "a\u{a0}b", "\u{85}", too_long.as_str()] {
            assert!(Roles::new(["good", bad]).is_err(), "{bad:?}");
        }
        let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
        assert!(Roles::new(many[..64].iter().map(String::as_str)).is_ok());
        assert!(Roles::new(many.iter().map(String::as_str)).is_err());
        let twice = many[..64].iter().chain(&many[..64]).map(String::as_str);
        assert_eq!(Roles::new(twice).unwrap().iter().len(), 64, "each once");
    }

    #[test]
    fn one_in_common_is_enough_and_none_is_not() {
        let roles = |names: &[&str]| Roles::new(names.iter().copied()).unwrap();
        assert!(roles(&["a", "b"]).has_any_of(&roles(&["c", "b"])));
        assert!(!roles(&["a", "b"]).has_any_of(&roles(&["c", "B", "ab"])));
        assert!(!roles(&[]).has_any_of(&roles(&["a"])) && !roles(&["a"]).has_any_of(&roles(&[])));
        assert!(roles(&[]).is_empty() && roles(&[]).bytes() == 0);
    }
}
