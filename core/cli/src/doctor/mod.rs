//! `wsguard doctor`: the configuration of a proxy for a policy, and what the proxies on the way to a server do.

mod client;
mod credential;
mod examine;
mod plan;
mod stand_in;
mod writers;

use std::time::Duration;

use serde_json::Map;

use crate::check::Scope;
use crate::moments::span;
use crate::outcome::{Ended, Failure, Outcome};
use crate::policy::{Read, Source};
use crate::reach::{self, Responsible, Target};
use crate::terminal::{self, Paint};
use examine::{Examination, Mark};
use plan::{Front, Plan, quoted};
use writers::Proxy;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wsguard doctor policy.json > /etc/nginx/conf.d/chat.conf
  wsguard doctor policy.json --for haproxy --certificate /etc/haproxy/app.pem
  wsguard doctor policy.json --url wss://app.example/chat --i-am-responsible-for app.example

With --url it takes the server's place on the policy's listen address, so stop the server meanwhile. It lets in nobody but itself,
connects to the URL, and says what the proxies between do to the upgrade, Host, Origin, the client's address, compression, messages,
pings, close codes and, with --silence, to a quiet connection.

Exit codes: 0 the policy fits the configuration, the way is good; 1 the policy has to say more (the first lines say what), or the
way has something to mend; 2 it could not be written, or the URL cannot be reached.")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// The proxy that the configuration is for.
    #[arg(long = "for", value_name = "PROXY", value_enum, default_value = "nginx")]
    proxy: Proxy,

    /// Where the proxy reaches the server, in place of the policy's listen.
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,

    /// Where clients reach the proxy: PORT or ADDRESS:PORT. Default: 443; 80 with --plain.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,

    /// The proxy's certificate; for `HAProxy` certificate and key in one file.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/wsguard/cert.pem")]
    certificate: String,

    /// The key of the proxy's certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/wsguard/key.pem")]
    key: String,

    /// Clients reach the proxy without TLS: another one before it does that.
    #[arg(long)]
    plain: bool,

    /// Examine the way from here to this URL in place of writing a configuration.
    #[arg(long, value_name = "URL", conflicts_with_all = ["proxy", "upstream", "bind", "certificate", "key", "plain"])]
    url: Option<String>,

    #[command(flatten)]
    responsible: Responsible,

    /// The address to stand in for the server on, in place of the policy's.
    #[arg(long, value_name = "HOST:PORT", requires = "url")]
    listen: Option<String>,

    /// The origin to come from, in place of the policy's first.
    #[arg(long, value_name = "ORIGIN", requires = "url")]
    origin: Option<String>,

    #[command(flatten)]
    tls: client::TlsOptions,

    /// Leave a connection silent for so long, 10m at most: what ends it then?
    #[arg(long, value_name = "TIME", requires = "url", default_value = "0", value_parser = span)]
    silence: u64,
}

/// The longest silence, in seconds.
const MAX_SILENCE_S: u64 = 600;

pub(crate) fn run(args: &Args) -> Ended {
    let read = args.source.compile()?;
    if let Some(url) = &args.url {
        return examine(args, &read, url);
    }
    let tls = if args.plain { None } else { Some((quoted(&args.certificate)?, quoted(&args.key)?)) };
    let usual = if args.plain { "80" } else { "443" };
    let front = Front { bind: bind(args.bind.as_deref().unwrap_or(usual))?, tls };
    let plan = Plan::new(args.source.name(), &read, args.upstream.as_deref(), front)?;
    terminal::print(&writers::write(&plan, args.proxy)?)?;
    Ok(if plan.wanted.is_empty() { Outcome::Well } else { Outcome::Found })
}

/// `PORT` or `ADDRESS:PORT`.
fn bind(text: &str) -> Result<String, Failure> {
    let is_port =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|port: u16| port > 0);
    let is_bind = is_port(text) || reach::split_port(text).is_some_and(|(_, port)| port.is_some());
    if is_bind { quoted(text) } else { Err(Failure::new("--bind: expected PORT, ADDRESS:PORT or [ADDRESS]:PORT")) }
}

fn examine(args: &Args, read: &Read, url: &str) -> Ended {
    if args.silence > MAX_SILENCE_S {
        return Err(Failure::new(format!("--silence: {} s are more than {MAX_SILENCE_S}", args.silence)));
    }
    let target = Target::parse(url)?;
    let addresses = target.resolve(&args.responsible)?;
    let resolved = read.set.resolve(target.path.split('?').next().unwrap_or_default());
    let policy = resolved.as_ref().map_or(&read.set.top, |resolved| &resolved.policy);
    let mut options = read.options.clone();
    if let Some(listen) = &args.listen {
        options.listen.clone_from(listen);
    }
    let route = resolved.as_ref().and_then(|resolved| resolved.route.as_deref());
    let mut way =
        Examination::new(target.clone(), addresses, (&read.set, policy), origin(args, read, route)?, &args.tls);
    way.silence = Duration::from_secs(args.silence);
    let nonce = examine::nonce()?;
    let server = stand_in::StandIn::start(options, nonce.clone())?;
    terminal::complain(&format!("wsguard: stands in for the server on {}", server.address));
    let found = way.run(&server, &nonce)?;
    terminal::print(&examine::text(&target, &found, Paint::for_stdout()))?;
    Ok(if found.iter().any(|one| one.mark == Mark::Bad) { Outcome::Found } else { Outcome::Well })
}

/// An origin that the policy lets in on this route, or the one that was asked for.
fn origin(args: &Args, read: &Read, route: Option<&str>) -> Result<String, Failure> {
    let empty = Map::new();
    let scopes = Scope::all(read.stated.as_object().unwrap_or(&empty));
    let scope = scopes.iter().find(|scope| scope.route == route).or(scopes.first());
    // One of those that a wildcard stands for.
    let one_of = |origin: String| origin.replace("://*.", "://www.").replace(":*", "");
    let mut listed = scope.and_then(|scope| scope.list("origins")).into_iter().flatten().map(one_of);
    let listed = listed.find(|origin| !origin.contains('*'));
    let origin = args.origin.clone().or(listed).unwrap_or_else(|| "https://app.example.com".to_owned());
    if origin.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(origin);
    }
    Err(Failure::new("--origin must be printable ASCII without spaces"))
}
