//! The attacks. Each is the same bytes against either server, bounded in number and time; what is reported is what was
//! measured while it ran.

mod acts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wsguard::Code;

use crate::guests::{Guests, NOBODY, Pass, Tally};
use crate::journal::{Entry, Journal};
use crate::live::Live;
use crate::plain::Plain;
use crate::port::{CHAT_PATH, MODERATOR_PATH};
use crate::wire::{Claim, Seen, Sender, Socket, connect};
use crate::{MEMORY, policy};

pub(crate) use acts::ATTACKS;

/// No attack takes longer than this.
const LIMIT: Duration = Duration::from_secs(20);
/// Slow handshakes are kept up for this long; the first policy allows 2 s.
const HOLD: Duration = Duration::from_secs(4);

/// Which server is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Guarded,
    Plain,
}

/// What an attack does.
pub(crate) enum Act {
    /// A page of another origin, which the visitor's browser loads: see `page/foreign.js`.
    ForeignPage,
    /// A handshake without a credential, which then speaks.
    NoCredential,
    /// A guest's credential on the path of the moderators.
    GuestAsModerator,
    /// Plain text where TLS is spoken.
    Plaintext,
    /// Handshakes that never end.
    SlowHandshakes(u32),
    /// As many connections as one user gets.
    ManyConnections(u32),
    /// Whatever an open connection can send.
    Send(Payload),
}

impl Act {
    /// The path that is attacked.
    fn path(&self) -> &'static str {
        if matches!(self, Act::GuestAsModerator) { MODERATOR_PATH } else { CHAT_PATH }
    }
}

/// What is sent over an open connection.
pub(crate) enum Payload {
    /// One text message.
    Text(&'static str),
    /// One text message that is written by a function.
    Made(fn() -> String),
    /// This many small messages.
    Flood(u32),
    /// This many pings.
    Pings(u32),
    /// One message of this length.
    Oversize(usize),
    Binary(&'static [u8]),
    Unmasked(&'static str),
}

pub(crate) struct Attack {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Which protection it is about.
    pub(crate) protection: &'static str,
    pub(crate) why: &'static str,
    /// The telling part of what is sent.
    pub(crate) wire: &'static str,
    pub(crate) act: Act,
}

/// What was seen from the attacker's side.
#[derive(Default)]
struct Outcome {
    connections: u32,
    upgraded: u32,
    /// The HTTP status of the last handshake that was refused.
    status: Option<u16>,
    /// The close frame that ended it.
    close: Option<(u16, String)>,
    /// Connections that the server ended without an answer.
    dropped: u32,
    /// Connections that were still open when the attacker had enough.
    held: u32,
    sent: u64,
    pongs: u64,
    tally: Tally,
}

impl Outcome {
    fn is_refused(&self) -> bool {
        self.status.is_some() || self.close.is_some() || self.dropped > 0
    }

    /// Verdicts that this must have brought.
    fn refusals(&self) -> usize {
        (self.connections - self.held).max(1) as usize
    }
}

/// Runs attacks, one at a time.
pub(crate) struct Attacker {
    pub(crate) guarded: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) origin: String,
    pub(crate) live: Live,
    /// The text of the policy with TLS.
    pub(crate) tls_policy: String,
    pub(crate) guests: Arc<Guests>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) plain_chat: Arc<Plain>,
    pub(crate) turn: Mutex<()>,
}

impl Attacker {
    /// Runs an attack, and tells what came of it. `None`: the system has no randomness for a token.
    pub(crate) async fn run(&self, attack: &Attack, target: Target) -> Option<Value> {
        let _turn = self.turn.lock().await;
        let pass = self.guests.admit("intruder").ok()?;
        self.guests.dismiss(NOBODY);
        let mark = self.journal.mark();
        MEMORY.reset_peak_usage();
        let (memory_before, began) = (MEMORY.current_usage(), Instant::now());
        let act = self.act(&attack.act, target, &pass);
        let mut outcome = timeout(LIMIT, act).await.unwrap_or_default();
        let took = began.elapsed();
        let grown = MEMORY.peak_usage().saturating_sub(memory_before);
        let verdict = match target {
            Target::Guarded => {
                let user = (outcome.upgraded > 0).then_some(pass.user.as_str());
                let mut entries = self.journal.since(mark, user, outcome.refusals()).await;
                if entries.is_empty() && outcome.is_refused() {
                    // A policy that asks for no credential knows no users.
                    entries = self.journal.since(mark, None, outcome.refusals()).await;
                }
                Some(self.verdict(&entries, attack.act.path()))
            }
            Target::Plain => None,
        };
        let tally = self.guests.dismiss(&pass.user);
        if target == Target::Guarded {
            outcome.tally = if tally == Tally::default() { self.guests.dismiss(NOBODY) } else { tally };
        }
        Some(report(&outcome, took, grown, verdict.as_ref()))
    }

    /// Puts another policy into force; not during an attack, so that every verdict is of the policy that it is shown with.
    pub(crate) async fn apply(&self, policy: String) -> Value {
        let _turn = self.turn.lock().await;
        self.live.apply(policy).await
    }

    /// What the guarded server said since `mark` of somebody whom it did not let in, or of `guest`, as whom it did.
    pub(crate) async fn refused_since(&self, mark: u64, guest: Option<&str>) -> Value {
        let mut entries = self.journal.since(mark, None, 1).await;
        if entries.is_empty() && guest.is_some() {
            entries = self.journal.since(mark, guest, 1).await;
        }
        self.verdict(&entries, CHAT_PATH)
    }

    /// What the guarded server said of an attack on `path`, and the line of the policy in force that it comes from.
    fn verdict(&self, entries: &[Entry], path: &str) -> Value {
        let verdicts = || entries.iter().filter_map(|entry| if let Entry::Verdict(v) = entry { Some(v) } else { None });
        let record = entries.iter().find_map(|entry| if let Entry::Record(line) = entry { Some(line) } else { None });
        let Some(violation) = verdicts().next() else { return Value::Null };
        let code = violation.code;
        let is_tls = code == Code::TlsFailed;
        let policy = if is_tls { self.tls_policy.clone() } else { self.live.now().text };
        let source = policy::source(&policy, path, code, violation.event.as_deref(), &violation.detail);
        json!({
            "code": code.name(), "http": code.http_status(), "detail": &*violation.detail, "count": verdicts().count(), "record": record,
            "option": source.as_ref().map(|source| &*source.option), "line": source.as_ref().and_then(|source| source.line),
            "tls": is_tls,
        })
    }

    fn address(&self, target: Target) -> SocketAddr {
        if target == Target::Guarded { self.guarded } else { self.plain }
    }

    async fn act(&self, act: &Act, target: Target, pass: &Pass) -> Outcome {
        let claim = Claim { path: act.path(), origin: self.origin.clone(), token: Some(pass.token.clone()) };
        let server = self.address(target);
        match act {
            Act::ForeignPage => Outcome::default(),
            Act::NoCredential => {
                let claim = Claim { token: None, ..claim };
                self.converse(server, &claim, target, &Payload::Text(acts::IMPERSONATION)).await
            }
            Act::GuestAsModerator => self.converse(server, &claim, target, &Payload::Text(acts::ANNOUNCEMENT)).await,
            Act::Plaintext => {
                let server = if target == Target::Guarded { self.tls } else { server };
                self.converse(server, &claim, target, &Payload::Text(acts::SECRET)).await
            }
            Act::SlowHandshakes(count) => acts::slow_handshakes(server, &claim, *count, HOLD).await,
            Act::ManyConnections(count) => acts::many_connections(server, &claim, *count).await,
            Act::Send(payload) => self.converse(server, &claim, target, payload).await,
        }
    }

    /// Opens a connection, sends, and reads until the server ends it or has worked on everything.
    async fn converse(&self, server: SocketAddr, claim: &Claim, target: Target, payload: &Payload) -> Outcome {
        let handshake = connect(server, claim).await;
        let mut outcome = Outcome { connections: 1, ..Outcome::default() };
        let Some(Socket { local, mut sender, mut receiver }) = handshake.socket else {
            outcome.status = handshake.status;
            outcome.dropped = u32::from(handshake.status.is_none());
            return outcome;
        };
        outcome.upgraded = 1;
        let write = async {
            // An error here: the server has ended the connection, which is what the other side of this reads.
            let _ = send(payload, &mut sender).await;
            core::future::pending::<()>().await;
        };
        let read = async {
            loop {
                match receiver.next().await {
                    Seen::Message => {}
                    Seen::Pong => outcome.pongs += 1,
                    Seen::End => return outcome.held = 1,
                    Seen::Dropped => return outcome.dropped = 1,
                    Seen::Close(code, reason) => return outcome.close = Some((code, reason)),
                }
            }
        };
        tokio::select! { () = write => {}, () = read => {} }
        outcome.sent = sender.sent;
        if target == Target::Plain {
            outcome.tally = self.plain_chat.tally(local);
        }
        outcome
    }
}

async fn send(payload: &Payload, sender: &mut Sender) -> std::io::Result<()> {
    match payload {
        Payload::Text(text) => sender.text(text).await?,
        Payload::Made(make) => sender.text(&make()).await?,
        Payload::Flood(count) => {
            for number in 1..=*count {
                sender.text(&format!(r#"{{"event":"say","data":{{"text":"flood {number}"}}}}"#)).await?;
            }
        }
        Payload::Pings(count) => {
            for _ in 0..*count {
                sender.frame(crate::wire::PING, b"flood").await?;
            }
        }
        Payload::Oversize(len) => sender.long_text(*len, r#"{"event":"say","data":{"text":""#, r#""}}"#).await?,
        Payload::Binary(bytes) => sender.frame(crate::wire::BINARY, bytes).await?,
        Payload::Unmasked(text) => sender.unmasked(text).await?,
    }
    sender.barrier().await
}

fn report(outcome: &Outcome, took: Duration, grown: usize, verdict: Option<&Value>) -> Value {
    let Outcome { connections, upgraded, status, close, dropped, held, sent, pongs, tally } = outcome;
    json!({
        "connections": connections, "upgraded": upgraded, "status": status,
        "close": close.as_ref().map(|(code, reason)| json!({ "code": code, "reason": reason })),
        "dropped": dropped, "held": held, "sent": sent, "pongs": pongs,
        "reached": tally.reached, "delivered": tally.delivered, "unparsed": tally.unparsed,
        "memory": grown, "ms": took.as_secs_f64() * 1000.0, "verdict": verdict,
    })
}
