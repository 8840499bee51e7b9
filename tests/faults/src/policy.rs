//! The policy under which faults happen: the defaults, except that limits which are not what a test is about do not
//! interfere.

use std::time::Duration;

use serde_json::json;
use wsguard_test_support::certs::Certs;
use wsguard_test_support::client::{ORIGIN, Opening};
use wsguard_test_support::honest::TOKEN;
use wsguard_test_support::setup::Setup;
use wsguard_test_support::wire::Target;

/// What every bound in time is allowed to be late on a machine that does much else.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);

/// The hostile user's token.
pub(crate) const EVIL_TOKEN: &str = "evil-token";

/// The hostile user.
pub(crate) const EVIL_USER: &str = "mallory";

/// Two shards; two users; no limit on handshakes, connections and messages that a test would meet by accident.
pub(crate) fn policy() -> Setup {
    Setup::new(json!({
        "threads": 2,
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": TOKEN, "user": "honest"}, {"token": EVIL_TOKEN, "user": EVIL_USER}]},
        "events": {"echo": {}, "join": {}, "leave": {}, "say": {}, "throw": {}, "block": {}, "close": {}},
        "rate_limit": {"per_second": 1_000_000, "burst": 1_000_000, "bytes_per_second": 1_000_000_000},
        "handshakes_per_ip": null,
        "max_connections_per_ip": 20_000,
        "max_connections_per_user": 20_000,
    }))
}

/// The hostile user's handshake.
pub(crate) fn evil() -> Opening {
    Opening::with_token(EVIL_TOKEN)
}

/// The same with TLS, by the certificate of that name.
pub(crate) fn tls_policy(certs: &Certs, name: &str) -> Setup {
    let (cert, key) = (certs.path(&format!("{name}.pem")), certs.path(&format!("{name}.key")));
    policy().option("tls", json!({"cert": cert, "key": key}))
}

/// `target` spoken to over TLS.
pub(crate) fn over_tls(target: &Target, certs: &Certs) -> Target {
    Target { tls: Some(certs.client.clone()), ..target.clone() }
}
