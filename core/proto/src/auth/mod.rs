//! Who the peer is: where a credential is taken from, and whether it is good. Decided before the 101.
//!
//! Keys that are fetched are [`Jwks`]; the driver fetches them.
//!
//! [`TokenSources`] finds the token in the opening handshake, an [`Authenticator`] judges it: against static tokens
//! ([`StaticTokens`]), as a JSON Web Token ([`JwtVerifier`]), or by leaving it to the application
//! ([`Outcome::AskApplication`]). Nothing here waits, reads a clock or touches the network: the ticket that asks the
//! application, its timeout and its bound belong to the driver. No credential is ever part of an error, a `Debug` text
//! or a log line.

mod algorithm;
mod claims;
mod credential;
mod jwk;
mod jwks;
mod jwks_schedule;
mod jwks_set;
mod jwks_url;
mod jwt;
mod jwt_error;
mod jwt_keys;
mod query;
#[cfg(test)]
mod test_keys;
mod tokens;
mod verifying_key;

use std::sync::Arc;

pub use claims::Claims;
pub use credential::{Credential, CredentialError, RequestView, TokenSource, TokenSources, cookies};
pub(crate) use credential::{OfferRole, cookie_pairs, offers};
pub use jwks::{Fetched, Jwks, NextRound, Settled, max_age};
pub use jwks_schedule::JwksStep;
pub use jwks_set::{LeftOut, MAX_JWKS_BYTES};
pub use jwks_url::JwksUrl;
pub use jwt::{JwtIdentity, JwtVerifier};
pub use jwt_error::JwtError;
pub use tokens::StaticTokens;

pub use crate::options::{JwtOptions, OneOrMany, TokenEntry};
use crate::roles::Roles;

/// The longest credential that any configuration lets through, in bytes: `max_head_bytes` is at most this.
pub const MAX_TOKEN_BYTES: usize = 262_144;

/// The longest user name, in bytes.
pub const MAX_USER_BYTES: usize = 256;

/// How a peer proves who it is: the option `auth`, ready for use.
#[derive(Debug)]
pub enum Authenticator {
    /// `"none"`: everybody is let in, without a user.
    None,
    /// `{"tokens": …}`: a fixed list.
    Tokens(StaticTokens),
    /// `{"jwt": …}`: signed claims.
    Jwt(JwtVerifier),
    /// `"callback"`: the application decides.
    Callback,
}

/// Whom a connection belongs to, what it may do, and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user; `None` when nobody asked.
    pub user: Option<String>,
    /// Its roles.
    pub roles: Roles,
    /// When the session ends, in milliseconds since the Unix epoch; `None`: it does not.
    pub expires_at_unix_ms: Option<u64>,
    /// What it was let in by, where that is checked here.
    pub credential: Option<CredentialId>,
    /// The claims of its JSON Web Token, where it has one and they are at most 8 KiB.
    pub claims: Option<Claims>,
}

/// What let a peer in, without the credential itself: by which is found again whether it still would.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CredentialId {
    /// A static token, by its digest.
    Token([u8; 32]),
    /// The key that has signed a JSON Web Token, by the digest of the key.
    Key([u8; 32]),
}

impl core::fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CredentialId::Token(_) => "Token",
            CredentialId::Key(_) => "Key",
        })
    }
}

/// What [`Authenticator::check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer may upgrade.
    Accepted(Identity),
    /// The peer may not: `auth_failed`. The text is for the log, not for the peer.
    Refused(&'static str),
    /// The same, unless the next fetch of `jwks_url` brings the key that the token names: [`Jwks::ask`].
    KeyUnknown(&'static str),
    /// Nobody can tell now: `auth_unavailable`.
    Unavailable(&'static str),
    /// The application must be asked.
    AskApplication,
}

impl Authenticator {
    /// Whether it is by JSON Web Tokens, whose claims are kept.
    pub fn is_jwt(&self) -> bool {
        matches!(self, Authenticator::Jwt(_))
    }

    /// Where its keys are fetched from, if they are.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        match self {
            Authenticator::Jwt(verifier) => verifier.jwks(),
            _ => None,
        }
    }

    /// Judges the token that [`TokenSources::extract`] found at `now_unix_s`, seconds since the Unix epoch.
    ///
    /// An empty token counts as none. [`Authenticator::Callback`] asks the application even without a token: it may
    /// know the peer by its address or its client certificate.
    pub fn check(&self, token: Option<&str>, now_unix_s: u64) -> Outcome {
        let token = token.filter(|token| !token.is_empty());
        match (self, token) {
            (Authenticator::None, _) => Outcome::Accepted(Identity::default()),
            (Authenticator::Callback, _) => Outcome::AskApplication,
            (Authenticator::Tokens(_) | Authenticator::Jwt(_), None) => Outcome::Refused("no credential"),
            (Authenticator::Tokens(tokens), Some(token)) => match tokens.lookup(token) {
                Some(known) => Outcome::Accepted(Identity {
                    user: Some(known.user.clone()),
                    roles: known.roles.clone(),
                    expires_at_unix_ms: None,
                    credential: Some(CredentialId::Token(known.digest)),
                    claims: None,
                }),
                None => Outcome::Refused("unknown token"),
            },
            (Authenticator::Jwt(verifier), Some(token)) => match verifier.verify(token, now_unix_s) {
                Ok(identity) => Outcome::Accepted(Identity {
                    user: Some(identity.user),
                    roles: identity.roles,
                    expires_at_unix_ms: Some(identity.expires_at_unix_s.saturating_mul(1000)),
                    credential: Some(CredentialId::Key(identity.key)),
                    claims: identity.claims,
                }),
                Err(error @ JwtError::KidUnknown) if verifier.jwks().is_some() => Outcome::KeyUnknown(error.reason()),
                Err(error @ JwtError::KeysUnavailable) => Outcome::Unavailable(error.reason()),
                Err(error) => Outcome::Refused(error.reason()),
            },
        }
    }
}

impl Authenticator {
    /// What `user` may do by a credential that let it in before, perhaps by other options. `None`: it would not any more.
    ///
    /// A token that stands for somebody else now is gone; one with other roles gives those. Of a JSON Web Token only the key is
    /// asked for: its claims were judged when it came, and it ends by itself.
    pub fn still_lets_in(&self, credential: CredentialId, user: &str, roles: &Roles) -> Option<Roles> {
        match (self, credential) {
            (Authenticator::Tokens(tokens), CredentialId::Token(digest)) => {
                let known = tokens.find(&digest)?;
                (known.user == user).then(|| known.roles.clone())
            }
            (Authenticator::Jwt(verifier), CredentialId::Key(key)) => verifier.has_key(&key).then(|| roles.clone()),
            _ => None,
        }
    }
}

// THREATS S6.
/// Whether `user` can name a user: not empty, at most [`MAX_USER_BYTES`], no control characters (they would forge log
/// lines). The error says what is accepted.
pub fn check_user(user: &str) -> Result<(), &'static str> {
    let fits = !user.is_empty() && user.len() <= MAX_USER_BYTES && !user.chars().any(char::is_control);
    if fits { Ok(()) } else { Err("must be 1 to 256 bytes without control characters") }
}

/// Whether every byte is visible ASCII: what a token is made of (RFC 6750 section 2.1 allows even less).
fn is_visible_ascii(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::algorithm::Algorithm;
    use super::test_keys::{hmac, token};
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn tokens() -> Authenticator {
        let entry = TokenEntry { roles: vec!["ops".into()], ..TokenEntry::new("s3cret", "alice") };
        Authenticator::Tokens(StaticTokens::new(vec![entry]).unwrap())
    }

    fn jwt() -> Authenticator {
        let options = serde_json::json!({"algorithms": ["HS256"], "key": "0123456789abcdef0123456789abcdef"});
        Authenticator::Jwt(JwtVerifier::new(serde_json::from_value(options).unwrap(), &crate::files::NoFiles).unwrap())
    }

    #[test]
    fn none_accepts_everybody_without_a_user() {
        let nobody = Outcome::Accepted(Identity::default());
        assert_eq!(Authenticator::None.check(None, NOW), nobody);
        assert_eq!(Authenticator::None.check(Some("anything"), NOW), nobody);
    }

    #[test]
    fn callback_asks_with_and_without_a_token() {
        assert_eq!(Authenticator::Callback.check(None, NOW), Outcome::AskApplication);
        assert_eq!(Authenticator::Callback.check(Some("t"), NOW), Outcome::AskApplication);
    }

    #[test]
    fn an_empty_or_missing_token_is_refused() {
        for authenticator in [tokens(), jwt()] {
            for token in [None, Some("")] {
                assert_eq!(authenticator.check(token, NOW), Outcome::Refused("no credential"));
            }
        }
    }

    #[test]
    fn static_tokens_name_a_user_with_roles_and_do_not_expire() {
        let Outcome::Accepted(alice) = tokens().check(Some("s3cret"), NOW) else { panic!("refused") };
        assert_eq!((alice.user.as_deref(), alice.expires_at_unix_ms), (Some("alice"), None));
        assert_eq!(alice.roles.iter().collect::<Vec<_>>(), ["ops"]);
        assert_eq!(tokens().check(Some("s3cres"), NOW), Outcome::Refused("unknown token"));
    }

    #[test]
    fn a_jwt_session_ends_at_exp_plus_leeway() {
        let claims = serde_json::json!({"sub": "alice", "exp": NOW + 60});
        let token = token(&claims, &hmac("0123456789abcdef0123456789abcdef"), Algorithm::Hs256);
        let Outcome::Accepted(alice) = jwt().check(Some(&token), NOW) else { panic!("refused") };
        assert_eq!((alice.user.as_deref(), alice.expires_at_unix_ms), (Some("alice"), Some((NOW + 90) * 1000)));
        assert!(alice.roles.is_empty());
        let kept = alice.claims.clone().unwrap().into_text();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&kept).unwrap(), claims);
        assert!(!format!("{alice:?}").contains("exp\""));
        assert_eq!(jwt().check(Some(&token), NOW + 90), Outcome::Refused(JwtError::Expired.reason()));
    }

    #[test]
    fn claims_over_8_kib_are_left_out_and_let_in() {
        for (len, is_kept) in [(8000, true), (9000, false)] {
            let claims = serde_json::json!({"sub": "alice", "exp": NOW + 60, "x": "y".repeat(len)});
            let token = token(&claims, &hmac("0123456789abcdef0123456789abcdef"), Algorithm::Hs256);
            let Outcome::Accepted(alice) = jwt().check(Some(&token), NOW) else { panic!("refused") };
            assert_eq!(alice.claims.is_some(), is_kept, "{len}");
        }
    }

    #[test]
    fn a_credential_lets_in_as_long_as_it_is_there_for_the_same_user() {
        let identity = |authenticator: &Authenticator, token: &str| match authenticator.check(Some(token), NOW) {
            Outcome::Accepted(identity) => identity,
            other => panic!("{other:?}"),
        };
        let listed = |entries: &[(&str, &str, &str)]| {
            let entry = |(token, user, role): &(&str, &str, &str)| TokenEntry {
                roles: vec![(*role).to_owned()],
                ..TokenEntry::new(*token, *user)
            };
            Authenticator::Tokens(StaticTokens::new(entries.iter().map(entry).collect()).unwrap())
        };
        let alice = identity(&tokens(), "s3cret");
        let credential = alice.credential.unwrap();
        let roles = |authenticator: &Authenticator, user: &str| {
            let roles = authenticator.still_lets_in(credential, user, &alice.roles)?;
            Some(roles.iter().collect::<Vec<_>>().concat())
        };
        assert_eq!(roles(&tokens(), "alice").as_deref(), Some("ops"));
        assert_eq!(roles(&listed(&[("x", "bob", "a"), ("s3cret", "alice", "user")]), "alice").as_deref(), Some("user"));
        assert_eq!(roles(&listed(&[("x", "alice", "ops")]), "alice"), None, "the token is gone");
        assert_eq!(roles(&listed(&[("s3cret", "bob", "ops")]), "alice"), None, "it is somebody else's");
        for other in [Authenticator::None, Authenticator::Callback, jwt()] {
            assert_eq!(roles(&other, "alice"), None);
        }
        let token = token(
            &serde_json::json!({"sub": "alice", "exp": NOW + 60}),
            &hmac("0123456789abcdef0123456789abcdef"),
            Algorithm::Hs256,
        );
        let credential = identity(&jwt(), &token).credential.unwrap();
        assert!(jwt().still_lets_in(credential, "alice", &Roles::default()).is_some());
        let other = serde_json::json!({"algorithms": ["HS256"], "key": "another key of at least 32 bytes"});
        let other = JwtVerifier::new(serde_json::from_value(other).unwrap(), &crate::files::NoFiles).unwrap();
        assert!(Authenticator::Jwt(other).still_lets_in(credential, "alice", &Roles::default()).is_none());
        assert!(tokens().still_lets_in(credential, "alice", &Roles::default()).is_none());
        assert_eq!(format!("{credential:?}"), "Key");
    }

    #[test]
    fn users_are_short_and_printable() {
        let longest = "x".repeat(256);
        for good in ["a", "alice@example.com", "Zoë 东", longest.as_str()] {
            assert_eq!(check_user(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(257);
        for bad in ["", "a\n", "\u{1b}[31m", "a\0", "\u{7f}", "\u{85}", too_long.as_str()] {
            assert!(check_user(bad).is_err(), "{bad:?}");
        }
    }
}
