//! The demo: one chat on a wsguard server, the same chat on a server without a policy, and a page that attacks both.
//!
//! This file starts and ends them. [`policy`] is what the guarded server enforces, [`live`] how that changes while it runs, and
//! [`chat`] its application; [`nodes`] is one chat on several processes; [`plain`] is the server without a policy; [`attack`] is what both are attacked with; [`web`] serves the page.

mod attack;
mod bot;
mod chat;
mod guests;
mod journal;
mod live;
mod nodes;
mod plain;
mod policy;
mod port;
mod web;
mod wire;

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use peak_alloc::PeakAlloc;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsguard::{Drain, Event, Handle, Server};

use crate::chat::Chat;
use crate::guests::Guests;
use crate::journal::{Entry, Journal};
use crate::live::Live;
use crate::port::{CHAT_PATH, MODERATOR_PATH};

/// Measures what an attack makes the memory of this process grow by.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const USAGE: &str = "usage: wsguard-demo [--port N | --nodes N]

  --port N    the page's port; its servers take the four after it (default: any free ports)
  --nodes N   instead of all this: one chat on N processes (2 to 8) over Redis; what they share, in some lines.
              It starts a redis-server of its own, unless the environment has REDIS=redis://…";

/// How long connections may take to close at the end.
const DRAIN_MS: u64 = 2000;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let ended = match wanted(std::env::args().skip(1)) {
        Ok(Wanted::Page(port)) => run(port),
        Ok(Wanted::Nodes(count)) => nodes::show(count),
        Ok(Wanted::Node) => nodes::serve(),
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// The page; the first of five ports, 0: any.
    Page(u16),
    /// Several processes, and what they share.
    Nodes(usize),
    /// To be one of them.
    Node,
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(Wanted::Page(0)),
        (Some(nodes::NODE), None, None) => Ok(Wanted::Node),
        (Some("--port"), Some(port), None) => match port.parse() {
            Ok(port @ (0 | 1024..=65531)) => Ok(Wanted::Page(port)),
            _ => Err(format!("--port: must be 1024 to 65531, or 0 for any\n\n{USAGE}")),
        },
        (Some("--nodes"), Some(count), None) => match count.parse() {
            Ok(count @ 2..=8) => Ok(Wanted::Nodes(count)),
            _ => Err(format!("--nodes: must be 2 to 8\n\n{USAGE}")),
        },
        _ => Err(USAGE.to_owned()),
    }
}

fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let following = |offset| if port == 0 { 0 } else { port + offset };
    let (page, foreign, plain) = (bind(port)?, bind(following(2))?, bind(following(3))?);
    let origin = format!("http://{}", page.local_addr()?);
    let journal = Journal::start()?;

    let moderator = guests::token()?;
    let policy = policy::text(&format!("127.0.0.1:{}", following(1)), &origin);
    let server = Server::start(policy::options(&policy, &moderator)?)?;
    let (tls, tls_policy) = start_with_tls(&format!("127.0.0.1:{}", following(4)), &origin, &moderator)?;
    drain_on(Signals::new([SIGINT, SIGTERM])?, vec![server.handle(), tls.handle()]);

    let guests = Arc::new(Guests::default());
    let attacker = Arc::new(attack::Attacker {
        guarded: server.address().parse()?,
        tls: tls.address().parse()?,
        plain: plain.local_addr()?,
        origin: origin.clone(),
        live: Live::new(server.handle(), policy, moderator.clone()),
        tls_policy,
        guests: Arc::clone(&guests),
        journal: Arc::clone(&journal),
        plain_chat: Arc::default(),
        turn: tokio::sync::Mutex::default(),
    });
    on_thread("plain", serve_plain(plain, Arc::clone(&attacker.plain_chat)))?;
    on_thread("web", serve_pages(page, foreign, attacker, server.handle(), moderator))?;
    serve_tls(tls, Arc::clone(&guests), Arc::clone(&journal))?;

    say(&banner(&origin));
    let mut chat = Chat::new(guests, journal);
    server.run(|event, server| Ok(chat.handle(&event, server)?));
    say("wsguard demo: ended.");
    Ok(())
}

fn banner(origin: &str) -> String {
    format!(
        "wsguard demo: a live chat, attacked with a policy and without.\n\n    \
         open {origin}/\n\n\
         Everything stays on this machine (127.0.0.1). Ctrl-C ends it.\n\
         Below: what the guarded server logs of its attackers."
    )
}

/// The chat without a policy, until the program ends.
async fn serve_plain(listener: TcpListener, chat: Arc<plain::Plain>) -> std::io::Result<()> {
    chat.serve(tokio::net::TcpListener::from_std(listener)?).await;
    Ok(())
}

/// The pages and the bots, until the program ends.
async fn serve_pages(
    page: TcpListener,
    foreign: TcpListener,
    attacker: Arc<attack::Attacker>,
    server: Handle,
    moderator: String,
) -> std::io::Result<()> {
    let (own, other) = (page.local_addr()?, foreign.local_addr()?);
    let listener = tokio::net::TcpListener::from_std;
    let site = |own, other| Arc::new(web::Site { own, other, attacker: Arc::clone(&attacker) });
    let pass = attacker.guests.admit("bot").map_err(std::io::Error::other)?;
    let claim = |path, token| wire::Claim { path, origin: attacker.origin.clone(), token };
    let (chatter, moderator) = (claim(CHAT_PATH, Some(pass.token)), claim(MODERATOR_PATH, Some(moderator)));
    let nobody = || claim(CHAT_PATH, None);
    let policy = || attacker.live.generations();
    let guarded = bot::chat(attacker.guarded, chatter, &bot::CHATTER, "", policy());
    let moderated = bot::chat(attacker.guarded, moderator, &bot::MODERATOR, "", policy());
    let plain = bot::chat(attacker.plain, nobody(), &bot::CHATTER, r#""name":"bot","#, policy());
    let plain_too = bot::chat(attacker.plain, nobody(), &bot::MODERATOR, r#""name":"moderator","#, policy());
    let page = axum::serve(port::Pages::beside(server, listener(page)?)?, web::page(site(own, other)));
    let foreign = axum::serve(listener(foreign)?, web::foreign(site(other, own)));
    tokio::select! {
        ended = page => ended,
        ended = foreign => ended,
        () = guarded => Ok(()),
        () = moderated => Ok(()),
        () = plain => Ok(()),
        () = plain_too => Ok(()),
    }
}

/// A server with the same policy and a certificate, and the text of that policy.
fn start_with_tls(listen: &str, origin: &str, moderator: &str) -> Result<(Server, String), Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    // Read at the start and never again, so the folder may go.
    let folder = tempfile::tempdir()?;
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, certified.cert.pem())?;
    std::fs::write(&key, certified.signing_key.serialize_pem())?;
    let policy = policy::text(listen, origin);
    let policy = policy::with_tls(&policy, &cert.to_string_lossy(), &key.to_string_lossy());
    Ok((Server::start(policy::options(&policy, moderator)?)?, policy))
}

/// Nobody chats over TLS here, because no browser knows the certificate: only its verdicts are told.
fn serve_tls(server: Server, guests: Arc<Guests>, journal: Arc<Journal>) -> std::io::Result<()> {
    let run = move || {
        server.run(|event, server| match event {
            Event::Upgrade(upgrade) => Ok(chat::authenticate(&guests, upgrade, server)?),
            Event::Violation(violation) => {
                journal.add(Entry::Verdict(violation.clone()));
                Ok(())
            }
            _ => Ok(()),
        });
    };
    std::thread::Builder::new().name("tls".to_owned()).spawn(run).map(drop)
}

fn bind(port: u16) -> Result<TcpListener, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))
}

/// Runs `work` on a thread of its own, so that what is measured on one server does not wait for the other.
fn on_thread(name: &str, work: impl Future<Output = std::io::Result<()>> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let run = move || {
        if let Err(error) = runtime.block_on(work) {
            eprintln!("a part of the demo has ended: {error}");
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Prints, where somebody still reads.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The first signal drains, which ends [`run`]; a second one ends at once.
fn drain_on(mut signals: Signals, servers: Vec<Handle>) {
    std::thread::spawn(move || {
        for (earlier, signal) in signals.forever().enumerate() {
            if earlier > 0 {
                std::process::exit(128 + signal);
            }
            for server in &servers {
                server.drain(Drain { timeout_ms: DRAIN_MS, ..Drain::default() });
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Wanted, wanted};

    #[test]
    fn a_port_leaves_room_for_four_more() {
        let parsed = |line: &str| wanted(line.split_whitespace().map(str::to_owned));
        assert_eq!(parsed(""), Ok(Wanted::Page(0)));
        assert_eq!(parsed("--port 8080"), Ok(Wanted::Page(8080)));
        assert_eq!(parsed("--port 65531"), Ok(Wanted::Page(65531)));
        assert_eq!(parsed("--nodes 2"), Ok(Wanted::Nodes(2)));
        for wrong in [
            "--port",
            "--port x",
            "--port 80",
            "--port 65532",
            "--port 1 2",
            "8080",
            "--nodes",
            "--nodes 1",
            "--nodes 9",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
