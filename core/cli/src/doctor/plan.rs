//! What a proxy has to know of a policy, and what the policy has to say for a proxy: decided here, written by the writers.

use std::net::IpAddr;

use wsguard::binding::Policy;

use crate::outcome::Failure;
use crate::policy::{Read, by_path};

/// Where the server listens, for the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(String),
}

/// How clients reach the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// `443`, or `127.0.0.1:8443`.
    pub(super) bind: String,
    /// Certificate and key; `None`: plain text, where another proxy before it does TLS, or TLS is passed through.
    pub(super) tls: Option<(String, String)>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The policy's file, for the first line.
    pub(super) policy: String,
    pub(super) upstream: Upstream,
    pub(super) front: Front,
    pub(super) names: Vec<String>,
    /// The paths that are served, as regular expressions without anchors; empty: every path.
    pub(super) paths: Vec<String>,
    /// How long the proxy has to let a connection be silent, in seconds.
    pub(super) silence_s: u64,
    /// The largest request line and headers.
    pub(super) head_bytes: usize,
    pub(super) proxy_protocol: bool,
    /// The server does TLS itself.
    pub(super) upstream_tls: bool,
    /// What the policy has to say, and does not.
    pub(super) wanted: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// Room for a ping that is late, and for its pong.
const PINGS_PER_SILENCE: u64 = 3;

impl Plan {
    /// # Errors
    /// The policy does not say where the server will listen.
    pub(super) fn new(policy: String, read: &Read, upstream: Option<&str>, front: Front) -> Result<Self, Failure> {
        let top = &*read.set.top;
        let upstream = upstream_of(upstream.unwrap_or(&read.options.listen))?;
        let mut plan = Self {
            policy,
            names: names(read),
            paths: paths(read),
            silence_s: 60,
            head_bytes: by_path(&read.set).iter().map(|policy| policy.max_head_bytes).max().unwrap_or(16_384),
            proxy_protocol: top.proxy_protocol,
            upstream_tls: top.tls.is_some(),
            wanted: Vec::new(),
            notes: Vec::new(),
            upstream,
            front,
        };
        plan.silence(&by_path(&read.set));
        plan.trust(top);
        if plan.upstream_tls && !plan.proxy_protocol {
            plan.notes.push(
                "the server does TLS itself: the proxy speaks TLS to it, and does not check its certificate".into(),
            );
        }
        Ok(plan)
    }

    /// How long a quiet connection is silent: between the server's pings, or for ever.
    fn silence(&mut self, policies: &[&Policy]) {
        let mut silent_ms = 0;
        for policy in policies {
            // Without pings a policy has no `idle_timeout_ms` either: the core sees to that.
            let of = match policy.ping_interval_ms {
                0 => {
                    self.wanted.push(format!(
                        "{}a ping_interval_ms that is not 0: without pings a proxy closes quiet connections",
                        in_route(&policy.path)
                    ));
                    0
                }
                ping => ping.saturating_mul(PINGS_PER_SILENCE),
            };
            silent_ms = silent_ms.max(of);
        }
        self.silence_s = silent_ms.div_ceil(1000).clamp(60, 86_400);
    }

    /// Whether the server believes the proxy.
    fn trust(&mut self, top: &Policy) {
        let (peer, entry) = match &self.upstream {
            Upstream::Unix(_) => (None, "unix".to_owned()),
            Upstream::Tcp(address) => match host(address).parse::<IpAddr>() {
                Ok(ip) if ip.is_loopback() => (Some(ip), ip.to_string()),
                _ => {
                    if top.trusted_proxies.is_empty() {
                        self.wanted.push(
                            "the proxy's own address in trusted_proxies: without it all clients count as the proxy"
                                .into(),
                        );
                    } else {
                        let trusted = top.trusted_proxies.describe();
                        self.notes.push(format!("the server believes {trusted} alone: the proxy has to be among them"));
                    }
                    return;
                }
            },
        };
        if !top.trusted_proxies.trusts(peer) {
            self.wanted.push(format!("\"trusted_proxies\": [\"{entry}\"]: without it all clients count as the proxy"));
        }
    }

    /// The lines that stand before a configuration, each behind `mark`.
    pub(super) fn head(&self, mark: &str, proxy: &str) -> String {
        let mut lines = vec![format!("{proxy} for {}, by wsguard doctor.", self.policy)];
        lines.extend(self.wanted.iter().map(|wanted| format!("THE POLICY MUST SAY: {wanted}.")));
        lines.extend(self.notes.iter().map(|note| format!("Note: {note}.")));
        lines.iter().fold(String::new(), |head, line| head + mark + " " + line + "\n")
    }

    /// One regular expression for all paths; `None`: every path.
    pub(super) fn path_pattern(&self) -> Option<String> {
        (!self.paths.is_empty()).then(|| format!("^({})$", self.paths.join("|")))
    }
}

fn in_route(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("on the route {path} ") }
}

fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Where a proxy on the same machine finds what listens there.
fn upstream_of(listen: &str) -> Result<Upstream, Failure> {
    if let Some(path) = listen.strip_prefix("unix:") {
        return Ok(Upstream::Unix(quoted(path)?));
    }
    let port = listen.rsplit_once(':').map(|(_, port)| port).unwrap_or_default();
    if listen.starts_with("fd:") || port == "0" || port.is_empty() {
        return Err(Failure::new(format!(
            "the policy does not say where the server will be (listen: {listen:?}): --upstream HOST:PORT"
        )));
    }
    let address = match host(listen) {
        "0.0.0.0" => format!("127.0.0.1:{port}"),
        "::" => format!("[::1]:{port}"),
        _ => quoted(listen)?,
    };
    Ok(Upstream::Tcp(address))
}

/// What goes into a configuration as it is: nothing that ends a word or a line there.
pub(super) fn quoted(text: &str) -> Result<String, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]@*".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    let shown = crate::terminal::harmless(text, 64);
    Err(Failure::new(format!("{shown:?} cannot be written into a configuration: letters, digits and -._~/:[]@* can")))
}

/// The names that clients ask for: of `hosts`, else of the origins.
fn names(read: &Read) -> Vec<String> {
    let hosts = read.options.hosts.iter().flatten();
    let origins = read
        .options
        .origins
        .iter()
        .flatten()
        .filter_map(|origin| origin.split_once("://").map(|(_, rest)| rest.to_owned()));
    let mut names: Vec<String> = hosts.cloned().collect();
    if names.is_empty() {
        names.extend(origins);
    }
    let name = |name: &String| {
        let name = if name.starts_with('[') { name.as_str() } else { name.split(':').next().unwrap_or_default() };
        quoted(name).ok().filter(|name| !name.contains('*') && name.parse::<IpAddr>().is_err())
    };
    let mut names: Vec<String> = names.iter().filter_map(name).collect();
    names.dedup();
    if names.is_empty() {
        names.push("app.example.com".to_owned());
    }
    names
}

/// The paths of `paths` and `routes` as regular expressions; a parameter is one segment.
fn paths(read: &Read) -> Vec<String> {
    let listed = read.options.paths.iter().flatten().chain(read.options.routes.keys());
    let mut paths: Vec<String> =
        listed.map(|path| path.split('/').map(segment).collect::<Vec<_>>().join("/")).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn segment(segment: &str) -> String {
    if segment.starts_with('{') && segment.ends_with('}') {
        return "[^/]+".to_owned();
    }
    // What is no letter of a plain path stands for any one letter: nothing of a policy is syntax of a proxy.
    let letter = |letter: char| match letter {
        '.' => "\\.".to_owned(),
        letter if letter.is_ascii_alphanumeric() || "-_~".contains(letter) => letter.to_string(),
        _ => ".".to_owned(),
    };
    segment.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use wsguard::binding::{Options, compile};

    fn plan(more: &Value) -> Result<Plan, Failure> {
        let mut stated = json!({"origins": ["https://app.example"], "auth": "callback"});
        stated.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let options = Options::from_value(&stated).unwrap();
        let set = compile(options.clone()).unwrap();
        Plan::new("p".into(), &Read { options, stated, set }, None, Front { bind: "443".into(), tls: None })
    }

    #[test]
    fn a_proxy_waits_longer_than_the_server_is_silent() {
        let of = |more: Value| plan(&more).unwrap().silence_s;
        assert_eq!(of(json!({})), 60);
        assert_eq!(of(json!({"ping_interval_ms": 40_000, "idle_timeout_ms": 90_000})), 120);
        assert_eq!(of(json!({"routes": {"/slow": {"ping_interval_ms": 60_000, "idle_timeout_ms": 90_000}}})), 180);
        assert!(
            plan(&json!({"ping_interval_ms": 0, "idle_timeout_ms": 0}))
                .unwrap()
                .head("#", "x")
                .contains("MUST SAY: a ping_interval_ms")
        );
    }

    #[test]
    fn the_server_has_to_believe_the_proxy() {
        let wanted = |more: Value| plan(&more).unwrap().wanted.join(" ");
        assert!(wanted(json!({})).starts_with(r#""trusted_proxies": ["127.0.0.1"]"#));
        assert_eq!(wanted(json!({"trusted_proxies": ["127.0.0.1"]})), "");
        assert!(wanted(json!({"listen": "unix:/run/w.sock"})).starts_with(r#""trusted_proxies": ["unix"]"#));
        assert_eq!(wanted(json!({"listen": "unix:/run/w.sock", "trusted_proxies": ["unix"]})), "");
        assert_eq!(wanted(json!({"listen": "192.0.2.1:80", "trusted_proxies": ["192.0.2.0/24"]})), "");
    }

    #[test]
    fn the_upstream_is_where_the_server_listens() {
        let of = |listen: &str| {
            plan(&json!({"listen": listen, "trusted_proxies": ["127.0.0.1", "unix"]})).map(|plan| plan.upstream)
        };
        assert_eq!(of("0.0.0.0:8080").unwrap(), Upstream::Tcp("127.0.0.1:8080".into()));
        assert_eq!(of("unix:/run/w.sock").unwrap(), Upstream::Unix("/run/w.sock".into()));
        for unknown in ["127.0.0.1:0", "fd:3", "unix:/run/w;}"] {
            assert!(of(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn nothing_of_a_policy_is_syntax_of_a_proxy() {
        let plan = plan(&json!({"paths": ["/a.b", "/room/{name}", "/x%3By"]})).unwrap();
        assert_eq!(plan.path_pattern().unwrap(), r"^(/a\.b|/room/[^/]+|/x.3By)$");
        assert_eq!(plan.names, ["app.example"]);
    }
}
