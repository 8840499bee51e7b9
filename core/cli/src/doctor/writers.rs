//! The configurations of proxies. tests/proxy runs each of them, on the real proxy.

use std::fmt::Write as _;

use super::plan::{Plan, Upstream};
use crate::outcome::Failure;

/// A proxy that a configuration can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Proxy {
    Nginx,
    Haproxy,
    Caddy,
    Apache,
}

/// The configuration.
///
/// # Errors
/// The proxy cannot do what the policy asks of it.
pub(super) fn write(plan: &Plan, proxy: Proxy) -> Result<String, Failure> {
    match proxy {
        Proxy::Nginx if plan.proxy_protocol => Ok(nginx_stream(plan)),
        Proxy::Nginx => Ok(nginx(plan)),
        Proxy::Haproxy if plan.proxy_protocol => Ok(haproxy_tcp(plan)),
        Proxy::Haproxy => Ok(haproxy(plan)),
        Proxy::Caddy if plan.proxy_protocol => Err(no_proxy_protocol("Caddy")),
        Proxy::Caddy => Ok(caddy(plan)),
        Proxy::Apache if plan.proxy_protocol => Err(no_proxy_protocol("Apache")),
        Proxy::Apache => apache(plan),
    }
}

fn no_proxy_protocol(proxy: &str) -> Failure {
    Failure::new(format!(
        "proxy_protocol: {proxy} does not send it; --for haproxy and --for nginx do, or leave the option out"
    ))
}

fn nginx_address(plan: &Plan) -> String {
    match &plan.upstream {
        Upstream::Tcp(address) => address.clone(),
        Upstream::Unix(path) => format!("unix:{path}"),
    }
}

fn nginx_tls(plan: &Plan) -> (String, String) {
    match &plan.front.tls {
        Some((certificate, key)) => {
            (" ssl".to_owned(), format!("    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n"))
        }
        None => (String::new(), String::new()),
    }
}

/// A name for the upstream: those of several policies are in one nginx.
fn upstream_name(plan: &Plan) -> String {
    let address = nginx_address(plan);
    let name: Vec<&str> =
        address.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("wsguard_{}", name.join("_"))
}

/// What stands beside names that nobody has stated.
fn guess(plan: &Plan) -> &'static str {
    if plan.any_name { "    # The policy has no hosts: these are the names of its origins.\n" } else { "" }
}

/// A table of names has places of 64 bytes, and room for some hundred. What is larger has to be said, outside of `server`.
fn nginx_names(plan: &Plan) -> (String, String) {
    let longest = plan.names.iter().map(String::len).max().unwrap_or_default();
    let mut tables = String::new();
    if longest > 40 {
        let _ = writeln!(tables, "server_names_hash_bucket_size {};", (longest + 32).next_power_of_two());
    }
    if plan.names.len() > 100 {
        let _ = writeln!(tables, "server_names_hash_max_size {};", (plan.names.len() * 16).next_power_of_two());
    }
    // `_` is nobody's name: the server is for whatever else nobody is.
    let names = if plan.names.is_empty() { "_".to_owned() } else { plan.names.join("\n        ") };
    (tables, names)
}

/// nginx drops headers with other letters than those of `X-Auth-Token`, unless it is told not to.
fn nginx_odd_headers(plan: &Plan) -> String {
    let names = || plan.token_headers.iter();
    let is_usual = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut lines = String::new();
    if names().any(|name| name.contains('_')) {
        lines.push_str("    underscores_in_headers on;\n");
    }
    if names().any(|name| name.contains(|letter| letter != '_' && !is_usual(letter))) {
        lines.push_str("    ignore_invalid_headers off;\n");
    }
    if lines.is_empty() {
        return lines;
    }
    format!("    # For token_sources. The first server of nginx on this port has to say it as well.\n{lines}")
}

fn nginx(plan: &Plan) -> String {
    let (ssl, certificate) = nginx_tls(plan);
    let (upstream, (tables, names)) = (upstream_name(plan), nginx_names(plan));
    let scheme = if plan.upstream_tls { "https" } else { "http" };
    let pass = format!("proxy_pass {scheme}://{upstream};");
    let mut locations = String::new();
    for pattern in plan.path_patterns() {
        let _ = write!(locations, "    location ~ \"{pattern}\" {{\n        {pass}\n    }}\n");
    }
    if locations.is_empty() {
        let _ = write!(locations, "    location / {{\n        {pass}\n    }}\n");
    } else {
        locations.push_str("    location / {\n        return 404;\n    }\n");
    }
    format!(
        "{head}# Inside of http {{ }}: a file in conf.d.
map $http_upgrade $connection_upgrade {{
    default upgrade;
    \"\" \"\";
}}
upstream {upstream} {{
    # A refused upgrade is no sign of a dead server.
    server {address} max_fails=0;
    keepalive 8;
}}
{tables}server {{
    listen {bind}{ssl};
{guess}    server_name {names};
{certificate}    # The policy's max_head_bytes, and handshake_timeout_ms.
    large_client_header_buffers 4 {head_bytes};
    client_header_timeout {handshake}s;
{odd_headers}    proxy_http_version 1.1;
{versions}    proxy_buffering off;
    # What the client asked for: `Origin` passes by itself.
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    # Set, not appended: what the client says of its own address counts for nothing.
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header Forwarded \"\";
    # Longer than the server is ever silent: it sends pings.
    proxy_read_timeout {silence}s;
    proxy_send_timeout {silence}s;
{locations}}}
",
        head = plan.head("#", "nginx"),
        address = nginx_address(plan),
        // nginx before 1.23.4 speaks no TLS 1.3 to an upstream by itself.
        versions = if plan.upstream_tls { "    proxy_ssl_protocols TLSv1.2 TLSv1.3;\n" } else { "" },
        guess = guess(plan),
        bind = plan.front.bind,
        head_bytes = plan.head_bytes,
        handshake = plan.handshake_s,
        odd_headers = nginx_odd_headers(plan),
        silence = plan.silence_s,
    )
}

/// Only the stream module sends the PROXY protocol to an upstream.
fn nginx_stream(plan: &Plan) -> String {
    let (ssl, certificate) = if plan.upstream_tls { (String::new(), String::new()) } else { nginx_tls(plan) };
    format!(
        "{head}# At the top level of nginx.conf: only the stream module sends the PROXY protocol.
stream {{
    server {{
        listen {bind}{ssl};
{certificate}        proxy_pass {address};
        proxy_protocol on;
        proxy_timeout {silence}s;
    }}
}}
",
        head = plan.head("#", "nginx"),
        bind = plan.front.bind,
        certificate = certificate.replace("    ssl", "        ssl"),
        address = nginx_address(plan),
        silence = plan.silence_s,
    )
}

fn haproxy_bind(plan: &Plan) -> String {
    let bind = &plan.front.bind;
    let address = if bind.contains(':') { bind.clone() } else { format!(":{bind}") };
    match &plan.front.tls {
        // Certificate and key in one file.
        Some((bundle, _)) => format!("{address} ssl crt {bundle}"),
        None => address,
    }
}

fn haproxy_server(plan: &Plan) -> String {
    let address = match &plan.upstream {
        Upstream::Tcp(address) => address.clone(),
        Upstream::Unix(path) => format!("unix@{path}"),
    };
    if plan.upstream_tls && !plan.proxy_protocol { format!("{address} ssl verify none") } else { address }
}

fn haproxy(plan: &Plan) -> String {
    let mut paths = String::new();
    for pattern in plan.path_patterns() {
        let _ = writeln!(paths, "    acl is_served path -m reg '{pattern}'");
    }
    if !paths.is_empty() {
        paths += "    http-request deny deny_status 404 unless is_served\n";
    }
    format!(
        "{head}global
    # The policy's max_head_bytes, and room for what is added.
    tune.bufsize {bufsize}

defaults
    mode http
    timeout connect 5s
    timeout client 30s
    # The policy's handshake_timeout_ms; the server's own answer to it comes first.
    timeout http-request {handshake}s
    timeout server {answer}s
    # Longer than the server is ever silent: it sends pings.
    timeout tunnel {silence}s

frontend clients
    bind {bind}
{paths}    default_backend wsguard

backend wsguard
    # Set, not appended: what the client says of its own address counts for nothing.
    http-request set-header X-Forwarded-For %[src]
    http-request del-header Forwarded
    server wsguard {server}
",
        head = plan.head("#", "HAProxy"),
        bufsize = (plan.head_bytes + 2048).max(16_384),
        handshake = plan.handshake_s,
        answer = (plan.handshake_s + 5).max(30),
        silence = plan.silence_s,
        bind = haproxy_bind(plan),
        server = haproxy_server(plan),
    )
}

fn haproxy_tcp(plan: &Plan) -> String {
    let bind = if plan.upstream_tls {
        haproxy_bind(&Plan { front: super::plan::Front { tls: None, ..plan.front.clone() }, ..plan.clone() })
    } else {
        haproxy_bind(plan)
    };
    format!(
        "{head}defaults
    mode tcp
    timeout connect 5s
    # Longer than the server is ever silent: it sends pings.
    timeout client {silence}s
    timeout server {silence}s

frontend clients
    bind {bind}
    default_backend wsguard

backend wsguard
    server wsguard {server} send-proxy-v2
",
        head = plan.head("#", "HAProxy"),
        silence = plan.silence_s,
        server = haproxy_server(plan),
    )
}

fn caddy(plan: &Plan) -> String {
    let address = match &plan.upstream {
        Upstream::Tcp(address) => address.clone(),
        Upstream::Unix(path) => format!("unix/{path}"),
    };
    let (bind, port) = match plan.front.bind.rsplit_once(':') {
        Some((host, port)) => (format!("    bind {}\n", host.trim_start_matches('[').trim_end_matches(']')), port),
        None => (String::new(), plan.front.bind.as_str()),
    };
    // Where the policy has no `hosts`, any name is served: a site with names would answer others with an empty 200.
    let scheme = if plan.front.tls.is_none() { "http://" } else { "" };
    let site = if plan.any_name || plan.names.is_empty() {
        format!("{scheme}:{port}")
    } else {
        plan.names.iter().map(|name| format!("{scheme}{name}:{port}")).collect::<Vec<_>>().join(", ")
    };
    let tls =
        plan.front.tls.as_ref().map_or_else(String::new, |(certificate, key)| format!("    tls {certificate} {key}\n"));
    let (open, close) = match plan.path_patterns().as_slice() {
        [] => ("    handle {\n".to_owned(), "    }\n"),
        // In handles: by itself `respond` would come first, wherever it stands.
        patterns => (
            format!("    @served path_regexp \"{}\"\n    handle @served {{\n", patterns.join("|")),
            "    }\n    handle {\n        respond 404\n    }\n",
        ),
    };
    let transport = if plan.upstream_tls {
        // Caddy from 2.11 on would write the server's address into it.
        "            header_up Host {http.request.hostport}\n            transport http {\n                tls_insecure_skip_verify\n            }\n"
    } else {
        ""
    };
    format!(
        "{head}# Caddy passes `Origin`, `Host` and the upgrade, sets X-Forwarded-For itself, and ends no silent connection.
# It holds unfinished requests for long by itself. The policy's handshake_timeout_ms belongs into its global options, the first
# block of the Caddyfile: servers {{ timeouts {{ read_header {handshake}s }} }}, each brace's inside on a line of its own.
{site} {{
{bind}{tls}{open}        reverse_proxy {address} {{
            header_up -Forwarded
{transport}        }}
{close}}}
",
        head = plan.head("#", "Caddy"),
        handshake = plan.handshake_s,
    )
}

fn apache(plan: &Plan) -> Result<String, Failure> {
    let Upstream::Tcp(address) = &plan.upstream else {
        return Err(Failure::new(
            "listen: Apache passes no upgrade to a Unix socket; --for nginx, haproxy and caddy do",
        ));
    };
    let bind = if plan.front.bind.contains(':') { plan.front.bind.clone() } else { format!("*:{}", plan.front.bind) };
    let scheme = if plan.upstream_tls { "https" } else { "http" };
    let tls = plan.front.tls.as_ref().map_or_else(String::new, |(certificate, key)| {
        format!("    SSLEngine on\n    SSLCertificateFile {certificate}\n    SSLCertificateKeyFile {key}\n")
    });
    let upstream_tls = if plan.upstream_tls {
        "    SSLProxyEngine on\n    SSLProxyVerify none\n    SSLProxyCheckPeerName off\n    SSLProxyCheckPeerExpire off\n"
    } else {
        ""
    };
    // ports.conf of Debian and its like has these two, and a second one for a port is an error.
    let listen = match plan.front.bind.as_str() {
        "80" | "443" => "Listen as in Debian's ports.conf.".to_owned(),
        bind => format!("with Listen {bind} beside it."),
    };
    // Apache takes no IPv6 address for a name.
    let mut names = plan.names.iter().filter(|name| !name.starts_with('['));
    let mut names_text = names.next().map_or_else(String::new, |name| format!("    ServerName {name}\n"));
    names_text.extend(names.map(|name| format!("    ServerAlias {name}\n")));
    Ok(format!(
        "{head}# Since 2.4.47, with mod_proxy, mod_proxy_http, mod_headers{and_ssl}; {listen}
<VirtualHost {bind}>
{names}{tls}{upstream_tls}    # The policy's max_head_bytes.
    LimitRequestFieldSize {head_bytes}
    <IfModule mod_reqtimeout.c>
        # Its handshake_timeout_ms.
        RequestReadTimeout header={handshake}
    </IfModule>
    # What the client says of its own address counts for nothing: mod_proxy writes X-Forwarded-For anew.
    RequestHeader unset Forwarded
    RequestHeader unset X-Forwarded-For
    ProxyPreserveHost On
    # Longer than the server is ever silent: it sends pings.
    Timeout {silence}
    # The server itself answers 404 where the policy serves no path, and sees each as it came.
    AllowEncodedSlashes NoDecode
    MergeSlashes Off
    # A server that was away is asked again at once.
    ProxyPass \"/\" \"{scheme}://{address}/\" upgrade=websocket retry=0 nocanon
</VirtualHost>
",
        head = plan.head("#", "Apache"),
        names = guess(plan).to_owned() + &names_text,
        and_ssl = if plan.front.tls.is_some() { " and mod_ssl" } else { "" },
        head_bytes = plan.head_bytes,
        handshake = plan.handshake_s,
        silence = plan.silence_s,
    ))
}
