//! The policies under which every host soaks: tokens over TCP, the application's callback over TLS, and tokens on a node of a
//! cluster. Limits are low enough that attackers reach all of them, and honest clients stay well below.

use serde_json::{Value, json};
use wsguard_test_support::certs::Certs;
use wsguard_test_support::client::ORIGIN;
use wsguard_test_support::setup::Setup;

/// The limit of connections from one address.
pub(crate) const PER_ADDRESS: usize = 100;

/// How a server authenticates and is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A token for every user, rates by user, plain TCP.
    Tokens,
    /// The application's callback, which knows one user, so that rates go by address; TLS.
    Callback,
    /// As `Tokens`, on two nodes over a Redis: users that attack are on both.
    Cluster,
}

impl Policy {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Tokens, Self::Callback, Self::Cluster];
    /// Honest users, and as many of the attackers.
    pub(crate) const USERS: usize = 4;
    /// The token that the callback accepts.
    const GOOD: &'static str = "good";

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens over TCP",
            Self::Callback => "callback over TLS",
            Self::Cluster => "tokens in a cluster",
        }
    }

    /// The name of the certificate's files, which are exchanged while the server runs.
    pub(crate) const CERTIFICATE: &'static str = "live";

    /// An honest user's token.
    pub(crate) fn honest_token(self, user: usize) -> String {
        self.token("honest", user)
    }

    /// A token of the attackers.
    pub(crate) fn evil_token(self, user: usize) -> String {
        self.token("mallory", user)
    }

    fn token(self, who: &str, user: usize) -> String {
        match self {
            Self::Tokens | Self::Cluster => format!("token-of-{who}-{user}"),
            Self::Callback => Self::GOOD.to_owned(),
        }
    }

    /// How its host is started.
    pub(crate) fn setup(self, certs: &Certs) -> Setup {
        let setup = common();
        match self {
            Self::Tokens | Self::Cluster => setup.option("auth", json!({"tokens": self.tokens()})),
            Self::Callback => {
                let path = |end| certs.path(&format!("{}.{end}", Self::CERTIFICATE));
                let script = json!({"token": Self::GOOD, "user": "alice", "delay_ms": 20});
                let setup = setup.option("auth", "callback").app(json!({"authenticate": script}));
                let setup = setup.option("auth_timeout_ms", 4000).option("rate_limit", rate("ip"));
                setup.option("tls", json!({"cert": path("pem"), "key": path("key")}))
            }
        }
    }

    fn tokens(self) -> Vec<Value> {
        let entry = |who: &str, user: usize| json!({"token": self.token(who, user), "user": format!("{who}-{user}")});
        (0..Self::USERS).flat_map(|user| [entry("honest", user), entry("mallory", user)]).collect()
    }
}

/// An honest user sends about 25 messages and 15 KiB a second.
fn rate(key: &str) -> Value {
    json!({"per_second": 80, "burst": 160, "queue": 40, "bytes_per_second": 2_000_000, "key": key})
}

fn common() -> Setup {
    let room = json!({"schema": {"type": "object", "required": ["room"], "properties": {"room": {"type": "string"}}}});
    Setup::new(json!({
        "threads": 2,
        "origins": [ORIGIN],
        "events": {"echo": {}, "join": room, "leave": room, "say": room, "throw": {}, "block": {}, "close": {}},
        "compression": {"threshold_bytes": 100},
        "rate_limit": rate("user"),
        "control_rate_limit": {"per_second": 10, "burst": 20},
        "handshakes_per_ip": {"per_second": 40, "burst": 120},
        "max_connections_per_ip": PER_ADDRESS,
        "max_connections_per_user": 2000,
        "max_fragments": 64,
        "max_outbox_bytes": 131_072,
        "message_timeout_ms": 3000,
        "handshake_timeout_ms": 5000,
        "ping_interval_ms": 5000,
        "idle_timeout_ms": 15_000,
    }))
}
