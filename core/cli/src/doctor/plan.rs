//! What a proxy has to know of a policy, and what the policy has to say for a proxy: decided here, written by the writers.

use std::net::IpAddr;

use serde_json::Map;
use wsguard::binding::Policy;
use wsguard_proto::auth::TokenSource;

use super::credential;
use crate::check::Scope;
use crate::outcome::Failure;
use crate::policy::{Read, by_path};
use crate::reach::{self, host_of};
use crate::terminal::harmless;

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
    /// The names that clients ask for, as far as the policy tells.
    pub(super) names: Vec<String>,
    /// Clients may ask for other names as well: `hosts` is not stated.
    pub(super) any_name: bool,
    /// The paths that are served, as regular expressions without anchors; empty: every path.
    pub(super) paths: Vec<String>,
    /// How long the proxy has to let a connection be silent, in seconds.
    pub(super) silence_s: u64,
    /// The largest request line and headers.
    pub(super) head_bytes: usize,
    /// How long a handshake may take, in seconds.
    pub(super) handshake_s: u64,
    /// The headers that credentials are taken from by their own names.
    pub(super) token_headers: Vec<String>,
    pub(super) proxy_protocol: bool,
    /// The server does TLS itself.
    pub(super) upstream_tls: bool,
    /// What the policy has to say, and does not.
    pub(super) wanted: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

fn token_headers(policies: &[&Policy]) -> Vec<String> {
    let sources = policies.iter().flat_map(|policy| credential::places(policy));
    let name = |source| if let TokenSource::Header(name) = source { Some(name) } else { None };
    sources.filter_map(name).collect()
}

/// The longest regular expression, in bytes.
const MAX_PATTERN: usize = 1500;

/// Room for a ping that is late, and for its pong.
const PINGS_PER_SILENCE: u64 = 3;

impl Plan {
    /// # Errors
    /// The policy does not say where the server will listen.
    pub(super) fn new(policy: String, read: &Read, upstream: Option<&str>, front: Front) -> Result<Self, Failure> {
        let top = &*read.set.top;
        let policies = by_path(&read.set);
        let empty = Map::new();
        let scopes = Scope::all(read.stated.as_object().unwrap_or(&empty));
        let upstream = upstream_of(upstream.unwrap_or(&read.options.listen))?;
        let mut plan = Self {
            policy,
            names: names(&scopes),
            any_name: scopes.iter().any(|scope| scope.list("hosts").is_none()),
            paths: paths(read),
            silence_s: 60,
            head_bytes: policies.iter().map(|policy| policy.max_head_bytes).max().unwrap_or(16_384),
            handshake_s: policies.iter().map(|policy| policy.handshake_timeout_ms.div_ceil(1000)).max().unwrap_or(5),
            token_headers: token_headers(&policies),
            proxy_protocol: top.proxy_protocol,
            upstream_tls: top.tls.is_some(),
            wanted: Vec::new(),
            notes: Vec::new(),
            upstream,
            front,
        };
        plan.silence(&policies);
        plan.trust(top);
        plan.tls(top);
        Ok(plan)
    }

    /// Who does TLS, and what that means for certificates and addresses.
    fn tls(&mut self, top: &Policy) {
        if self.proxy_protocol {
            if self.upstream_tls {
                self.notes.push("TLS passes through to the server, which has the certificate".into());
            }
            return;
        }
        if top.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
            self.wanted.push(
                "\"proxy_protocol\": true, so that TLS passes through (nginx, HAProxy): clients show the certificates of \
                 tls.client_ca to whoever ends TLS, and the proxy has none to show to the server"
                    .into(),
            );
        } else if self.upstream_tls {
            self.notes.push(
                "the server does TLS itself: the proxy speaks TLS to it, and does not check its certificate".into(),
            );
        }
        if self.front.tls.is_none() {
            self.notes.push(
                "without TLS here, another proxy may stand before this one: then all clients count as that one, unless this one \
                 appends to X-Forwarded-For what it now sets, and trusted_proxies has that one as well"
                    .into(),
            );
        }
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
            Upstream::Tcp(address) => match host_of(address).parse::<IpAddr>() {
                Ok(ip) if ip.is_loopback() => (Some(ip), ip.to_string()),
                _ => {
                    if top.trusted_proxies.is_empty() {
                        self.wanted.push(
                            "the proxy's own address in trusted_proxies: without it all clients count as the proxy"
                                .into(),
                        );
                    } else {
                        let trusted = harmless(&top.trusted_proxies.describe(), 200);
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

    /// Regular expressions of which one fits each path that is served; none: every path. Each is short enough for a line of a
    /// configuration: nginx reads 4096 bytes, `HAProxy` 2048.
    pub(super) fn path_patterns(&self) -> Vec<String> {
        let mut patterns: Vec<String> = Vec::new();
        for path in &self.paths {
            match patterns.last_mut() {
                Some(last) if last.len() + path.len() < MAX_PATTERN => {
                    last.push('|');
                    last.push_str(path);
                }
                _ => patterns.push(path.clone()),
            }
        }
        patterns.iter().map(|paths| format!("^({paths})$")).collect()
    }
}

fn in_route(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("on the route {} ", harmless(path, 128)) }
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
    let address = match host_of(listen) {
        "0.0.0.0" => format!("127.0.0.1:{port}"),
        "::" => format!("[::1]:{port}"),
        _ if reach::split_port(listen).is_some() => quoted(listen)?,
        _ => {
            return Err(Failure::new(format!(
                "{:?} is no HOST:PORT that a proxy could connect to",
                harmless(listen, 64)
            )));
        }
    };
    Ok(Upstream::Tcp(address))
}

/// What goes into a configuration as it is: nothing that ends a word or a line there.
pub(super) fn quoted(text: &str) -> Result<String, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]@*".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    let shown = harmless(text, 64);
    Err(Failure::new(format!("{shown:?} cannot be written into a configuration: letters, digits and -._~/:[]@* can")))
}

/// The names that clients ask for: of all `hosts`, else of the origins on the web. Each once: two sites of one name are an error to
/// Caddy.
fn names(scopes: &[Scope<'_>]) -> Vec<String> {
    let of_origin = |origin: &String| match origin.split_once("://") {
        Some((scheme, rest)) if scheme.to_ascii_lowercase().starts_with("http") => Some(rest.to_owned()),
        _ => None,
    };
    let listed = |option: &str| {
        let stating = scopes.iter().filter(|scope| scope.states(option));
        stating.filter_map(|scope| scope.list(option)).flatten().collect::<Vec<_>>()
    };
    let hosts = listed("hosts");
    let all = if hosts.is_empty() { listed("origins").iter().filter_map(of_origin).collect() } else { hosts };
    let mut names: Vec<String> = Vec::new();
    for name in all.iter().filter_map(|authority| name(host_of(authority))) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A host as configurations write it; `None`: none that they could have.
fn name(host: &str) -> Option<String> {
    // As a client asks for it: the dot behind a name is no part of it for a proxy (Caddy starts with none that has one).
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    quoted(&host).ok().filter(|host| !host.contains('*'))
}

/// The paths of `paths` and `routes` as regular expressions.
fn paths(read: &Read) -> Vec<String> {
    let listed = read.options.paths.iter().flatten().chain(read.options.routes.keys());
    let mut paths: Vec<String> =
        listed.map(|path| path.split('/').map(segment).collect::<Vec<_>>().join("/")).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// A segment as a regular expression. nginx and Caddy compare a path when it is decoded, `HAProxy` as it came: where the two may
/// differ, for a parameter and for encoded text, anything fits, and the server, which compares again, answers 404.
fn segment(segment: &str) -> String {
    if segment.contains(['{', '%']) || !segment.is_ascii() {
        return ".+".to_owned();
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
        for good in ["app.internal:80", "[::1]:80", "app_1:8080", "10.0.0.7:65535"] {
            assert_eq!(upstream_of(good).unwrap(), Upstream::Tcp(good.to_owned()));
        }
        for wrong in ["h:99999", "*:80", "http://a:80", ":80", "::1:80", "a:b:80", "/x:1", "u@h:80", "[::1]80"] {
            assert!(upstream_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_of_a_policy_is_syntax_of_a_proxy() {
        let plan = plan(&json!({"paths": ["/a.b", "/room/{name}", "/x%3By", "/a;b"]})).unwrap();
        assert_eq!(plan.path_patterns(), [r"^(/.+|/a.b|/a\.b|/room/.+)$"]);
        assert_eq!(plan.names, ["app.example"]);
    }

    #[test]
    fn many_paths_are_several_lines() {
        let paths: Vec<String> = (0..500).map(|number| format!("/some/path/{number}")).collect();
        let patterns = plan(&json!({"paths": paths})).unwrap().path_patterns();
        assert!(patterns.len() > 3 && patterns.iter().all(|pattern| pattern.len() < 1600), "{}", patterns.len());
        assert_eq!(patterns.join("|").matches("/some/path/").count(), 500);
    }

    #[test]
    fn names_are_those_of_hosts_or_of_origins() {
        let of = |more: Value| plan(&more).map(|plan| (plan.names.join(" "), plan.any_name)).unwrap();
        let hosts = json!(["a.example:443", "b.example", "A.example:8443", "127.0.0.1", "[::1]:80"]);
        assert_eq!(of(json!({"hosts": hosts})), ("a.example b.example 127.0.0.1 [::1]".into(), false));
        assert_eq!(of(json!({"hosts": ["a.example.", "A.example:80", "b.example.:443"]})).0, "a.example b.example");
        let route = json!({"hosts": ["a.example"], "routes": {"/x": {"hosts": ["x.example"]}}});
        assert_eq!(of(route), ("a.example x.example".into(), false));
        let odd = ["https://*.a.example", "http://localhost:*", "chrome-extension://abc", "null", "http://[::1]:3000"];
        assert_eq!(of(json!({"origins": odd})), ("localhost [::1]".into(), true));
    }

    #[test]
    fn who_ends_tls_sees_the_certificates_of_clients() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = json!({"cert": cert, "key": key, "client_ca": cert});
        let proxies = json!(["127.0.0.1"]);
        let with = |proxy_protocol: bool| {
            plan(&json!({"tls": tls, "trusted_proxies": proxies, "proxy_protocol": proxy_protocol})).unwrap().wanted
        };
        assert!(with(false).join(" ").contains("\"proxy_protocol\": true"), "{:?}", with(false));
        assert!(with(true).is_empty());
    }
}
