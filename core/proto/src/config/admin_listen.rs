//! Decides what the option `admin_listen` names, and who may reach it.

use std::net::IpAddr;

use super::listen::{ACCEPTED, Listen};
use crate::config_error::ConfigError;
use crate::host_header::Authority;

/// Where the admin listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListen {
    listen: Listen,
    /// `dangerously_public_admin`.
    may_be_public: bool,
}

impl AdminListen {
    /// Parses `host:port` or `unix:PATH`. Without `may_be_public` an address of other machines is refused.
    pub(crate) fn parse(text: &str, may_be_public: bool) -> Result<Self, ConfigError> {
        let accepted = r#"accepted: "127.0.0.1:9464", "unix:PATH""#;
        let listen = Listen::parse(text)
            .map_err(|error| ConfigError::invalid("admin_listen", error.message.replace(ACCEPTED, accepted)))?;
        if let Listen::Fd(_) = listen {
            let why = "an inherited socket is not taken over";
            return Err(ConfigError::invalid("admin_listen", format!("{why}; {accepted}")));
        }
        let admin = Self { listen, may_be_public };
        if admin.listen.is_local() == Some(false) && !may_be_public { Err(admin.is_public()) } else { Ok(admin) }
    }

    /// The address or path.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Whether it may listen on `ip`, which its name resolved to.
    ///
    /// # Errors
    /// Other machines could reach it.
    pub fn check(&self, ip: IpAddr) -> Result<(), ConfigError> {
        if self.may_be_public || ip.to_canonical().is_loopback() { Ok(()) } else { Err(self.is_public()) }
    }

    /// Whether it may be asked by this name or address, whatever the port. A page of a hostile name that resolves to loopback (DNS
    /// rebinding) has the browser ask, and the browser states that name. It reaches no Unix socket, and where other machines may ask,
    /// names are no guard.
    pub fn answers_to(&self, host: &Authority<'_>) -> bool {
        match &self.listen {
            Listen::Tcp { host: own, .. } => self.may_be_public || host.is_loopback() || host.is_of(own),
            Listen::Unix(_) | Listen::Fd(_) => true,
        }
    }

    fn is_public(&self) -> ConfigError {
        let listen = &self.listen;
        ConfigError::contradiction(
            "admin_listen",
            format!(
                "{listen} is not loopback, so that anybody could read how this server is doing: listen on 127.0.0.1 or on \
                 `unix:PATH`, or give `dangerously_public_admin`: true"
            ),
        )
    }
}

impl core::fmt::Display for AdminListen {
    /// For the policy's line in the log, which names every opt-out.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.listen, if self.may_be_public { " (dangerously_public_admin)" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_ask() {
        for text in
            ["127.0.0.1:9464", "127.9.9.9:0", "[::1]:9464", "[::ffff:127.0.0.1]:1", "localhost:0", "unix:/run/a"]
        {
            let admin = AdminListen::parse(text, false).unwrap();
            assert_eq!(admin.to_string(), text);
        }
        for text in ["0.0.0.0:9464", "[::]:0", "192.0.2.1:9464", "10.0.0.1:9464", "[fe80::1%2]:80"] {
            let error = AdminListen::parse(text, false).unwrap_err();
            assert!(error.option == "admin_listen" && error.message.contains("`dangerously_public_admin`"), "{error}");
            let admin = AdminListen::parse(text, true).unwrap();
            assert_eq!(admin.to_string(), format!("{text} (dangerously_public_admin)"));
        }
        let name = AdminListen::parse("localhost:0", false).unwrap();
        assert!(name.check([127, 0, 0, 1].into()).is_ok() && name.check([192, 0, 2, 1].into()).is_err());
        assert!(AdminListen::parse("a.example:0", true).unwrap().check([192, 0, 2, 1].into()).is_ok());
    }

    #[test]
    fn a_hostile_name_for_loopback_is_not_answered() {
        let answers = |listen: &str, may_be_public, host: &str| {
            let admin = AdminListen::parse(listen, may_be_public).unwrap();
            admin.answers_to(&Authority::parse(host.as_bytes()).unwrap())
        };
        for host in [
            "127.0.0.1:9464",
            "127.0.0.1",
            "127.1.2.3",
            "127.0.0.1.",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "a.localhost",
            "[::1]:9464",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(answers("127.0.0.1:9464", false, host), "{host}");
        }
        for host in [
            "evil.example:9464",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "1.0.0.127",
            "0.0.0.0",
            "192.0.2.1",
            "[::]",
            "[::ffff:192.0.2.1]",
            "127.1",
            "2130706433",
            "host.docker.internal",
        ] {
            assert!(!answers("127.0.0.1:9464", false, host), "{host}");
            assert!(answers("127.0.0.1:9464", true, host) && answers("unix:/run/a", false, host), "{host}");
            assert!(answers("0.0.0.0:9464", true, host), "{host}");
        }
        assert!(answers("metrics.internal:9464", false, "Metrics.Internal.:1"));
        assert!(!answers("metrics.internal:9464", false, "a.metrics.internal"));
    }

    #[test]
    fn what_is_no_address_is_said() {
        for text in ["", "9464", "*:9464", "fd:3", "http://127.0.0.1:9464", "127.0.0.1", "unix:", "127.0.0.1:65536"] {
            let error = AdminListen::parse(text, false).unwrap_err();
            assert_eq!(error.option, "admin_listen");
            assert!(error.message.contains("127.0.0.1:9464") && !error.message.contains("fd:N"), "{error}");
        }
    }
}
