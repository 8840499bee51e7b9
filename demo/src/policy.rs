//! What the server enforces: the whole security of the demo is this one value. The page shows it as it is.

use serde_json::{Value, json};

/// The options of the server at `listen` for a page of `origin`.
pub(crate) fn options(origin: &str, listen: &str) -> Value {
    json!({
        "listen": listen,
        "hosts": ["127.0.0.1"],
        "origins": [origin],
        "auth": "callback",
        "token_sources": ["subprotocol"],
        "events": {
            "join": { "schema": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": false,
                "properties": { "name": {
                    "type": "string",
                    "maxLength": 24,
                    // No control or format characters, no blank ends.
                    "pattern": r"^[^\p{C}\s]([^\p{C}]*[^\p{C}\s])?$"
                } }
            } },
            "say": { "schema": {
                "type": "object",
                "required": ["text"],
                "additionalProperties": false,
                "properties": { "text": { "type": "string", "maxLength": 500, "pattern": r"\S" } }
            } }
        },
        // Nobody types twenty messages in a second for long; what a flood leaves behind has leaked away within two.
        "rate_limit": { "per_second": 20, "burst": 20, "queue": 20, "bytes_per_second": 16384, "key": "user" },
        "max_message_bytes": 4096,
        "max_connections": 256,
        "max_connections_per_user": 4
    })
}

#[cfg(test)]
mod tests {
    use wsguard::Options;

    #[test]
    fn the_policy_is_accepted() {
        let options = super::options("http://127.0.0.1:8000", "127.0.0.1:0");
        assert!(wsguard::binding::compile(Options::from_value(&options).unwrap()).is_ok());
    }
}
