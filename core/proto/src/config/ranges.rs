//! The plain numbers among the options: from where to where each is accepted, for the check and for its words.

use core::fmt;

use super::Options;
use crate::config_error::ConfigError;

/// The longest duration accepted: ten years.
const MAX_MS: u64 = 315_360_000_000;

/// Where bytes wait, places in them are 32 bits long: a bound of 2 GiB, and one more message of the largest size, fit.
const MAX_WAITING_BYTES: u64 = 1 << 31;

/// An option that is a whole number, and what is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) option: &'static str,
    least: u64,
    most: u64,
}

const fn range(option: &'static str, least: u64, most: u64) -> Range {
    Range { option, least, most }
}

const RANGES: [Range; 16] = [
    range("threads", 0, 255),
    range("auth_timeout_ms", 1, MAX_MS),
    range("max_pending_auth", 1, 1 << 24),
    range("max_connections", 1, 1 << 24),
    range("max_connections_per_ip", 1, 1 << 24),
    range("max_connections_per_user", 1, 1 << 24),
    range("max_message_bytes", 1, 1 << 30),
    range("max_fragments", 1, 1 << 24),
    range("message_timeout_ms", 1, MAX_MS),
    range("max_head_bytes", 1024, 262_144),
    range("handshake_timeout_ms", 1, MAX_MS),
    range("ping_interval_ms", 0, MAX_MS),
    range("idle_timeout_ms", 0, MAX_MS),
    range("close_timeout_ms", 1, MAX_MS),
    range("max_outbox_bytes", 1, MAX_WAITING_BYTES),
    range("max_inbox_bytes", 1, MAX_WAITING_BYTES),
];

/// What an option of this name accepts, where it is a plain number.
pub(super) fn of(option: &str) -> Option<Range> {
    RANGES.into_iter().find(|range| range.option == option)
}

impl fmt::Display for Range {
    /// `a whole number of bytes from 1 to 1073741824`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.option {
            name if name.ends_with("_bytes") => " of bytes",
            name if name.ends_with("_ms") => " of milliseconds",
            _ => "",
        };
        write!(f, "a whole number{unit} from {} to {}", self.least, self.most)
    }
}

/// Every plain number of `options` is in its range, and no list is longer than it may be.
pub(super) fn check(options: &Options) -> Result<(), ConfigError> {
    let values = [
        options.threads as u64,
        options.auth_timeout_ms,
        options.max_pending_auth as u64,
        options.max_connections as u64,
        options.max_connections_per_ip as u64,
        options.max_connections_per_user as u64,
        options.max_message_bytes as u64,
        u64::from(options.max_fragments),
        options.message_timeout_ms,
        options.max_head_bytes as u64,
        options.handshake_timeout_ms,
        options.ping_interval_ms,
        options.idle_timeout_ms,
        options.close_timeout_ms,
        options.max_outbox_bytes as u64,
        options.max_inbox_bytes as u64,
    ];
    for (range, value) in RANGES.into_iter().zip(values) {
        if !(range.least..=range.most).contains(&value) {
            return Err(ConfigError::invalid(range.option, format!("must be {range}, got {value}")));
        }
    }
    let lists = [
        ("subprotocols", options.subprotocols.len(), 64),
        ("trusted_proxies", options.trusted_proxies.len(), 1024),
        ("events", options.events.len(), 65_535),
    ];
    for (option, len, most) in lists {
        if len > most {
            return Err(ConfigError::invalid(option, format!("must have at most {most} entries, got {len}")));
        }
    }
    Ok(())
}
