//! The compiled option `cluster`.

use core::fmt;
use std::sync::Arc;

use crate::cluster::url::ClusterUrl;
use crate::config_error::ConfigError;
use crate::options::{ClusterOptions, OnOutage};

/// The bytes that a name may have.
const MAX_NAME_BYTES: usize = 64;

/// What this node and others are one server by.
#[derive(Clone, Debug)]
pub struct ClusterPolicy {
    /// Where Redis is.
    pub url: ClusterUrl,
    /// Nodes of the same name are one server.
    pub name: Arc<str>,
    /// What becomes of handshakes while Redis cannot be reached.
    pub on_outage: OnOutage,
    /// After this time nothing is left of a node that has died.
    pub lease_ms: u64,
    /// `max_connections_per_user`, and `rate_limit` by user, are the cluster's.
    pub user_limits: bool,
}

impl ClusterPolicy {
    /// Checks the options.
    ///
    /// # Errors
    /// Names `cluster.url` or `cluster.name`.
    pub fn new(options: &ClusterOptions) -> Result<Self, ConfigError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = &*options.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_plain) {
            let message = format!("must be 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` and `-`");
            return Err(ConfigError::invalid("cluster.name", message));
        }
        Ok(Self {
            url: ClusterUrl::parse(&options.url)?,
            name: name.into(),
            on_outage: options.on_outage,
            lease_ms: options.lease_ms,
            user_limits: options.user_limits,
        })
    }
}

impl fmt::Display for ClusterPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.url)?;
        let outage = match self.on_outage {
            OnOutage::Local => "",
            OnOutage::Closed => " on_outage=closed",
        };
        f.write_str(outage)?;
        f.write_str(if self.user_limits { "" } else { " user_limits=off" })
    }
}
