//! The Rust test host: what an application writes, and nothing else. See docs/HOST.md for the contract.

mod commands;

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use std::collections::HashMap;

use serde_json::{Value, json};
use wsguard::{
    Accept, Builder, Code, ConnectionId, Decision, Drain, Error, Event, Handle, Handled, HandlerResult, Inline,
    InlineMessage, Interest, JsonMessage, Options, Reject, Replies, TicketId, Upgrade,
};

/// Echoes on the server's own threads; whatever needs the application goes to its thread.
struct Echo;

impl Inline for Echo {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        match message {
            InlineMessage::Text(text) => replies.text(text),
            InlineMessage::Binary(payload) => replies.binary(payload),
            InlineMessage::Event("echo", data, id) => replies.emit("echo", data, id),
            InlineMessage::Event(..) => return Handled::Pass,
        }
        Handled::Done
    }
}

/// A drain answers `done` when it is over, just before the program ends.
static DRAIN_ASKED: AtomicBool = AtomicBool::new(false);

/// Who is there is kept for `whoami`, unless nobody can ask: every connection has the protocol `raw`.
static KEEPS_WHO: AtomicBool = AtomicBool::new(false);

fn keep_who(options: &Value) {
    let routes = options["routes"].as_object();
    let top = options["protocol"].as_str().unwrap_or("json");
    let speaks = |policy: &Value| policy["protocol"].as_str().unwrap_or(top) == "json";
    if speaks(options) || routes.is_some_and(|routes| routes.values().any(speaks)) {
        KEEPS_WHO.store(true, Ordering::Release);
    }
}

/// How the host ends where nothing else is said.
const DRAIN: Drain = Drain { timeout_ms: 5000, jitter_ms: 0 };

fn print(line: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn main() -> ExitCode {
    let quiet = std::env::args().any(|argument| argument == "--quiet");
    wsguard::log_to_stderr();
    let mut first = String::new();
    let _ = std::io::stdin().lock().read_line(&mut first);
    match start(&first, quiet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(
                &json!({"type": "error", "code": error.code(), "option": error.option(), "message": error.to_string()}),
            );
            ExitCode::from(2)
        }
    }
}

fn start(first: &str, quiet: bool) -> Result<(), Error> {
    let mut input: Value = serde_json::from_str(first).unwrap_or_default();
    let options = Options::from_value(&input["options"])?;
    keep_who(&input["options"]);
    let authenticate = input["app"]["authenticate"].take();
    // With events on standard output every message goes through the application's thread, which prints it.
    let builder = if quiet { Builder::new().inline(Echo) } else { Builder::new() };
    let server = builder.start(options)?;
    // Whoever reads the line may send the signal.
    drain_on_signal(server.handle());
    print(&json!({"type": "listening", "addr": server.address()}));
    let commands = server.handle();
    commands.set_interest(Interest { opens: !quiet, closes: !quiet, violations: !quiet });
    std::thread::spawn(move || read_commands(&commands));
    let mut known = HashMap::new();
    server.run(|event, server| {
        match &event {
            Event::Open(open) if KEEPS_WHO.load(Ordering::Acquire) => {
                let who = json!({"user": open.user.as_deref(), "roles": open.roles.iter().collect::<Vec<_>>(),
                    "ip": open.ip, "path": &*open.path, "subprotocol": open.subprotocol.as_deref()});
                known.insert(open.conn, who);
            }
            Event::Close(close) => _ = known.remove(&close.conn),
            _ => {}
        }
        if !quiet || matches!(event, Event::Pong { .. }) {
            tell(&event);
        }
        match event {
            Event::Upgrade(upgrade) => answer(upgrade, &authenticate, server)?,
            Event::Text(conn, text) => _ = server.conn(conn).send(text)?,
            Event::Binary(conn, payload) => _ = server.conn(conn).send(payload)?,
            Event::Message(message) if message.event == "whoami" => {
                // One that was there before a reload may have nothing kept.
                server.reply(&message, "whoami", known.get(&message.conn).unwrap_or(&Value::Null))?;
            }
            Event::Message(message) => handle(&message, server)?,
            _ => {}
        }
        Ok(())
    });
    if DRAIN_ASKED.load(Ordering::Acquire) {
        print(&json!({"type": "done", "do": "drain", "ok": true}));
    }
    Ok(())
}

/// The application of the `json` protocol.
fn handle(message: &JsonMessage<'_>, server: &Handle) -> HandlerResult {
    let (conn, data) = (server.conn(message.conn), &message.data);
    let value: Value = message.data()?;
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    match message.event {
        "echo" => server.reply(message, "echo", data)?,
        "join" => {
            conn.join(text("room"))?;
            server.reply(message, "joined", data)?
        }
        "leave" => {
            conn.leave(text("room"))?;
            server.reply(message, "left", data)?
        }
        "say" => server.room(text("room")).emit("said", data)?,
        "throw" => return Err("the handler of `throw` fails, as it was asked to".into()),
        "block" => {
            std::thread::sleep(Duration::from_millis(value["ms"].as_u64().unwrap_or(0)));
            server.reply(message, "unblocked", data)?
        }
        "close" => {
            let code = match &value["code"] {
                Value::Null => 1000,
                stated => stated.as_u64().and_then(|code| u16::try_from(code).ok()).ok_or("code is no close code")?,
            };
            conn.close(code, text("reason"))?
        }
        _ => return Ok(()),
    };
    Ok(())
}

/// The application's authentication, as `app.authenticate` scripts it.
#[expect(clippy::panic, reason = "`boom` must fail as a real callback would")]
fn answer(upgrade: &Upgrade, script: &Value, server: &Handle) -> Result<(), Error> {
    let token = upgrade.request.header("x-auth-token").unwrap_or_default();
    let user = || script["user"].as_str().map(str::to_owned);
    let decision = match token {
        "boom" => panic!("the authentication callback fails, as it was asked to"),
        "hang" => return Ok(()),
        "teapot" => {
            let headers = vec![("X-Reason".into(), "teapot".into())];
            Decision::Reject(Reject { status: 418, headers, body: b"short and stout".to_vec() })
        }
        "cookie" => {
            let headers = vec![("Set-Cookie".into(), "sid=1".into())];
            Decision::Accept(Accept { user: user(), headers, ..Accept::default() })
        }
        "admin" => {
            Decision::Accept(Accept { user: Some("root".into()), roles: vec!["admin".into()], ..Accept::default() })
        }
        "proto" => {
            let offered = upgrade.request.header("sec-websocket-protocol").unwrap_or_default();
            let second = offered.split(',').nth(1).map(|name| name.trim().to_owned());
            Decision::Accept(Accept { user: user(), subprotocol: second, ..Accept::default() })
        }
        "twice" => {
            let accept = Decision::Accept(Accept { user: user(), ..Accept::default() });
            settle(server, upgrade.ticket, accept.clone())?;
            return settle(server, upgrade.ticket, accept);
        }
        // What an application must not be able to send, for the tests.
        "inject" => {
            let headers = vec![("X-A".into(), "1\r\nX-Evil: 1".into())];
            Decision::Accept(Accept { user: user(), headers, ..Accept::default() })
        }
        "oversize" => Decision::Reject(Reject { status: 403, headers: Vec::new(), body: vec![b'x'; 65_537] }),
        good if script["token"] == good => {
            let expires_at_ms = script["expires_in_ms"].as_u64().map(|lifetime| unix_ms() + lifetime);
            let accept = Accept { user: user(), expires_at_ms, ..Accept::default() };
            return settle_later(server, upgrade.ticket, accept, script["delay_ms"].as_u64().unwrap_or(0));
        }
        _ => Decision::unauthorized(),
    };
    settle(server, upgrade.ticket, decision)
}

fn settle_later(server: &Handle, ticket: TicketId, accept: Accept, delay_ms: u64) -> Result<(), Error> {
    if delay_ms == 0 {
        return settle(server, ticket, Decision::Accept(accept));
    }
    let server = server.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(delay_ms));
        settle(&server, ticket, Decision::Accept(accept))
    });
    Ok(())
}

fn settle(server: &Handle, ticket: TicketId, decision: Decision) -> Result<(), Error> {
    if !server.answer(ticket, decision)? {
        eprintln!("the answer came too late");
    }
    Ok(())
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn tell(event: &Event<'_>) {
    let conn = event.conn().map(|conn| conn.to_string());
    let line = match event {
        Event::Open(open) => json!({"type": "open", "conn": conn, "ip": open.ip, "user": open.user.as_deref(),
            "path": &*open.path, "subprotocol": open.subprotocol.as_deref(), "roles": open.roles.iter().collect::<Vec<_>>(),
            "compressed": open.compressed}),
        Event::Text(_, text) => json!({"type": "message", "conn": conn, "kind": "text", "bytes": text.len()}),
        Event::Binary(_, payload) => json!({"type": "message", "conn": conn, "kind": "binary", "bytes": payload.len()}),
        Event::Message(message) => {
            json!({"type": "message", "conn": conn, "event": message.event, "bytes": message.bytes})
        }
        Event::Close(close) => {
            json!({"type": "close", "conn": conn, "code": close.code, "reason": close.reason, "clean": close.clean})
        }
        Event::Violation(violation) => json!({"type": "violation", "code": violation.code.name(), "ip": violation.ip,
            "user": violation.user.as_deref(), "conn": conn, "event": violation.event.as_deref()}),
        Event::Pong { .. } => json!({"type": "pong", "conn": conn}),
        _ => return,
    };
    print(&line);
}

/// Standard input after the first line; its end drains the server, which ends the program.
fn read_commands(server: &Handle) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let command: Value = serde_json::from_str(&line).unwrap_or_default();
        match command["do"].as_str().unwrap_or_default() {
            "stats" => print(&stats(server)),
            "drain" => {
                let number = |key: &str, default| command[key].as_u64().unwrap_or(default);
                DRAIN_ASKED.store(true, Ordering::Release);
                let (timeout_ms, jitter_ms) =
                    (number("timeout_ms", DRAIN.timeout_ms), number("jitter_ms", DRAIN.jitter_ms));
                server.drain(Drain { timeout_ms, jitter_ms });
            }
            name => print(&commands::run(server, name, &command)),
        }
    }
    server.drain(DRAIN);
}

fn stats(server: &Handle) -> Value {
    let stats = server.stats();
    let verdicts: serde_json::Map<String, Value> = Code::ALL
        .iter()
        .filter(|code| stats.verdict(**code) > 0)
        .map(|code| (code.name().to_owned(), stats.verdict(*code).into()))
        .collect();
    json!({"type": "stats", "connections": stats.connections, "open": stats.open, "opened_total": stats.opened_total,
        "messages_in": stats.messages_in, "bytes_in": stats.bytes_in, "bytes_out": stats.bytes_out,
        "inbox_bytes": stats.inbox_bytes, "outbox_bytes": stats.outbox_bytes, "delayed": stats.delayed,
        "pending_auth": stats.pending_auth,
        "upgrades_in_inbox": stats.upgrades_in_inbox, "refusing": stats.refusing, "rooms": stats.rooms,
        "room_memberships": stats.room_memberships,
        "messages_compressed_in": stats.messages_compressed_in, "bytes_inflated": stats.bytes_inflated,
        "messages_compressed_out": stats.messages_compressed_out, "messages_left_plain": stats.messages_left_plain,
        "compression_saved_bytes": stats.compression_saved_bytes, "pipe_bytes": stats.pipe_bytes,
        "cluster_up": stats.cluster_up, "cluster_dropped": stats.cluster_dropped, "verdicts": verdicts})
}

/// SIGTERM and SIGINT drain, as an orchestrator expects.
fn drain_on_signal(server: Handle) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]) else { return };
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            server.drain(DRAIN);
        }
    });
}
