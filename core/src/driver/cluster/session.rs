//! The connections of one stay with Redis: ops go out as commands to whoever serves their keys, and come back as replies.
//!
//! Commands about one slot keep their order, also where a Cluster moves it: as soon as a server says that a slot is elsewhere,
//! nothing new is sent until all that is on its way is answered and the map of the slots was read again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wsguard_proto::cluster::ops::{Op, OpId, Reply, Topic};
use wsguard_proto::cluster::store::{Command, Store, Value};
use wsguard_proto::cluster::url::Host;

use super::connect::{Connected, Server, Target, ask_slots};
use super::lane::{Awaited, Event, Lane};
use super::refusal::{Refusal, ends_session, explain};
use super::slots::{SlotMap, redirection};
use crate::driver::caught::said;

/// Commands and bytes that are on their way at most; then nothing more is sent until some are answered.
const MAX_COMMANDS: usize = 8192;
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How often a command is sent elsewhere.
const MAX_REDIRECTIONS: u8 = 8;
/// Keys of one command are on two servers while their slot moves: it is sent again after this time, so often at most.
const TRY_AGAIN: Duration = Duration::from_millis(20);
const MAX_TRIES: u8 = 45;
/// Servers that a slot moves to, and that have none yet.
const MAX_NEW: usize = 16;
/// How often it is said that an op of one kind fails.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Reply(OpId, Reply),
    Heard(Topic, Vec<u8>),
    /// What nodes of another database say to one another.
    Overheard,
}

/// An op whose commands are on their way.
struct Asked {
    id: OpId,
    op: Op,
    values: Vec<Option<Value>>,
}

struct Place {
    host: Host,
    lane: Lane,
}

/// Connections that work.
pub(super) struct Session {
    target: Arc<Target>,
    store: Store,
    places: Vec<Place>,
    /// Of a Cluster.
    slots: Option<SlotMap>,
    is_sharded: bool,
    asked: HashMap<u64, Asked>,
    next: u64,
    commands: usize,
    bytes: usize,
    /// Which server channels are heard at.
    heard_at: HashMap<Vec<u8>, usize>,
    /// Channels that a server stopped to send.
    cut: HashSet<Vec<u8>>,
    /// What is sent once the map is read again.
    parked: Vec<Awaited>,
    is_stale: bool,
    /// Servers that the map does not name, and that have what is asked for.
    new: Vec<Host>,
    /// What is sent again, and when.
    later: VecDeque<(Instant, Awaited)>,
    /// The server that something came from last.
    turn: usize,
    outcomes: VecDeque<Outcome>,
    /// When it was said last that something failed.
    told: HashMap<&'static str, Instant>,
}

impl Session {
    pub(super) fn new(target: Arc<Target>, connected: Connected) -> Self {
        let is_sharded = connected.is_sharded();
        let now = Instant::now();
        Self {
            store: target.store(is_sharded),
            target,
            places: connected.servers.into_iter().map(|server| Place::new(server, now)).collect(),
            slots: connected.slots,
            is_sharded,
            asked: HashMap::new(),
            next: 0,
            commands: 0,
            bytes: 0,
            heard_at: HashMap::new(),
            cut: HashSet::new(),
            parked: Vec::new(),
            is_stale: false,
            new: Vec::new(),
            later: VecDeque::new(),
            turn: 0,
            outcomes: VecDeque::new(),
            told: HashMap::new(),
        }
    }

    /// Masters of a Cluster: whom to ask the next time.
    pub(super) fn masters(&self) -> Vec<Host> {
        self.slots.as_ref().map(|slots| slots.masters.clone()).unwrap_or_default()
    }

    /// Whether ops may be carried out now.
    pub(super) fn has_room(&self) -> bool {
        !self.is_stale && self.commands < MAX_COMMANDS && self.bytes < MAX_BYTES
    }

    /// Whether everything was answered.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Carries out an op.
    pub(super) fn carry(&mut self, id: OpId, op: Op, now: Instant) {
        let commands = match &op {
            Op::Subscribe { topic } => self.hear(topic, ["SUBSCRIBE", "SSUBSCRIBE"]),
            Op::Unsubscribe { topic } => self.hear(topic, ["UNSUBSCRIBE", "SUNSUBSCRIBE"]),
            _ => self.store.commands(&op),
        };
        let serial = self.next;
        self.next += 1;
        self.asked.insert(serial, Asked { id, op, values: vec![None; commands.len()] });
        if commands.is_empty() {
            self.finish(serial);
        }
        for (index, command) in commands.into_iter().enumerate() {
            self.send(Awaited { of: Some((serial, index)), command, redirections: 0, tries: 0 }, now);
        }
    }

    /// In a Cluster messages of nodes come by channels of slots, and those from outside by channels of the whole Cluster.
    fn hear(&self, topic: &Topic, names: [&'static str; 2]) -> Vec<Command> {
        let channel = topic.channel(self.store.name()).into_bytes();
        let names = if self.is_sharded { &names[..] } else { &names[..1] };
        names.iter().map(|name| Awaited::plain(name, vec![channel.clone()]).command).collect()
    }

    fn owner(&self, key: &[u8]) -> usize {
        let host = self.slots.as_ref().map(|slots| slots.owner(key));
        host.and_then(|host| self.place(host)).unwrap_or(0)
    }

    fn place(&self, host: &Host) -> Option<usize> {
        self.places.iter().position(|place| place.host == *host)
    }

    fn send(&mut self, awaited: Awaited, now: Instant) {
        let key = awaited.command.keys.first().cloned().unwrap_or_default();
        let mut at = self.owner(&key);
        match awaited.command.name {
            "SUBSCRIBE" | "SSUBSCRIBE" => drop(self.heard_at.insert(key, at)),
            "UNSUBSCRIBE" if self.is_sharded => at = self.heard_at.get(&key).copied().unwrap_or(at),
            "UNSUBSCRIBE" | "SUNSUBSCRIBE" => at = self.heard_at.remove(&key).unwrap_or(at),
            _ => {}
        }
        self.send_to(at, awaited, now);
    }

    fn send_to(&mut self, at: usize, awaited: Awaited, now: Instant) {
        self.commands += 1;
        self.bytes += awaited.size();
        self.places[at].lane.send(awaited, now);
    }

    /// Writes what was carried out.
    pub(super) fn flush(&mut self) {
        self.places.iter_mut().for_each(|place| place.lane.flush());
    }

    /// What came, or why the stay is over.
    pub(super) fn poll_outcome(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Outcome, String>> {
        loop {
            if let Some(outcome) = self.outcomes.pop_front() {
                return Poll::Ready(Ok(outcome));
            }
            // Each server has its turn, so that none waits behind a busy one.
            let places = self.places.len();
            let came = (1..=places).find_map(|step| {
                let at = (self.turn + step) % places;
                match self.places[at].lane.poll_event(cx, now) {
                    Poll::Ready(event) => Some((at, event)),
                    Poll::Pending => None,
                }
            });
            let Some((at, event)) = came else { return Poll::Pending };
            self.turn = at;
            match event? {
                Event::Pushed(push) => self.pushed(push),
                Event::Answered(awaited, value) => self.answered(at, awaited, value, now)?,
            }
        }
    }

    fn pushed(&mut self, mut push: Vec<Value>) {
        let [Value::Bytes(kind), Value::Bytes(channel), ..] = push.as_slice() else { return };
        match kind.as_slice() {
            b"message" | b"smessage" => {
                let topic = Topic::parse(self.store.name(), channel);
                if let (Some(topic), Some(Value::Bytes(bytes))) = (topic, push.pop()) {
                    let bytes = self.store.opened(bytes);
                    self.outcomes.push_back(bytes.map_or(Outcome::Overheard, |bytes| Outcome::Heard(topic, bytes)));
                }
            }
            // The slot of the channel is elsewhere now.
            b"sunsubscribe" if self.heard_at.contains_key(channel) => {
                self.cut.insert(channel.clone());
                self.is_stale = true;
            }
            _ => {}
        }
    }

    fn answered(&mut self, at: usize, awaited: Awaited, value: Value, now: Instant) -> Result<(), String> {
        self.commands -= 1;
        self.bytes = self.bytes.saturating_sub(awaited.size());
        let Value::Error(error) = &value else {
            self.note(&awaited, value);
            return Ok(());
        };
        if ends_session(error) {
            return Err(explain(error));
        }
        let may_redirect = awaited.redirections < MAX_REDIRECTIONS;
        let again = |awaited: Awaited| Awaited { redirections: awaited.redirections + 1, ..awaited };
        match error.split(' ').next().unwrap_or_default() {
            // Redis has lost its scripts (`SCRIPT FLUSH`): this loads one.
            "NOSCRIPT" if may_redirect && awaited.command.script.is_some() => {
                let awaited = again(awaited);
                self.commands += 1;
                self.bytes += awaited.size();
                self.places[at].lane.send_whole(awaited, now);
            }
            "MOVED" if may_redirect && self.slots.is_some() => {
                self.is_stale = true;
                self.parked.push(again(awaited));
            }
            "ASK" if may_redirect && self.slots.is_some() => {
                let host = redirection(error, &self.places[at].host);
                match host.as_ref().and_then(|host| self.place(host)) {
                    Some(at) => {
                        self.send_to(at, Awaited::plain("ASKING", Vec::new()), now);
                        self.send_to(at, again(awaited), now);
                    }
                    // A server that this node does not know yet. The map has it once it serves its first slot.
                    None => {
                        let known = host.filter(|host| self.new.len() < MAX_NEW && !self.new.contains(host));
                        self.new.extend(known);
                        self.is_stale = true;
                        self.parked.push(again(awaited));
                    }
                }
            }
            "TRYAGAIN" if awaited.tries < MAX_TRIES => {
                // Where it is sent next may have changed meanwhile: that is counted anew.
                let awaited = Awaited { tries: awaited.tries + 1, redirections: 0, ..awaited };
                self.later.push_back((now + TRY_AGAIN, awaited));
            }
            _ => self.note(&awaited, value),
        }
        Ok(())
    }

    fn note(&mut self, awaited: &Awaited, value: Value) {
        let Some((serial, index)) = awaited.of else { return };
        let Some(asked) = self.asked.get_mut(&serial) else { return };
        if let Some(place) = asked.values.get_mut(index) {
            *place = Some(value);
        }
        if asked.values.iter().all(Option::is_some) {
            self.finish(serial);
        }
    }

    fn finish(&mut self, serial: u64) {
        let Some(Asked { id, op, values }) = self.asked.remove(&serial) else { return };
        let values: Vec<Value> = values.into_iter().flatten().collect();
        let error = values.iter().find_map(|value| if let Value::Error(error) = value { Some(&**error) } else { None });
        let what = op.name();
        let reply = match self.store.reply(&op, &values) {
            // In a Cluster the number is of those at one server.
            Reply::Published(_) if self.slots.is_some() => Reply::Published(None),
            Reply::Failed(why) => {
                self.tell_failure(what, error);
                Reply::Failed(why)
            }
            reply => reply,
        };
        self.outcomes.push_back(Outcome::Reply(id, reply));
    }

    /// Says what does not work, of each thing once in a while: the node goes on without it, and an operator sees nothing else.
    fn tell_failure(&mut self, what: &'static str, error: Option<&str>) {
        let now = Instant::now();
        if self.told.get(what).is_some_and(|at| now.duration_since(*at) < TOLD_EVERY) {
            return;
        }
        self.told.insert(what, now);
        let why = error.map_or_else(|| "the answer is none that a node knows".to_owned(), explain);
        let url = &self.target.url;
        said(|| tracing::warn!(target: "wsguard", "cluster: {url} did not do what a node asked (`{what}`): {why}"));
    }

    /// Looks after connections that are quiet or do not answer.
    pub(super) fn tend(&mut self, now: Instant) -> Result<(), String> {
        // While the map is read again, nothing else is asked.
        while !self.is_stale
            && self.later.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, awaited)) = self.later.pop_front()
        {
            self.send(awaited, now);
        }
        self.flush();
        let mut pings = 0;
        for Place { lane, .. } in &mut self.places {
            let was_idle = lane.is_idle();
            lane.tend(now)?;
            if was_idle && !lane.is_idle() {
                pings += 1;
            }
        }
        self.commands += pings;
        self.bytes += pings * Awaited::plain("PING", Vec::new()).size();
        Ok(())
    }

    /// When [`tend`](Self::tend) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let later = self.later.front().filter(|_| !self.is_stale).map(|(at, _)| *at);
        self.places.iter().map(|place| place.lane.deadline()).chain(later).min()
    }

    /// Whether the map of the slots is to be read again, and may be.
    pub(super) fn has_to_renew(&self) -> bool {
        self.is_stale && self.places.iter().all(|place| place.lane.is_idle())
    }

    /// Reads the map of the slots again, and goes on by it.
    pub(super) async fn renew(&mut self) -> Result<(), Refusal> {
        let place = &mut self.places[0];
        let slots = ask_slots(place.lane.link(), &place.host).await?;
        let new = core::mem::take(&mut self.new);
        for master in slots.masters.iter().chain(&new) {
            if self.place(master).is_none() {
                let server = self.target.server(master, true).await?;
                self.places.push(Place::new(server, Instant::now()));
            }
        }
        self.slots = Some(slots);
        self.is_stale = false;
        let now = Instant::now();
        for awaited in core::mem::take(&mut self.parked) {
            self.send(awaited, now);
        }
        self.follow_channels(now);
        self.flush();
        Ok(())
    }

    /// Hears channels where their slots are now.
    fn follow_channels(&mut self, now: Instant) {
        let cut = core::mem::take(&mut self.cut);
        let owner_now = |(channel, at): (&Vec<u8>, &usize)| (channel.clone(), *at, self.owner(channel));
        let moved: Vec<_> =
            self.heard_at.iter().map(owner_now).filter(|(channel, at, to)| at != to || cut.contains(channel)).collect();
        for (channel, at, to) in moved {
            if at != to {
                self.send_to(at, Awaited::plain("UNSUBSCRIBE", vec![channel.clone()]), now);
                self.send_to(at, Awaited::plain("SUNSUBSCRIBE", vec![channel.clone()]), now);
            }
            let names = if self.is_sharded { &["SUBSCRIBE", "SSUBSCRIBE"][..] } else { &["SUBSCRIBE"][..] };
            for name in names {
                self.send(Awaited::plain(name, vec![channel.clone()]), now);
            }
        }
    }
}

impl Place {
    fn new(Server { host, link, .. }: Server, now: Instant) -> Self {
        Self { host, lane: Lane::new(link, now) }
    }
}
