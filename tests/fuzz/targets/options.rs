//! No options make the server panic at start, and every error names an option.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wsguard_proto::config::{Options, Policy};
use wsguard_proto::config_error::{ConfigError, ConfigErrorKind};
use wsguard_proto::files::NoFiles;

const NAMES: [&str; 41] = [
    "auth",
    "auth_timeout_ms",
    "close_timeout_ms",
    "control_rate_limit",
    "dangerously_allow_any_origin",
    "drain_close_code",
    "reuse_port",
    "unix_mode",
    "dangerously_allow_plaintext",
    "events",
    "handshake_timeout_ms",
    "handshakes_per_ip",
    "hosts",
    "idle_timeout_ms",
    "json_limits",
    "listen",
    "max_connections",
    "max_connections_per_ip",
    "max_connections_per_user",
    "max_fragments",
    "max_head_bytes",
    "max_inbox_bytes",
    "max_message_bytes",
    "max_outbox_bytes",
    "max_pending_auth",
    "message_timeout_ms",
    "missing_origin",
    "on_violation",
    "origins",
    "paths",
    "ping_interval_ms",
    "protocol",
    "proxy_protocol",
    "rate_limit",
    "server_header",
    "subprotocols",
    "threads",
    "tls",
    "token_sources",
    "trusted_proxies",
    // The object as a whole.
    "options",
];

fn check_error(error: &ConfigError) {
    assert!(!error.message.is_empty());
    let first = error.option.split(['.', '[']).next().unwrap_or_default();
    if error.kind != ConfigErrorKind::UnknownOption {
        assert!(NAMES.contains(&first), "{error:?}");
    }
}

fuzz_target!(|text: &str| {
    let options = match Options::from_json(text) {
        Ok(options) => options,
        Err(error) => return check_error(&error),
    };
    let value: serde_json::Value = serde_json::from_str(text).expect("it was read as JSON");
    assert!(value.is_object(), "options in an array");
    Options::from_value(&value).expect("both readers agree");
    match Policy::new(options, &NoFiles) {
        Ok(policy) => {
            let line = policy.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        Err(error) => check_error(&error),
    }
});
