//! The proxies: where they are, how they are started, and what each does in its own way.

use std::time::Duration;

use wsguard_test_support::debian;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;
use wsguard_test_support::suite::Ground;

use crate::front::{Front, Plan, Proxy};

const NGINX: &[&str] = &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
const STREAM: &[&str] =
    &["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/share/nginx/modules/ngx_stream_module.so"];
const NGINX_ARGUMENTS: &[&str] = &["-p", "DIRECTORY", "-c", "FILE", "-e", "DIRECTORY/error.log"];
const HAPROXY: &[&str] = &["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
const APACHE: &[&str] = &["/usr/sbin/apache2"];
const CADDY: &[&str] = &["/usr/bin/caddy", "/usr/local/bin/caddy"];
const VARNISH: &[&str] = &["/usr/sbin/varnishd"];

/// The configuration with the test's time in place of the minute.
fn silent(configuration: &str, silence: Duration) -> String {
    configuration.replace("60s", &format!("{}ms", silence.as_millis()))
}

/// As root nginx's worker would become a user who may not open the host's socket.
fn nginx(configuration: &str) -> String {
    configuration.replace("USER", if debian::is_root() { "user root;" } else { "" })
}

/// nginx, which is what most people have.
#[derive(Debug)]
pub(crate) enum Nginx {}

impl Proxy for Nginx {
    const WITHOUT_A_HOST: Option<u16> = Some(502);
    const UNIX: bool = true;

    fn start(ground: &Ground, host: &Host, silence: Duration) -> Outcome<Front> {
        let plan = Plan {
            program: debian::provide(NGINX, "nginx")?,
            arguments: NGINX_ARGUMENTS,
            configuration: &nginx(&silent(include_str!("../conf/nginx.conf"), silence)),
            upstream: &host.target.address,
            tls: true,
        };
        Front::start(ground, &plan)
    }
}

/// nginx as a TCP proxy that speaks the PROXY protocol to the host.
#[derive(Debug)]
pub(crate) enum NginxStream {}

impl Proxy for NginxStream {
    const WITHOUT_A_HOST: Option<u16> = None;

    fn start(ground: &Ground, host: &Host, _: Duration) -> Outcome<Front> {
        let module = debian::provide(STREAM, "libnginx-mod-stream")?.display().to_string();
        let plan = Plan {
            program: debian::provide(NGINX, "nginx")?,
            arguments: NGINX_ARGUMENTS,
            configuration: &nginx(include_str!("../conf/nginx-stream.conf")).replace("MODULE", &module),
            upstream: &host.target.address,
            tls: true,
        };
        Front::start(ground, &plan)
    }
}

/// `HAProxy`.
#[derive(Debug)]
pub(crate) enum Haproxy {}

impl Proxy for Haproxy {
    const WITHOUT_A_HOST: Option<u16> = Some(503);
    const UNIX: bool = true;

    fn start(ground: &Ground, host: &Host, silence: Duration) -> Outcome<Front> {
        haproxy(ground, host, &silent(include_str!("../conf/haproxy.cfg"), silence))
    }
}

/// `HAProxy` as a TCP proxy that sends version 2 of the PROXY protocol.
#[derive(Debug)]
pub(crate) enum HaproxyTcp {}

impl Proxy for HaproxyTcp {
    const WITHOUT_A_HOST: Option<u16> = None;

    fn start(ground: &Ground, host: &Host, _: Duration) -> Outcome<Front> {
        haproxy(ground, host, include_str!("../conf/haproxy-tcp.cfg"))
    }
}

fn haproxy(ground: &Ground, host: &Host, configuration: &str) -> Outcome<Front> {
    let plan = Plan {
        program: debian::provide(HAPROXY, "haproxy")?,
        arguments: &["-db", "-f", "FILE"],
        configuration,
        upstream: &host.target.address.replace("unix:", "unix@"),
        tls: true,
    };
    Front::start(ground, &plan)
}

/// Apache's httpd. It joins headers of one name.
#[derive(Debug)]
pub(crate) enum Apache {}

impl Proxy for Apache {
    const WITHOUT_A_HOST: Option<u16> = Some(503);
    const TWO_ORIGINS: u16 = 403;

    fn start(ground: &Ground, host: &Host, silence: Duration) -> Outcome<Front> {
        let user = if debian::is_root() { "User www-data\nGroup www-data" } else { "" };
        let plan = Plan {
            program: debian::provide(APACHE, "apache2-bin")?,
            arguments: &["-DFOREGROUND", "-f", "FILE"],
            configuration: &include_str!("../conf/apache.conf")
                .replace("Timeout 60", &format!("Timeout {}", silence.as_secs()))
                .replace("USER", user)
                .replace("MODULES", "/usr/lib/apache2/modules"),
            upstream: &host.target.address,
            tls: true,
        };
        Front::start(ground, &plan)
    }
}

/// Caddy. It lets a silent connection live, and loses what a client sends before the 101.
#[derive(Debug)]
pub(crate) enum Caddy {}

impl Proxy for Caddy {
    const WITHOUT_A_HOST: Option<u16> = Some(502);
    const UNIX: bool = true;
    const CUTS_SILENCE: bool = false;
    const PASSES_EARLY_FRAMES: bool = false;

    fn start(ground: &Ground, host: &Host, _: Duration) -> Outcome<Front> {
        let plan = Plan {
            program: debian::provide(CADDY, "caddy")?,
            arguments: &["run", "--adapter", "caddyfile", "--config", "FILE"],
            configuration: include_str!("../conf/Caddyfile"),
            upstream: &host.target.address.replace("unix:", "unix/"),
            tls: true,
        };
        Front::start(ground, &plan)
    }
}

/// Varnish, which has no TLS. It hands a connection with an upgrade over to the host, whatever is answered.
#[derive(Debug)]
pub(crate) enum Varnish {}

impl Proxy for Varnish {
    const WITHOUT_A_HOST: Option<u16> = None;
    const KEEPS_REFUSED: bool = false;

    fn start(ground: &Ground, host: &Host, silence: Duration) -> Outcome<Front> {
        let silence = format!("pipe_timeout={}", silence.as_secs());
        let plan = Plan {
            program: debian::provide(VARNISH, "varnish")?,
            arguments: &[
                "-j",
                "none",
                "-F",
                "-n",
                "DIRECTORY/work",
                "-a",
                "127.0.0.1:PLAIN",
                "-f",
                "FILE",
                "-T",
                "none",
                "-s",
                "malloc,16m",
                "-p",
                &silence,
            ],
            configuration: include_str!("../conf/varnish.vcl"),
            upstream: &host.target.address,
            tls: false,
        };
        Front::start(ground, &plan)
    }
}
