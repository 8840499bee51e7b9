//! The signature algorithms of JSON Web Tokens (RFC 7518 section 3, RFC 8037) that are accepted, and the keys that
//! each of them works with.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    VerificationAlgorithm,
};

/// What a key is, and so what it can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFamily {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl fmt::Display for KeyFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFamily::Hmac => "an HMAC secret",
            KeyFamily::Rsa => "an RSA public key",
            KeyFamily::P256 => "an EC P-256 public key",
            KeyFamily::P384 => "an EC P-384 public key",
            KeyFamily::Ed25519 => "an Ed25519 public key",
        })
    }
}

/// How a signature is checked.
pub(super) enum Scheme {
    /// With a secret that signs, too.
    Hmac(hmac::Algorithm),
    /// With a public key.
    Public(&'static dyn VerificationAlgorithm),
}

macro_rules! algorithms {
    ($($variant:ident = $name:literal, $family:ident, $scheme:expr;)+) => {
        /// An algorithm, by the name that `alg` has for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Algorithm {
            $($variant,)+
        }

        impl Algorithm {
            #[cfg(test)]
            pub(super) const ALL: &'static [Algorithm] = &[$(Algorithm::$variant,)+];

            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Algorithm::$variant => $name,)+
                }
            }

            /// The keys that it works with, and no others.
            pub(super) fn family(self) -> KeyFamily {
                match self {
                    $(Algorithm::$variant => KeyFamily::$family,)+
                }
            }

            pub(super) fn scheme(self) -> Scheme {
                match self {
                    $(Algorithm::$variant => $scheme,)+
                }
            }
        }

        /// Names are case-sensitive (RFC 7515 section 4.1.1).
        impl FromStr for Algorithm {
            type Err = UnknownAlgorithm;

            fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
                match name {
                    $($name => Ok(Algorithm::$variant),)+
                    _ => Err(UnknownAlgorithm),
                }
            }
        }
    };
}

algorithms! {
    Hs256 = "HS256", Hmac, Scheme::Hmac(hmac::HMAC_SHA256);
    Hs384 = "HS384", Hmac, Scheme::Hmac(hmac::HMAC_SHA384);
    Hs512 = "HS512", Hmac, Scheme::Hmac(hmac::HMAC_SHA512);
    Rs256 = "RS256", Rsa, Scheme::Public(&RSA_PKCS1_2048_8192_SHA256);
    Rs384 = "RS384", Rsa, Scheme::Public(&RSA_PKCS1_2048_8192_SHA384);
    Rs512 = "RS512", Rsa, Scheme::Public(&RSA_PKCS1_2048_8192_SHA512);
    Ps256 = "PS256", Rsa, Scheme::Public(&RSA_PSS_2048_8192_SHA256);
    Ps384 = "PS384", Rsa, Scheme::Public(&RSA_PSS_2048_8192_SHA384);
    Ps512 = "PS512", Rsa, Scheme::Public(&RSA_PSS_2048_8192_SHA512);
    Es256 = "ES256", P256, Scheme::Public(&ECDSA_P256_SHA256_FIXED);
    Es384 = "ES384", P384, Scheme::Public(&ECDSA_P384_SHA384_FIXED);
    EdDsa = "EdDSA", Ed25519, Scheme::Public(&ED25519);
}

/// A name that is none of [`Algorithm`].
#[derive(Debug)]
pub(super) struct UnknownAlgorithm;

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Algorithm {
    /// The bytes that a secret has to have: those of the hash (RFC 7518 section 3.2); 0 for public keys.
    pub(super) fn shortest_secret(self) -> usize {
        match self.scheme() {
            Scheme::Hmac(hash) => hash.tag_len(),
            Scheme::Public(_) => 0,
        }
    }
}
