//! Why Redis cannot be reached, in words that repeat nothing of what it says: an error of Redis may quote a password.

use core::fmt;
use std::io;

const NOT_PERMITTED: &str = "the user may not do in Redis what a node does: it needs the keys and channels `wsguard:*`, and \
                             scripts (docs/SCALING.md has the rules)";

/// The user may not send these commands, or not about keys and channels of a node.
pub(super) fn not_permitted(commands: &str) -> String {
    format!("{NOT_PERMITTED}; denied: {commands}")
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Whoever tries again is told the same until somebody changes the option, or Redis.
    Wrong(String),
    /// It may be otherwise the next time.
    Away(String),
}

impl Refusal {
    pub(super) fn away(why: impl Into<String>) -> Self {
        Refusal::Away(why.into())
    }

    /// What an error of Redis says of whoever asked.
    pub(super) fn answered(error: &str) -> Self {
        let code = error.split(' ').next().unwrap_or_default();
        let wrong = |why: &str| Refusal::Wrong(why.to_owned());
        match code {
            "WRONGPASS" => wrong("Redis knows no such user, or another password"),
            "NOAUTH" => wrong("Redis asks for a password, and the URL states none"),
            "NOPERM" => wrong(NOT_PERMITTED),
            "ERR" if error.contains("unknown command") => wrong("the server is older than Redis 6.2, or no Redis"),
            "ERR" if error.contains("DB index") => wrong("Redis has no database of this number"),
            "ERR" if error.contains("cluster mode") => {
                wrong("the server is part of a Redis Cluster: state redis+cluster://")
            }
            _ => Refusal::Away(explain(error)),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::Wrong(why) | Refusal::Away(why)) = self;
        f.write_str(why)
    }
}

/// An error of Redis in words of ours.
pub(super) fn explain(error: &str) -> String {
    let code = error.split(' ').next().unwrap_or_default();
    match code {
        _ if is_denied_in_script(error) => NOT_PERMITTED.to_owned(),
        "NOPERM" => NOT_PERMITTED.to_owned(),
        "NOAUTH" => "Redis asks for a password now".to_owned(),
        "LOADING" => "Redis loads its data".to_owned(),
        "READONLY" => "the server is a replica now".to_owned(),
        "MASTERDOWN" => "the server is a replica that lost its master".to_owned(),
        "CLUSTERDOWN" => "the Redis Cluster does not serve all slots".to_owned(),
        "BUSY" => "Redis is busy with a script".to_owned(),
        "MISCONF" => "Redis cannot write its data to disk, and refuses changes".to_owned(),
        "NOREPLICAS" => "Redis has too few replicas, and refuses changes".to_owned(),
        _ if is_full(error) => "Redis is out of memory (maxmemory)".to_owned(),
        "ERR" if error.contains("max number of clients") => "Redis has as many clients as it may".to_owned(),
        _ if !code.is_empty() && code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            format!("Redis answered an error ({code})")
        }
        _ => "Redis answered an error".to_owned(),
    }
}

/// Scripts of Redis 6.2 wrap it up.
fn is_full(error: &str) -> bool {
    error.starts_with("OOM ") || error.contains("OOM command not allowed")
}

/// A script may be run, and not do what it does: 6.2 and 7.0 have the first words, later ones the second.
fn is_denied_in_script(error: &str) -> bool {
    error.contains("The user executing the script can't") || error.contains("ACL failure in script")
}

/// Whether an error says that this server cannot be worked with now, whatever is asked of it.
pub(super) fn ends_session(error: &str) -> bool {
    let code = error.split(' ').next().unwrap_or_default();
    let codes =
        ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "MISCONF", "NOREPLICAS", "NOAUTH", "NOPERM"];
    codes.contains(&code) || is_full(error) || is_denied_in_script(error)
}

/// An error of the network. What TLS says may repeat names of a certificate.
pub(super) fn network(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.kind()) {
        (Some(rustls::Error::InvalidCertificate(_)), _) => {
            "the server's certificate is not accepted (authorities: the system's, or those of SSL_CERT_FILE)".to_owned()
        }
        (Some(_), _) => "the server does not speak TLS as it should".to_owned(),
        (None, io::ErrorKind::ConnectionRefused) => "the connection is refused".to_owned(),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the connection was closed by the server".to_owned()
        }
        (None, kind) => format!("the connection failed: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_redis_is_repeated() {
        for error in [
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `app`, `Hunter2`",
            "WRONGPASS Hunter2",
            "NOPERM User app has no permissions Hunter2",
            "ERR The user executing the script can't run this command or subcommand script: Hunter2",
            "ERR Hunter2",
            "Hunter2 x",
            "HUNTER2",
            "",
        ] {
            let told = Refusal::answered(error).to_string();
            assert!(!told.to_lowercase().contains("hunter2") && !told.contains("app "), "{told}");
        }
    }

    #[test]
    fn what_another_try_cannot_mend_is_told_apart() {
        for error in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH HELLO must be called with the client already authenticated",
            "NOPERM this user has no permissions to run the 'script|load' command",
            "ERR unknown command 'HELLO'",
            "ERR DB index is out of range",
        ] {
            assert!(matches!(Refusal::answered(error), Refusal::Wrong(_)), "{error}");
        }
        for error in ["LOADING Redis is loading the dataset in memory", "ERR max number of clients reached"] {
            assert!(matches!(Refusal::answered(error), Refusal::Away(_)), "{error}");
        }
    }
}
