//! The demo: a chat on a wsguard server, and a page that attacks it for real.
//!
//! Three loopback ports: the page, the WebSocket server, and the page of a foreign origin. This file starts and ends
//! them; [`policy`] is what the server enforces, [`chat`] the application, [`site`] and [`http`] serve the pages.

mod chat;
mod http;
mod policy;
mod site;
mod visits;

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsguard::{Drain, Handle, Options, Sent, Server};

use crate::chat::Chat;
use crate::visits::Visits;

const USAGE: &str = "usage: wsguard-demo [--port N]

  --port N   the page's port; the websocket server takes N+1, the foreign page N+2 (default: any free ports)";

/// How long connections may take to close at the end.
const DRAIN_MS: u64 = 2000;
/// How often the counters are looked at.
const STATS_EVERY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    wsguard::log_to_stderr();
    let port = match port(std::env::args().skip(1)) {
        Ok(port) => port,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match run(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The first of three ports; 0: any.
fn port(mut arguments: impl Iterator<Item = String>) -> Result<u16, String> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(0),
        (Some("--port"), Some(port), None) => match port.parse() {
            Ok(port @ (0 | 1024..=65533)) => Ok(port),
            _ => Err(format!("--port: must be 1024 to 65533, or 0 for any\n\n{USAGE}")),
        },
        _ => Err(USAGE.to_owned()),
    }
}

fn run(port: u16) -> Result<(), Box<dyn Error>> {
    let following = |offset| if port == 0 { 0 } else { port + offset };
    let page = bind(port)?;
    let foreign = bind(following(2))?;
    let page_host = page.local_addr()?.to_string();
    let foreign_host = foreign.local_addr()?.to_string();

    let listen = format!("127.0.0.1:{}", following(1));
    let options = policy::options(&format!("http://{page_host}"), &listen);
    let shown = serde_json::to_string_pretty(&options)?;
    let server = Server::start(Options::from_value(&options)?)?;
    let signals = Signals::new([SIGINT, SIGTERM])?;
    drain_on(signals, server.handle());

    let visits = Arc::new(Visits::default());
    let site = Arc::new(site::Site {
        page_host: page_host.clone(),
        foreign_host: foreign_host.clone(),
        server_host: server.address().to_owned(),
        policy: shown,
        visits: Arc::clone(&visits),
    });
    let of_foreign = Arc::clone(&site);
    http::serve(page, page_host.clone(), move |path| site.page(path))?;
    http::serve(foreign, foreign_host, move |path| of_foreign.foreign(path))?;
    tell_stats(server.handle())?;

    say(&format!("wsguard demo: a chat to attack. Ctrl-C ends it.\n\n    open http://{page_host}/\n"));
    let mut chat = Chat::new(visits);
    server.run(|event, server| Ok(chat.handle(&event, server)?));
    say("wsguard demo: ended.");
    Ok(())
}

fn bind(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))
}

/// Prints, where somebody still reads.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The first signal drains, which ends [`run`]; a second one ends at once.
fn drain_on(mut signals: Signals, server: Handle) {
    std::thread::spawn(move || {
        for (earlier, signal) in signals.forever().enumerate() {
            if earlier > 0 {
                std::process::exit(128 + signal);
            }
            server.drain(Drain { timeout_ms: DRAIN_MS, ..Drain::default() });
        }
    });
}

/// Sends the counters to everyone who watches, whenever they have changed.
fn tell_stats(server: Handle) -> std::io::Result<()> {
    let tell = move || {
        let mut told = serde_json::Value::Null;
        loop {
            let stats = chat::stats(&server);
            if stats != told {
                if server.room(chat::VERDICTS).emit("stats", &stats).is_ok_and(Sent::is_closed) {
                    return; // the server has stopped
                }
                told = stats;
            }
            std::thread::sleep(STATS_EVERY);
        }
    };
    std::thread::Builder::new().name("stats".to_owned()).spawn(tell).map(drop)
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn a_port_leaves_room_for_two_more() {
        let parsed = |line: &str| port(line.split_whitespace().map(str::to_owned));
        assert_eq!(parsed(""), Ok(0));
        assert_eq!(parsed("--port 8080"), Ok(8080));
        assert_eq!(parsed("--port 65533"), Ok(65533));
        for wrong in ["--port", "--port x", "--port 80", "--port 65534", "--port 1 2", "8080"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
