//! `wsguard doctor`: the configuration of a proxy for a policy, and what the proxies on the way to a server do.

mod plan;
mod writers;

use crate::outcome::{Ended, Outcome};
use crate::policy::Source;
use crate::terminal;
use plan::{Front, Plan, quoted};
use writers::Proxy;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wsguard doctor policy.json > /etc/nginx/conf.d/chat.conf
  wsguard doctor policy.json --for haproxy --certificate /etc/haproxy/app.pem

Exit codes: 0 the policy fits the configuration; 1 the policy has to say more (the first lines say what); 2 it could not be
written.")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// The proxy that the configuration is for.
    #[arg(long = "for", value_name = "PROXY", value_enum, default_value = "nginx")]
    proxy: Proxy,

    /// Where the proxy reaches the server, in place of the policy's listen.
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,

    /// Where clients reach the proxy: PORT or ADDRESS:PORT.
    #[arg(long, value_name = "ADDRESS", default_value = "443")]
    bind: String,

    /// The proxy's certificate; for HAProxy certificate and key in one file.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/wsguard/cert.pem")]
    certificate: String,

    /// The key of the proxy's certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/wsguard/key.pem")]
    key: String,

    /// Clients reach the proxy without TLS: another one before it does that.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(args: &Args) -> Ended {
    let read = args.source.compile()?;
    let tls = if args.plain { None } else { Some((quoted(&args.certificate)?, quoted(&args.key)?)) };
    let front = Front { bind: quoted(&args.bind)?, tls };
    let plan = Plan::new(args.source.name(), &read, args.upstream.as_deref(), front)?;
    terminal::print(&writers::write(&plan, args.proxy)?)?;
    Ok(if plan.wanted.is_empty() { Outcome::Well } else { Outcome::Found })
}
