//! `wsguard serve`: a server that keeps a policy, answers every message with the same, and says on a line each what happens. For
//! work on a front end: what it refuses, the real server refuses.

mod lines;
mod out;

use serde_json::Value;
use wsguard::options::Auth;
use wsguard::{Decision, Drain, Event, Handle, Options, Server};

use crate::check::now_unix_s;
use crate::moments::moment;
use crate::outcome::{Ended, Failure, Outcome};
use crate::policy::{Source, with_code};
use crate::terminal::Paint;
use lines::{Line, Style};
use out::Out;

#[derive(clap::Args)]
#[command(after_help = "\
With the protocol json a message comes back as the same event with the same data, and with its id if it has one; with raw, as the
same bytes. Control-C closes the connections and ends it, a second one ends it at once; SIGHUP reads the policy again.

Examples:
  wsguard serve policy.json
  wsguard serve policy.json --listen 127.0.0.1:9000 --accept alice
  wsguard serve policy.json --json --no-data | jq .

Exit codes: 0 it was told to end; 2 it did not start.")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,

    /// The address to listen on, in place of the policy's.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// With auth: "callback" there is no application to ask: accept every handshake as this user. Without it they are refused.
    #[arg(long, value_name = "USER")]
    accept: Option<String>,

    /// Send each message to everybody, not only to its sender.
    #[arg(long)]
    broadcast: bool,

    /// Print a JSON object per line.
    #[arg(long)]
    json: bool,

    /// Do not print what is in messages.
    #[arg(long)]
    no_data: bool,
}

pub(crate) fn run(args: &Args) -> Ended {
    let options = options(args)?;
    let name = args.source.name();
    let is_callback = matches!(options.auth, Some(Auth::Callback));
    let paint = if args.json { Paint::default() } else { Paint::for_stdout() };
    let style = Style { as_json: args.json, without_data: args.no_data, paint };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start(options).map_err(|error| Failure::new(format!("{name}: {}", with_code(&error))))?;
        let echo = Echo { args, style, out: Out::start(move |lost| now(&Line::left_out(lost), style))?, handle: server.handle() };
        for address in server.addresses() {
            echo.say(&Line::new("listens").with("address", address.as_str()).with("policy", name.as_str()));
        }
        if is_callback && args.accept.is_none() {
            let what = "auth is \"callback\" and there is no application to ask: every handshake is refused; --accept USER lets them in";
            echo.say(&Line::new("notice").with("detail", what));
        }
        echo.run(server).await
    })?;
    Ok(Outcome::Well)
}

/// The policy's options with what the command line puts in their place.
fn options(args: &Args) -> Result<Options, Failure> {
    let (mut options, _) = args.source.options()?;
    if let Some(listen) = &args.listen {
        options.listen.clone_from(listen);
    }
    if args.accept.as_ref().is_some_and(|user| !(1..=256).contains(&user.len()) || user.contains(char::is_control)) {
        return Err(Failure::new("--accept: a user is 1 to 256 bytes without control characters"));
    }
    Ok(options)
}

/// A running echo.
struct Echo<'a> {
    args: &'a Args,
    style: Style,
    out: Out,
    handle: Handle,
}

impl Echo<'_> {
    async fn run(&self, mut server: Server) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let mut is_ending = false;
        loop {
            tokio::select! {
                event = server.recv() => match event {
                    Some(event) => self.handle(&event),
                    None => return self.out.outcome(),
                },
                signal = signals.next() => match signal {
                    Signal::Reload => self.reload(),
                    Signal::End if is_ending => self.handle.stop(),
                    Signal::End => {
                        is_ending = true;
                        self.say(&Line::new("ends").with("connections", self.handle.connections().len()));
                        self.handle.drain(Drain { timeout_ms: 3000, jitter_ms: 0 });
                    }
                },
                () = self.out.is_closed.notified() => self.handle.drain(Drain { timeout_ms: 1000, jitter_ms: 0 }),
            }
        }
    }

    fn handle(&self, event: &Event<'_>) {
        if let Some(line) = Line::of(event, self.style) {
            self.say(&line);
        }
        // An error here: the connection has closed meanwhile, or takes no more.
        match event {
            Event::Upgrade(upgrade) => {
                let decision = match &self.args.accept {
                    // Who is known by the policy stays so.
                    Some(user) => Decision::accept(user.as_str()),
                    None => Decision::reject(401),
                };
                let _ = self.handle.answer(upgrade.ticket, decision);
            }
            Event::Message(message) if self.args.broadcast => {
                let _ = self.handle.everyone().emit(message.event, &message.data);
            }
            Event::Message(message) => {
                let _ = self.handle.reply(message, message.event, &message.data);
            }
            Event::Text(_, text) if self.args.broadcast => drop(self.handle.everyone().send(*text)),
            Event::Text(conn, text) => drop(self.handle.conn(*conn).send(*text)),
            Event::Binary(_, bytes) if self.args.broadcast => drop(self.handle.everyone().send(*bytes)),
            Event::Binary(conn, bytes) => drop(self.handle.conn(*conn).send(*bytes)),
            _ => {}
        }
    }

    fn reload(&self) {
        let again = if self.args.source.is_stdin() {
            // What was on it is gone, and a terminal would be waited for.
            Err(Failure::new("standard input was read at the start: give a file to have it read again"))
        } else {
            options(self.args)
        };
        let reloaded =
            again.and_then(|options| self.handle.reload(options).map_err(|error| Failure::new(with_code(&error))));
        match reloaded {
            Ok(generation) => self.say(&Line::new("reloaded").with("generation", generation)),
            Err(error) => self.say(&Line::new("error").with("detail", Value::from(error.to_string()))),
        }
    }

    fn say(&self, line: &Line) {
        self.out.say(now(line, self.style));
    }
}

/// A line with the time that it is.
fn now(line: &Line, style: Style) -> String {
    line.written(&moment(now_unix_s())[..19], style)
}

/// What the process is told.
enum Signal {
    End,
    Reload,
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::End,
            _ = self.terminate.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        // An error here: the system tells nothing, and the server goes on.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End
    }
}
