//! The configurations of proxies. tests/proxy runs each of them, on the real proxy.

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

fn nginx(plan: &Plan) -> String {
    let (ssl, certificate) = nginx_tls(plan);
    let scheme = if plan.upstream_tls { "https" } else { "http" };
    let pass = format!("proxy_pass {scheme}://wsguard;");
    let locations = match plan.path_pattern() {
        Some(pattern) => format!(
            "    location ~ \"{pattern}\" {{\n        {pass}\n    }}\n    location / {{\n        return 404;\n    }}\n"
        ),
        None => format!("    location / {{\n        {pass}\n    }}\n"),
    };
    format!(
        "{head}# Inside of http {{ }}: a file in conf.d.
map $http_upgrade $connection_upgrade {{
    default upgrade;
    \"\" \"\";
}}
upstream wsguard {{
    # A refused upgrade is no sign of a dead server.
    server {address} max_fails=0;
    keepalive 8;
}}
server {{
    listen {bind}{ssl};
    server_name {names};
{certificate}    # The policy's max_head_bytes.
    large_client_header_buffers 4 {head_bytes};
    proxy_http_version 1.1;
    proxy_buffering off;
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
        bind = plan.front.bind,
        names = plan.names.join(" "),
        head_bytes = plan.head_bytes,
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
    let paths = plan.path_pattern().map_or_else(String::new, |pattern| {
        format!("    acl is_served path -m reg '{pattern}'\n    http-request deny deny_status 404 unless is_served\n")
    });
    format!(
        "{head}global
    # The policy's max_head_bytes, and room for what is added.
    tune.bufsize {bufsize}

defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
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
    let (site, bind) = match plan.front.bind.rsplit_once(':') {
        Some((host, port)) => (format!(":{port}"), format!("    bind {host}\n")),
        None if plan.front.tls.is_none() => (
            plan.names.iter().map(|name| format!("http://{name}:{}", plan.front.bind)).collect::<Vec<_>>().join(", "),
            String::new(),
        ),
        None => (
            plan.names.iter().map(|name| format!("{name}:{}", plan.front.bind)).collect::<Vec<_>>().join(", "),
            String::new(),
        ),
    };
    let tls =
        plan.front.tls.as_ref().map_or_else(String::new, |(certificate, key)| format!("    tls {certificate} {key}\n"));
    let (open, close) = match plan.path_pattern() {
        // In handles: by itself `respond` would come first, wherever it stands.
        Some(pattern) => (
            format!("    @served path_regexp \"{pattern}\"\n    handle @served {{\n"),
            "    }\n    handle {\n        respond 404\n    }\n",
        ),
        None => ("    handle {\n".to_owned(), "    }\n"),
    };
    let transport = if plan.upstream_tls {
        "            transport http {\n                tls_insecure_skip_verify\n            }\n"
    } else {
        ""
    };
    format!(
        "{head}# Caddy passes `Origin`, `Host` and the upgrade, sets X-Forwarded-For itself, and ends no silent connection.
{site} {{
{bind}{tls}{open}        reverse_proxy {address} {{
            header_up -Forwarded
{transport}        }}
{close}}}
",
        head = plan.head("#", "Caddy"),
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
        "    SSLProxyEngine on\n    SSLProxyVerify none\n    SSLProxyCheckPeerName off\n"
    } else {
        ""
    };
    Ok(format!(
        "{head}# Since 2.4.47, with mod_proxy, mod_proxy_http, mod_headers{and_ssl}.
<VirtualHost {bind}>
    ServerName {name}
{tls}{upstream_tls}    # The policy's max_head_bytes.
    LimitRequestFieldSize {head_bytes}
    # What the client says of its own address counts for nothing: mod_proxy writes X-Forwarded-For anew.
    RequestHeader unset Forwarded
    RequestHeader unset X-Forwarded-For
    ProxyPreserveHost On
    # Longer than the server is ever silent: it sends pings.
    Timeout {silence}
    # The server itself answers 404 where the policy serves no path.
    ProxyPass \"/\" \"{scheme}://{address}/\" upgrade=websocket
</VirtualHost>
",
        head = plan.head("#", "Apache"),
        and_ssl = if plan.front.tls.is_some() { " and mod_ssl" } else { "" },
        name = plan.names[0],
        head_bytes = plan.head_bytes,
        silence = plan.silence_s,
    ))
}
