//! The policy that wsguard enforces while it is measured.

use serde_json::{Value, json};

use crate::plan::{Load, ORIGIN, Offence, TOKEN, Workload};

/// The most bytes that a message may have.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The options line of a host.
pub fn host_options(workload: &Workload, tls: Option<&Value>, cluster: bool) -> Value {
    let mut options = policy(workload);
    options["listen"] = "127.0.0.1:0".into();
    if let Some(tls) = tls {
        options["tls"] = tls.clone();
    }
    if cluster {
        // Where Redis is is known once it runs.
        options["cluster"] = json!({"url": null});
    }
    json!({"options": options, "app": {}})
}

/// Every protection on, every limit too high to be met by an honest generator; where it listens is left open.
pub fn policy(workload: &Workload) -> Value {
    let mut options = json!({
        "threads": 1,
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": TOKEN, "user": "bench"}]},
        "protocol": if workload.is_json() { "json" } else { "raw" },
        "max_message_bytes": MAX_MESSAGE_BYTES,
        "rate_limit": {
            "per_second": 1_000_000_000, "burst": 1_000_000_000, "queue": 20,
            "bytes_per_second": 1_000_000_000_000_u64, "key": "user",
        },
        "control_rate_limit": {"per_second": 10, "burst": 20},
        "handshakes_per_ip": {"per_second": 1_000_000, "burst": 1_000_000},
        "max_connections_per_ip": 50_000,
        "max_connections_per_user": 50_000,
    });
    if workload.is_json() {
        options["events"] = events(workload);
    }
    if workload.compressed {
        options["compression"] = json!({"threshold_bytes": 1024, "level": 3});
    }
    if matches!(workload.load, Load::Offences { offence: Offence::None, .. }) {
        // Receiving is what is compared with a bomb: the echo goes plain, and all of it may wait.
        options["compression"]["threshold_bytes"] = json!(16 << 20);
        options["max_outbox_bytes"] = json!(8 << 20);
    }
    options
}

fn events(workload: &Workload) -> Value {
    let object = |properties: Value| {
        let required: Vec<_> = properties.as_object().into_iter().flat_map(|names| names.keys()).collect();
        json!({"schema": {
            "type": "object", "required": required, "properties": properties, "additionalProperties": false,
        }})
    };
    let text = json!({"type": "string", "maxLength": 10_000});
    let room = json!({"type": "string", "maxLength": 100});
    if matches!(workload.load, Load::FanOut { .. } | Load::Crossing { .. }) {
        return json!({"join": object(json!({"room": room})), "say": object(json!({"room": room, "text": text}))});
    }
    json!({"echo": object(json!({"text": text, "seq": {"type": "integer", "minimum": 0}}))})
}
