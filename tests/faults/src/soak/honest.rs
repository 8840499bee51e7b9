//! Honest clients with a life: they shake hands, join rooms, echo and say, leave politely and come back, well below every
//! limit. Whatever disturbs one of them is counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::dice::Dice;
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::wire::{Dial, Target};

use crate::ledger::{self, Kind, LOBBY, Ledger, Wrong};
use crate::policy::Policy;
use crate::tally::Tally;

/// How many there are: three of each user, four in each room.
pub(crate) const MEMBERS: usize = 12;
const ROOMS: usize = 3;
/// One of so many talks compressed: in each room there are some that do, and some that do not.
const OFFERS_ONE_OF: usize = 2;

fn name(member: usize) -> String {
    format!("honest-{member}")
}

/// One honest client.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    target: &'a Target,
    tally: &'a Tally,
    dice: Dice,
    opening: Opening,
    dial: Dial,
    name: String,
    room: String,
    peers: Vec<String>,
    next_echo: u64,
    next_said: u64,
}

/// One connection of a member.
struct Session {
    client: Client,
    ledger: Ledger,
    /// Messages that have still to come, by kind.
    echoes: u64,
    said: u64,
    memberships: u64,
    /// What went wrong has its own count; what is outstanding is then not known.
    judged: bool,
}

impl<'a> Member<'a> {
    /// The one with this number.
    pub(crate) fn new(member: usize, target: &'a Target, tally: &'a Tally, policy: Policy, seed: u64) -> Self {
        let user = member % Policy::USERS;
        let room = member % ROOMS;
        let opening = Opening::with_token(&policy.honest_token(user));
        Self {
            target,
            tally,
            dice: Dice::of_stream(seed, 1000 + member as u64),
            opening: if member.is_multiple_of(OFFERS_ONE_OF) { opening.compressed() } else { opening },
            dial: Dial::from_host(11 + user as u8),
            name: name(member),
            room: format!("room-{room}"),
            peers: (0..MEMBERS).filter(|other| other % ROOMS == room).map(name).collect(),
            next_echo: 0,
            next_said: 0,
        }
    }

    /// Comes and goes until it is to stop.
    pub(crate) fn live(mut self) {
        while !self.tally.honest_stop.load(Ordering::Relaxed) {
            match self.enter() {
                Ok(client) => self.stay(client),
                Err(failure) => {
                    self.tally.refused.add(1);
                    self.tally.note(failure.during(format_args!("a handshake of {}", self.name)));
                    self.dice.pause(200..400);
                }
            }
        }
    }

    fn enter(&self) -> Outcome<Client> {
        let client = Client::open(self.target, self.dial, &self.opening)?;
        let offers = self.opening.headers.iter().any(|(name, _)| name == "Sec-WebSocket-Extensions");
        ensure!(client.agreed.is_some() == offers, "compression was offered: {offers}; it was agreed on: {}", !offers);
        self.tally.handshakes.add(1);
        Ok(client)
    }

    /// One connection from its opening to its end.
    fn stay(&mut self, client: Client) {
        let ledger = Ledger::new(&self.name, &self.room, &self.peers, self.next_echo);
        let mut session = Session { client, ledger, echoes: 0, said: 0, memberships: 0, judged: false };
        if let Err(failure) = self.work(&mut session) {
            if !session.judged {
                self.tally.lost.add((session.echoes + session.said + session.memberships).max(1));
            }
            self.tally.note(failure.during(&self.name));
        } else if let Err(failure) = session.client.leave() {
            self.tally.lost.add(1);
            self.tally.note(failure.during(format_args!("{} leaves", self.name)));
        }
    }

    fn work(&mut self, session: &mut Session) -> Outcome {
        let mut hello = session.message("join", &json!({"room": self.room}), None)?;
        hello.extend(session.message("join", &json!({"room": LOBBY}), None)?);
        session.memberships = 2;
        session.client.send(&hello)?;
        for _ in 0..self.dice.within(10..80) {
            self.round(session)?;
            if self.tally.honest_stop.load(Ordering::Relaxed) {
                break;
            }
            self.dice.pause(200..600);
        }
        let goodbye = session.message("leave", &json!({"room": self.room}), None)?;
        session.client.send(&goodbye)?;
        session.memberships += 1;
        self.await_all(session)?;
        // Of ten echoes in a row some are longer than the threshold.
        let Client { agreed, compressed, .. } = session.client;
        let is_sure = agreed.is_none() || self.tally.honest_stop.load(Ordering::Relaxed);
        ensure!(is_sure || compressed > 0, "nothing came compressed");
        Ok(())
    }

    /// A few echoes, sometimes a word in the room; everything must come back.
    fn round(&mut self, session: &mut Session) -> Outcome {
        let mut frames = Vec::new();
        for _ in 0..self.dice.within(1..5) {
            let data = ledger::data(&self.name, self.next_echo);
            frames.extend(session.message("echo", &data, Some(self.next_echo))?);
            self.next_echo += 1;
            session.echoes += 1;
        }
        if self.dice.within(0..3) == 0 {
            frames.extend(session.message("say", &ledger::said(&self.room, &self.name, self.next_said), None)?);
            self.next_said += 1;
            session.said += 1;
        }
        session.client.send(&frames)?;
        self.await_all(session)
    }

    /// Reads until nothing is outstanding; what others say in the room comes in between.
    fn await_all(&mut self, session: &mut Session) -> Outcome {
        while session.echoes + session.said + session.memberships > 0 {
            let bytes = session.client.message(PATIENCE)?;
            let event = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let missing = match session.ledger.enter(&event) {
                Ok(kind) => {
                    session.count(kind, self.tally);
                    continue;
                }
                Err(Wrong::Lost(count)) => {
                    self.tally.lost.add(count);
                    format!("{count} are missing before")
                }
                Err(Wrong::Order) => {
                    self.tally.disorder.add(1);
                    "out of order:".to_owned()
                }
                Err(Wrong::Foreign) => {
                    self.tally.foreign.add(1);
                    "foreign:".to_owned()
                }
            };
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            // This connection is over, and the next starts anew.
            session.judged = true;
            return Err(Failure(format!("{missing} {text}")));
        }
        Ok(())
    }
}

impl Session {
    /// A message of its own, compressed where that was agreed.
    fn message(&self, event: &str, data: &Value, id: Option<u64>) -> Outcome<Vec<u8>> {
        let mut envelope = json!({"event": event, "data": data});
        if let Some(id) = id {
            envelope["id"] = id.into();
        }
        frame::message(self.client.agreed, frame::TEXT, envelope.to_string().as_bytes())
    }

    fn count(&mut self, kind: Kind, tally: &Tally) {
        let (outstanding, count) = match kind {
            Kind::Echo => (&mut self.echoes, &tally.echoes),
            Kind::OwnSaid => (&mut self.said, &tally.said),
            Kind::Said => return tally.said.add(1),
            Kind::Membership => {
                self.memberships = self.memberships.saturating_sub(1);
                return;
            }
        };
        *outstanding = outstanding.saturating_sub(1);
        count.add(1);
    }
}

/// A client that comes, has one echo and goes: what a server opens only with its first client is open then.
pub(crate) fn warm_up(target: &Target, policy: Policy) -> Outcome {
    let opening = Opening::with_token(&policy.honest_token(0));
    let mut client = Client::open(target, Dial::from_host(11), &opening)?;
    client.emit("echo", &json!("warm"))?;
    let echo = client.event(Duration::from_secs(20))?;
    ensure!(echo["data"] == "warm", "the first echo came back as {echo}");
    client.leave().map_err(|failure| failure.during("the first client leaves"))
}
