//! The order in which a well-formed request is judged: `Host`, path, upgrade, origin, then who it is.

use std::sync::Arc;

use super::{Refusal, Request, Shown};
use crate::auth::{Authenticator, Credential, CredentialError, Identity, Jwks, OfferRole, Outcome, offers};
use crate::config::{MissingOrigin, Policy, PolicySet, Resolved};
use crate::deflate::{self, AcceptedOffer};
use crate::syntax::is_token;
use crate::verdict::Code;

/// An identity that was established without the application.
#[derive(Debug)]
pub struct Granted {
    /// Who it is.
    pub identity: Identity,
}

/// Who the peer is.
#[derive(Debug)]
pub enum Decision {
    /// Known from its credential, or nobody asks.
    Granted(Granted),
    /// The token names a key that was not fetched yet.
    KeyUnknown {
        /// To [ask](Jwks::ask), and to judge the request once more behind its fetch.
        jwks: Arc<Jwks>,
        /// The answer where it brings no such key.
        refusal: Refusal,
    },
    /// Only the application can say.
    Ask {
        /// The token that `token_sources` found.
        token: Option<String>,
    },
}

/// What would have been refused of a handshake, where the rules for it only report (`report_handshakes`).
pub type Reported = Vec<Refusal>;

/// Notes what is only reported, and goes on; what is no matter of `Origin`, `Host` or a credential is refused all the same.
fn or_report(policy: &Policy, judged: Result<(), Refusal>, reported: &mut Reported) -> Result<(), Refusal> {
    match judged {
        Err(refusal)
            if policy.report_handshakes
                && matches!(refusal.code, Code::HostDenied | Code::OriginDenied | Code::AuthFailed) =>
        {
            reported.push(refusal);
            Ok(())
        }
        judged => judged,
    }
}

/// The policy that counts for the request's path. A path that is not served is told only to whom `Host` is allowed.
pub fn resolve(set: &PolicySet, request: &Request<'_>) -> Result<Resolved, Refusal> {
    match set.resolve(request.path) {
        Some(resolved) => Ok(resolved),
        None => {
            or_report(&set.top, check_host(&set.top, request), &mut Reported::default())?;
            Err(Refusal::new(Code::PathNotFound, "path is in neither paths nor routes"))
        }
    }
}

fn check_host(policy: &Policy, request: &Request<'_>) -> Result<(), Refusal> {
    if policy.hosts.allows(&request.host) {
        return Ok(());
    }
    let detail = format!("Host {} is not in hosts", Shown(request.host.text.as_bytes()));
    Err(Refusal::new(Code::HostDenied, detail))
}

/// Everything before authentication, by the policy of the request's path; returns the key that the 101 answers.
pub fn vet<'r>(policy: &Policy, request: &'r Request<'_>, reported: &mut Reported) -> Result<&'r str, Refusal> {
    or_report(policy, check_host(policy, request), reported)?;
    check_upgrade(request)?;
    let key = key(request)?;
    or_report(policy, check_origin(policy, request), reported)?;
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
        Some(b"8") if request.takes_8 => Ok(()),
        Some(_) => required("Sec-WebSocket-Version is not 13"),
        None => required("Sec-WebSocket-Version is missing"),
    }
}

/// The key: 22 digits of base64 and `==`, which decode to 16 bytes. The last digit carries two bits of
/// them; its other four do not matter: RFC 6455's own example of section 4.1 has some set.
fn key<'r>(request: &'r Request<'_>) -> Result<&'r str, Refusal> {
    let key = request.only("Sec-WebSocket-Key")?.ok_or_else(|| Refusal::malformed("Sec-WebSocket-Key is missing"))?;
    let fault = || Refusal::malformed("Sec-WebSocket-Key is not base64 of 16 bytes");
    if !is_key(key) {
        return Err(fault());
    }
    core::str::from_utf8(key).map_err(|_| fault())
}

pub(super) fn is_key(key: &[u8]) -> bool {
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.split_at_checked(22).is_some_and(|(digits, padding)| padding == b"==" && digits.iter().all(alphabet))
}

fn check_origin(policy: &Policy, request: &Request<'_>) -> Result<(), Refusal> {
    match request.only("Origin")? {
        Some(origin) if policy.origins.allows(origin) => Ok(()),
        Some(origin) => {
            Err(Refusal::new(Code::OriginDenied, format!("Origin {} is not in origins", ShownOrigin(origin))))
        }
        None if policy.missing_origin == MissingOrigin::Allow => Ok(()),
        None => Err(Refusal::new(Code::OriginDenied, "Origin is missing and missing_origin is deny")),
    }
}

/// An `Origin` for a log line. What no origin has, but a URL that some client sends in its place, may be a password or a
/// token: user information, path and query are left out.
struct ShownOrigin<'b>(&'b [u8]);

impl core::fmt::Display for ShownOrigin<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let start = self.0.windows(3).position(|part| part == b"://").map_or(0, |at| at + 3);
        let (scheme, rest) = self.0.split_at(start);
        let (authority, beyond) =
            rest.split_at(rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len()));
        let host = match authority.iter().rposition(|byte| *byte == b'@') {
            Some(at) => &authority[at + 1..],
            // A slash in a password.
            None if beyond.contains(&b'@') => &[],
            None => authority,
        };
        let hidden = |is_hidden| if is_hidden { "…" } else { "" };
        write!(f, "{}{}{}", Shown(scheme), hidden(host.len() < authority.len()), Shown(host))?;
        f.write_str(hidden(!beyond.is_empty()))
    }
}

/// Establishes who the peer is; `now_unix_s` is the wall clock, for tokens that expire.
///
/// Whoever is let in although something is `reported` is nobody, whatever its credential says: a page of a foreign origin has
/// the visitor's cookies.
pub fn authenticate(
    policy: &Policy,
    request: &Request<'_>,
    now_unix_s: u64,
    reported: &mut Reported,
) -> Result<Decision, Refusal> {
    let credential = match credential(policy, request) {
        Ok(credential) => credential,
        Err(refusal) if policy.report_handshakes => {
            reported.push(refusal);
            return Ok(Decision::without_credential(policy));
        }
        Err(refusal) => return Err(refusal),
    };
    let refused = |why| Refusal::new(Code::AuthFailed, refused_credential(policy, request, credential.as_ref(), why));
    match policy.authenticator.check(credential.as_ref().map(|credential| &*credential.token), now_unix_s) {
        Outcome::Accepted(_) if !reported.is_empty() => Ok(Decision::without_credential(policy)),
        Outcome::Accepted(identity) => Ok(Decision::Granted(Granted { identity })),
        Outcome::AskApplication => {
            Ok(Decision::Ask { token: credential.map(|credential| credential.token.into_owned()) })
        }
        Outcome::Refused(why) => {
            or_report(policy, Err(refused(why)), reported)?;
            Ok(Decision::without_credential(policy))
        }
        Outcome::KeyUnknown(why) => match policy.authenticator.jwks() {
            Some(jwks) => Ok(Decision::KeyUnknown { jwks: Arc::clone(jwks), refusal: refused(why) }),
            None => Err(refused(why)),
        },
        Outcome::Unavailable(why) => Err(Refusal::new(Code::AuthUnavailable, why)),
    }
}

impl Decision {
    /// The same, where no key comes that the token names.
    ///
    /// # Errors
    /// It is refused for that, and not only reported.
    pub fn without_key(self, policy: &Policy, reported: &mut Reported) -> Result<Self, Refusal> {
        let Decision::KeyUnknown { refusal, .. } = self else { return Ok(self) };
        or_report(policy, Err(refusal), reported)?;
        Ok(Decision::without_credential(policy))
    }

    /// Of a peer whose credential counts for nothing.
    fn without_credential(policy: &Policy) -> Self {
        match *policy.authenticator {
            Authenticator::Callback => Decision::Ask { token: None },
            _ => Decision::Granted(Granted { identity: Identity::default() }),
        }
    }
}

/// The credential that counts; where nobody asks for one, what is malformed or given twice is nobody's business.
fn credential<'r>(policy: &'r Policy, request: &'r Request<'_>) -> Result<Option<Credential<'r>>, Refusal> {
    if matches!(*policy.authenticator, Authenticator::None) {
        return Ok(None);
    }
    policy.token_sources.extract(request).map_err(|error| match error {
        CredentialError::Duplicate(_) => Refusal::malformed(error.to_string()),
        CredentialError::Malformed(_) => Refusal::new(Code::AuthFailed, error.to_string()),
    })
}

/// Why a credential was refused, for the log: which sources were looked at, and which of them were there.
fn refused_credential(
    policy: &Policy,
    request: &Request<'_>,
    credential: Option<&Credential<'_>>,
    why: &'static str,
) -> String {
    let sources = &policy.token_sources;
    match credential {
        None => format!("{why} in {}", sources.describe()),
        Some(credential) => {
            let (source, present) = (credential.source.to_string(), sources.describe_present(request));
            let others = if present == source { String::new() } else { format!(" (present: {present})") };
            format!("{why} from {source}{others}")
        }
    }
}

/// Whether whoever passes the handshake is named by a credential that is checked here, not by the application.
pub fn names_users(policy: &Policy) -> bool {
    matches!(*policy.authenticator, Authenticator::Tokens(_) | Authenticator::Jwt(_))
}

/// What the 101 says of subprotocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol<'p> {
    /// The client offers none.
    NotOffered,
    /// The one both speak.
    Chosen(&'p str),
    /// The client offers some, and this server speaks none of them: the 101 names none. Browsers then drop it.
    NoneKnown,
}

/// The subprotocol of the 101: the server's favourite of those the client offers, else `bearer` where that is offered
/// and `subprotocol` is a token source, whichever source gave the credential (a browser drops a 101 that names none of
/// its offers). The token that stands behind `bearer` is never answered.
pub fn choose_subprotocol<'p>(policy: &'p Policy, request: &Request<'_>) -> Subprotocol<'p> {
    let speaks_bearer = policy.token_sources.lists_subprotocol();
    let is_token = |role| speaks_bearer && role == OfferRole::Token;
    let offered = |name: &str| offers(request).any(|(offer, role)| offer == name.as_bytes() && !is_token(role));
    match policy.subprotocols.iter().find(|name| offered(name)) {
        Some(name) => Subprotocol::Chosen(name),
        None if speaks_bearer && offered("bearer") => Subprotocol::Chosen("bearer"),
        None if offers(request).next().is_some() => Subprotocol::NoneKnown,
        None => Subprotocol::NotOffered,
    }
}

/// The client's offer of compression that is accepted, where the policy has compression and the client an offer that can be
/// honoured.
pub fn choose_compression(policy: &Policy, request: &Request<'_>) -> Option<AcceptedOffer> {
    policy.compression?;
    deflate::negotiate(request.values("Sec-WebSocket-Extensions"))
}

/// The subprotocols that a client offers, a token among them left out: what the application may choose from.
#[derive(Clone, Default)]
pub struct Offers(Box<str>);

impl Offers {
    /// The offers of `request`. One text, so that many short offers take no more memory than the head that they came in.
    pub fn of(policy: &Policy, request: &Request<'_>) -> Self {
        let speaks_bearer = policy.token_sources.lists_subprotocol();
        let mut offered = String::new();
        let named = offers(request).filter(|(_, role)| !(speaks_bearer && *role == OfferRole::Token));
        for name in named.filter_map(|(offer, _)| str::from_utf8(offer).ok()).filter(|name| is_token(name)) {
            offered.push_str(name);
            offered.push(',');
        }
        Self(offered.into())
    }

    /// Whether this is one of them. Subprotocols are told apart by case (RFC 6455 section 11.5).
    pub fn has(&self, name: &str) -> bool {
        !name.is_empty() && self.0.split(',').any(|offered| offered == name)
    }
}

/// Without the names: a token that nobody expects there may be among them.
impl core::fmt::Debug for Offers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Offers")
    }
}
