//! The order in which a well-formed request is judged: `Host`, path, upgrade, origin, then who it is.

use super::{Refusal, Request};
use crate::auth::{CredentialError, Identity, Outcome};
use crate::config::{MissingOrigin, Policy};
use crate::verdict::Code;

/// An identity that was established without the application.
#[derive(Debug)]
pub struct Granted {
    /// Who it is.
    pub identity: Identity,
    /// The token came as a subprotocol: the 101 answers `bearer`.
    pub answers_bearer: bool,
}

/// Who the peer is.
#[derive(Debug)]
pub enum Decision {
    /// Known from its credential, or nobody asks.
    Granted(Granted),
    /// Only the application can say.
    Ask {
        /// The token that `token_sources` found.
        token: Option<String>,
        /// A token came as a subprotocol: the 101 answers `bearer`.
        answers_bearer: bool,
    },
}

/// Everything before authentication; returns the key that the 101 answers.
pub fn vet<'r>(policy: &Policy, request: &'r Request<'_>) -> Result<&'r str, Refusal> {
    if !policy.hosts.allows(&request.host) {
        return Err(Refusal::new(Code::HostDenied, "Host is not in hosts"));
    }
    if let Some(paths) = &policy.paths
        && !paths.iter().any(|path| path == request.path)
    {
        return Err(Refusal::new(Code::PathNotFound, "path is not in paths"));
    }
    check_upgrade(request)?;
    let key = key(request)?;
    check_origin(policy, request)?;
    Ok(key)
}

/// RFC 6455 section 4.2.1, items 3, 4 and 6.
fn check_upgrade(request: &Request<'_>) -> Result<(), Refusal> {
    let required = |detail| Err(Refusal::new(Code::UpgradeRequired, detail));
    if !request.lists("Upgrade", "websocket") {
        return required("Upgrade: websocket is missing");
    }
    if !request.lists("Connection", "Upgrade") {
        return required("Connection: Upgrade is missing");
    }
    match request.only("Sec-WebSocket-Version")? {
        Some(b"13") => Ok(()),
        Some(_) => required("Sec-WebSocket-Version is not 13"),
        None => required("Sec-WebSocket-Version is missing"),
    }
}

/// The key: base64 of 16 bytes, in the one form that encodes them (THREATS H11).
fn key<'r>(request: &'r Request<'_>) -> Result<&'r str, Refusal> {
    let key = request.only("Sec-WebSocket-Key")?.ok_or_else(|| Refusal::malformed("Sec-WebSocket-Key is missing"))?;
    let fault = || Refusal::malformed("Sec-WebSocket-Key is not base64 of 16 bytes");
    let (digits, padding) = key.split_at_checked(22).ok_or_else(fault)?;
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // The last digit carries two bits only: four values of it are canonical.
    let canonical = matches!(digits[21], b'A' | b'Q' | b'g' | b'w');
    if padding != b"==" || !digits.iter().all(alphabet) || !canonical {
        return Err(fault());
    }
    core::str::from_utf8(key).map_err(|_| fault())
}

fn check_origin(policy: &Policy, request: &Request<'_>) -> Result<(), Refusal> {
    match request.only("Origin")? {
        Some(origin) if policy.origins.allows(origin) => Ok(()),
        Some(_) => Err(Refusal::new(Code::OriginDenied, "Origin is not in origins")),
        None if policy.missing_origin == MissingOrigin::Allow => Ok(()),
        None => Err(Refusal::new(Code::OriginDenied, "Origin is missing and missing_origin is deny")),
    }
}

/// Establishes who the peer is; `now_unix_s` is the wall clock, for tokens that expire.
pub fn authenticate(policy: &Policy, request: &Request<'_>, now_unix_s: u64) -> Result<Decision, Refusal> {
    let credential = policy.token_sources.extract(request).map_err(|error| match error {
        CredentialError::Duplicate(_) => Refusal::malformed(error.to_string()),
        CredentialError::Malformed(_) => Refusal::new(Code::AuthFailed, error.to_string()),
    })?;
    let answers_bearer = credential.as_ref().is_some_and(crate::auth::Credential::answers_bearer);
    match policy.authenticator.check(credential.as_ref().map(|credential| &*credential.token), now_unix_s) {
        Outcome::Accepted(identity) => Ok(Decision::Granted(Granted { identity, answers_bearer })),
        Outcome::AskApplication => {
            Ok(Decision::Ask { token: credential.map(|credential| credential.token.into_owned()), answers_bearer })
        }
        Outcome::Refused(why) => Err(Refusal::new(Code::AuthFailed, why)),
    }
}

/// The subprotocol of the 101: `bearer` where the token came that way, else the server's favourite of those offered.
pub fn choose_subprotocol<'p>(policy: &'p Policy, request: &Request<'_>, answers_bearer: bool) -> Option<&'p str> {
    if answers_bearer {
        return Some("bearer");
    }
    policy.subprotocols.iter().map(String::as_str).find(|name| {
        request
            .values("Sec-WebSocket-Protocol")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|offered| offered.trim_ascii() == name.as_bytes())
    })
}
