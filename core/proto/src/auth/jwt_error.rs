//! Why a JSON Web Token was refused: one table, precise enough for a log line.

use core::fmt;

macro_rules! jwt_errors {
    ($($(#[doc = $doc:literal])+ $variant:ident = $reason:literal;)+) => {
        /// Why a token was refused: for the log. Every one is `auth_failed`, 401, but [`JwtError::KeysUnavailable`]; none holds
        /// a part of the token.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum JwtError {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl JwtError {
            /// One line for the log.
            pub fn reason(self) -> &'static str {
                match self {
                    $(JwtError::$variant => $reason,)+
                }
            }
        }
    };
}

jwt_errors! {
    /// Over 262144 bytes.
    TooLong = "jwt: over 262144 bytes";
    /// Not three parts of base64url, or the first or second is not a JSON object.
    Malformed = "jwt: malformed";
    /// A member of the header or of the claims is given twice (RFC 7519 section 4): which one counts is nobody's guess.
    GivenTwice = "jwt: a member is given twice";
    /// `typ` names another kind of token (RFC 8725 section 3.11), such as `logout+jwt`.
    WrongType = "jwt: typ is neither JWT nor at+jwt";
    /// `crit` in the header (RFC 7515 section 4.1.11): it asks for extensions we do not have.
    CriticalHeader = "jwt: crit header";
    /// `alg` is `none`, in any spelling.
    Unsigned = "jwt: alg none";
    /// `alg` is unknown, not listed, or does not fit the key.
    AlgorithmNotAllowed = "jwt: algorithm not allowed for this key";
    /// No `kid`, or not a string, where the option `keys` needs one.
    KidMissing = "jwt: kid missing";
    /// No key has this `kid`.
    KidUnknown = "jwt: kid unknown";
    /// `jwks_url` could not be fetched for so long that the last keys are too old: `auth_unavailable`, 503.
    KeysUnavailable = "jwt: the keys of jwks_url are too old, and cannot be fetched";
    /// The signature is wrong: another key, or a changed token.
    BadSignature = "jwt: bad signature";
    /// No `exp`.
    ExpMissing = "jwt: exp missing";
    /// `exp` is not a number.
    ExpNotNumber = "jwt: exp is not a number";
    /// `exp` is beyond the year 9999: milliseconds, or a mistake.
    ExpTooFar = "jwt: exp is beyond the year 9999";
    /// `exp` has passed.
    Expired = "jwt: expired";
    /// `nbf` is not a number.
    NbfNotNumber = "jwt: nbf is not a number";
    /// `nbf` has not come.
    NotYetValid = "jwt: not valid yet";
    /// `iss` is missing or not accepted.
    WrongIssuer = "jwt: wrong issuer";
    /// `aud` is missing or names none of ours.
    WrongAudience = "jwt: wrong audience";
    /// The user claim is missing.
    UserMissing = "jwt: user claim missing";
    /// The user claim is not a string of 1 to 256 bytes without control characters.
    UserInvalid = "jwt: user claim not usable";
    /// The roles claim is neither a list of strings nor a string, or holds what no role can be called, or over 64.
    RolesInvalid = "jwt: roles claim not usable";
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for JwtError {}
