//! Several users with several connections each, doing everything a peer can do, on fake time: no bucket lets more through
//! than its burst and its rate, none is deeper than its burst and its queue, and nothing is taken for ever. The models are levels in floating point; they share no code with what they check.

use super::*;

/// A level that falls with time and rises with what passes.
#[derive(Clone, Copy, Default)]
struct Level {
    level: f64,
    at: Moment,
}

impl Level {
    /// Pours and returns the level: what passed in the worst window that ends now, less what its time allows.
    fn pour(&mut self, amount: f64, per_second: f64, now: Moment) -> f64 {
        self.level = (self.level - now.since(self.at).as_secs_f64() * per_second).max(0.0) + amount;
        self.at = now;
        self.level
    }
}

#[derive(Clone, Debug)]
struct Limits {
    per_second: f64,
    burst: f64,
    queue: u32,
    bytes_per_second: f64,
    max_message_bytes: usize,
    is_raw: bool,
    reports_only: bool,
}

const COSTS: [(&str, f64); 4] = [("one", 1.0), ("free", 0.0), ("cheap", 0.2), ("dear", 2.5)];

impl Limits {
    fn policy(&self) -> Arc<Policy> {
        let events = COSTS.map(|(name, cost)| {
            format!(r#""{name}": {{"cost": {cost}, "schema": {{"type": "object", "required": ["n"]}}}}"#)
        });
        let events = if self.is_raw { String::new() } else { format!(r#", "events": {{{}}}"#, events.join(", ")) };
        policy(&format!(
            r#", "protocol": "{}", "on_violation": "{}", "max_message_bytes": {}, "close_timeout_ms": 400,
                "control_rate_limit": null, "rate_limit": {{"per_second": {}, "burst": {}, "queue": {},
                "bytes_per_second": {}}} {events}"#,
            if self.is_raw { "raw" } else { "json" },
            if self.reports_only { "report" } else { "enforce" },
            self.max_message_bytes,
            self.per_second,
            self.burst,
            self.queue,
            self.bytes_per_second,
        ))
    }

    fn byte_burst(&self) -> f64 {
        self.bytes_per_second.max(self.max_message_bytes as f64)
    }

    /// The longest that a message waits, in seconds.
    fn wait(&self) -> f64 {
        f64::from(self.queue) / self.per_second
    }
}

/// What one connection's application got: number, cost and bytes of each message.
#[derive(Default)]
struct Taken {
    messages: Vec<(u64, f64, usize)>,
    busy: bool,
}

impl Sink for Taken {
    fn message(&mut self, message: Message<'_>, _: &mut Vec<u8>) -> Result<(), Code> {
        let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
        self.messages.push(match message {
            Message::Text(text) => (number(text.split(' ').next().unwrap()), 1.0, text.len()),
            Message::Binary(payload) => {
                let text = std::str::from_utf8(payload).unwrap();
                (number(text.split(' ').next().unwrap()), 1.0, payload.len())
            }
            Message::Event { envelope, text } => {
                let digits = envelope.data.trim_start_matches(r#"{"n":"#).split(',').next().unwrap();
                // In report mode also what is invalid passes; it costs 1.
                let cost = COSTS.iter().find(|(name, _)| *name == envelope.event).map_or(1.0, |(_, cost)| *cost);
                (number(digits), cost, text.len())
            }
        });
        Ok(())
    }

    fn report(&mut self, _: Report<'_>) {}

    fn pong(&mut self, _: Duration) {}

    fn replies_may_come(&self) -> bool {
        self.busy
    }
}

struct Peer {
    user: usize,
    conn: Connection,
    taken: Taken,
    out: Vec<u8>,
    congested: bool,
    expires_at: Moment,
    /// Bytes that are still to be sent of what was begun.
    unsent: Vec<u8>,
    /// The number of the last message that was delivered.
    last: Option<u64>,
    /// The first number behind the peer's goodbye.
    goodbye: Option<u64>,
    told: bool,
}

struct World {
    limits: Limits,
    policy: Arc<Policy>,
    now: Moment,
    keys: Vec<Arc<RateKey>>,
    models: Vec<[Level; 2]>,
    peers: Vec<Peer>,
    pool: BufferPool,
    scratch: Scratch,
    deflate: Deflate,
    number: u64,
}

impl World {
    fn new(limits: &Limits, users: usize, connections: usize) -> Self {
        let mut world = World {
            policy: limits.policy(),
            limits: limits.clone(),
            now: Moment::from_millis(1000),
            keys: (0..users).map(|_| Arc::default()).collect(),
            models: vec![Default::default(); users],
            peers: Vec::new(),
            pool: BufferPool::default(),
            scratch: Scratch::new(),
            deflate: Deflate::default(),
            number: 0,
        };
        for index in 0..connections {
            let peer = world.connect(index % users, 0);
            world.peers.push(peer);
        }
        world
    }

    fn connect(&self, user: usize, lives_ms: u64) -> Peer {
        let expires_at = if lives_ms == 0 { Moment::NEVER } else { self.now.after_millis(lives_ms) };
        let opened = Opened { rate_key: Some(Arc::clone(&self.keys[user])), expires_at, ..Opened::default() };
        Peer {
            user,
            conn: Connection::new(&self.policy, opened, self.now),
            taken: Taken::default(),
            out: Vec::new(),
            congested: false,
            expires_at,
            unsent: Vec::new(),
            last: None,
            goodbye: None,
            told: false,
        }
    }

    /// One turn of a connection, and everything that must hold after it.
    fn turn<R>(&mut self, index: usize, act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> R) -> R {
        let peer = &mut self.peers[index];
        let ended = matches!(peer.conn.phase(), Phase::Doomed | Phase::Closing | Phase::Closed | Phase::Dropped);
        let result = act(
            &mut peer.conn,
            &mut Turn {
                policy: &self.policy,
                now: self.now,
                out: &mut peer.out,
                pool: &mut self.pool,
                scratch: &mut self.scratch,
                deflate: &mut self.deflate,
                congested: peer.congested,
                message_budget: 1000,
                sink: &mut peer.taken,
            },
        );
        let told = peer.conn.take_ending().is_some();
        assert!(!(told && peer.told), "told twice");
        peer.told |= told;
        let taken = core::mem::take(&mut peer.taken.messages);
        assert!(!ended || taken.is_empty(), "delivered behind the end");
        for (number, cost, bytes) in taken {
            assert!(number == u64::MAX || peer.last.is_none_or(|last| number > last), "out of order");
            assert!(
                number == u64::MAX || peer.goodbye.is_none_or(|goodbye| number < goodbye),
                "sent behind the goodbye"
            );
            assert!(self.now < peer.expires_at, "the session has expired");
            if number != u64::MAX {
                peer.last = Some(number);
            }
            if self.limits.reports_only {
                continue;
            }
            let Limits { per_second, burst, bytes_per_second, .. } = self.limits;
            let [messages, payload] = &mut self.models[peer.user];
            let level = messages.pour(cost, per_second, self.now);
            assert!(level <= burst.max(cost) + 1e-3, "{level} units passed, {burst} may");
            let (level, most) = (payload.pour(bytes as f64, bytes_per_second, self.now), self.limits.byte_burst());
            assert!(level <= most + 1e-3, "{level} bytes passed, {most} may");
        }
        self.check_levels();
        result
    }

    fn check_levels(&self) {
        for (user, key) in self.keys.iter().enumerate() {
            let waiting: usize =
                self.peers.iter().filter(|peer| peer.user == user).map(|peer| peer.conn.delayed_messages()).sum();
            assert_eq!(key.waiting() as usize, waiting, "places and messages");
            assert!(key.waiting() <= self.limits.queue);
            let (messages, bytes) = key.empty_at();
            let depth = |empty_at: Moment| empty_at.since(self.now).as_secs_f64();
            let most = self.limits.burst / self.limits.per_second + self.limits.wait();
            assert!(depth(messages) <= most + 1e-6, "{} s deep, {most} allowed", depth(messages));
            let most = self.limits.byte_burst() / self.limits.bytes_per_second + self.limits.wait();
            assert!(depth(bytes) <= most + 1e-6, "{} s deep in bytes, {most} allowed", depth(bytes));
        }
        for peer in &self.peers {
            assert!(
                self.limits.reports_only
                    || peer.conn.delayed.as_ref().is_none_or(|delayed| {
                        delayed.bytes() <= 4 * self.limits.max_message_bytes
                            && delayed.last_release() <= self.now.after_nanos((self.limits.wait() * 1e9) as u64 + 1)
                    })
            );
            assert!(!self.limits.reports_only || peer.conn.delayed_messages() == 0);
        }
    }

    /// Lets time pass, with every deadline in its time.
    fn pass(&mut self, nanos: u64) {
        let end = self.now.after_nanos(nanos);
        loop {
            let next = (0..self.peers.len())
                .map(|index| (self.peers[index].conn.next_deadline(&self.policy), index))
                .min()
                .filter(|(deadline, _)| *deadline <= end);
            let Some((deadline, index)) = next else { break };
            self.now = self.now.max(deadline);
            self.turn(index, Connection::handle_deadline);
            assert!(self.peers[index].conn.next_deadline(&self.policy) > self.now);
        }
        self.now = end;
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let used = self.turn(index, |conn, turn| conn.handle_input(&mut bytes, turn));
        assert_eq!(used, bytes.len());
    }

    fn message(&mut self, kind: u8, size: u16) -> Vec<u8> {
        self.number += 1;
        let number = self.number;
        let pad = "x".repeat(usize::from(size).min(self.limits.max_message_bytes - 60));
        let text = match (self.limits.is_raw, kind % 8) {
            (true, _) => format!("{number} {pad}"),
            (false, kind @ 0..=4) => {
                format!(r#"{{"event":"{}","data":{{"n":{number},"x":"{pad}"}}}}"#, COSTS[usize::from(kind) % 4].0)
            }
            (false, 5) => r#"{"event":"dear","data":null}"#.into(),
            (false, 6) => r#"{"event":"unknown","data":null}"#.into(),
            (false, _) => "nonsense".into(),
        };
        frame(0x81, text.as_bytes())
    }

    /// Drops a connection and opens another of the same user.
    fn reconnect(&mut self, index: usize, lives_ms: u64) {
        self.peers[index] = self.connect(self.peers[index].user, lives_ms);
        self.check_levels();
    }

    fn act(&mut self, index: usize, kind: u8, a: u16, b: u8) {
        if self.peers[index].conn.phase() == Phase::Dropped {
            self.reconnect(index, u64::from(a % 3 * 300));
        }
        let unsent = core::mem::take(&mut self.peers[index].unsent);
        match kind % 16 {
            0..=6 => {
                self.send(index, &unsent);
                for _ in 0..b % 12 {
                    // Mostly valid, or every connection ends at once.
                    let message = self.message(if kind < 96 { a as u8 % 4 } else { b }, a % 300);
                    self.send(index, &message);
                }
            }
            7 | 8 => {
                let mut bytes = unsent;
                if bytes.is_empty() {
                    bytes = self.message(a as u8 % 4, a % 900);
                }
                let cut = 1 + usize::from(b) % bytes.len();
                self.peers[index].unsent = bytes.split_off(cut);
                self.send(index, &bytes);
            }
            9 if unsent.is_empty() => {
                let goodbye = self.number + 1;
                self.peers[index].goodbye.get_or_insert(goodbye);
                self.send(index, &frame(0x88, b"\x03\xe8"));
            }
            10 => self.reconnect(index, u64::from(a % 5 * 200)),
            11 => self.turn(index, Connection::handle_half_close),
            12 => {
                self.send(index, &unsent);
                self.send(index, &frame(0x89, b"ping"));
                self.send(index, &[0x82, 0xfe, 0, 126 + b % 50, 0, 0, 0, 0]);
                self.peers[index].unsent = vec![b'9'; usize::from(126 + b % 50)];
            }
            13 => {
                self.peers[index].congested ^= true;
                self.peers[index].taken.busy = b & 1 == 0;
                self.peers[index].unsent = unsent;
                self.turn(index, Connection::handle_drained);
            }
            14 if b < 80 => self.turn(index, |conn, turn| conn.close(4000, "enough", turn)),
            14 if b < 160 => self.turn(index, Connection::handle_eof),
            _ => self.peers[index].unsent = unsent,
        }
    }

    /// Everybody leaves: nothing is taken for ever, and after `(burst + queue) / per_second` a key is as new.
    fn end(mut self) {
        self.peers.clear();
        for key in &self.keys {
            assert_eq!(key.waiting(), 0);
        }
        let Limits { per_second, burst, queue, bytes_per_second, .. } = self.limits;
        let messages = (burst + f64::from(queue)) / per_second;
        let bytes = self.limits.byte_burst() / bytes_per_second + self.limits.wait();
        self.now = self.now.after_nanos((messages.max(bytes) * 1e9) as u64 + 1000);
        for user in 0..self.keys.len() {
            self.models[user] = Default::default();
            let peer = self.connect(user, 0);
            self.peers.push(peer);
            let index = self.peers.len() - 1;
            let bytes = self.message(0, 0);
            let fits = (burst as usize).min((self.limits.byte_burst() / (bytes.len() as f64)) as usize);
            for _ in 0..fits {
                let bytes = self.message(0, 0);
                self.send(index, &bytes);
            }
            let key = &self.keys[user];
            assert!(key.waiting() == 0 && self.peers[index].conn.is_open(), "as new");
            assert_eq!(self.peers[index].last, Some(self.number), "all at once");
        }
    }
}

prop_compose! {
    fn any_limits()(
        per_second in 1.0f64..60.0, burst in 3u32..30, queue in 0u32..20, bytes_per_second in 200.0f64..6000.0,
        max_message_bytes in 200usize..1500, is_raw: bool, mode in 0u8..4,
    ) -> Limits {
        let reports_only = mode == 0;
        Limits { per_second, burst: burst.into(), queue, bytes_per_second, max_message_bytes, is_raw, reports_only }
    }
}

proptest! {
    /// One user on two to four connections.
    #[test]
    fn the_bucket_of_a_key_holds_whatever_its_connections_do(
        limits in any_limits(), connections in 2usize..5,
        actions in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>(), any::<u8>(), any::<u8>()), 1..150),
    ) {
        let mut world = World::new(&limits, 1, connections);
        for (who, kind, a, b, wait) in actions {
            world.act(usize::from(who) % connections, kind, a, b);
            world.pass(match wait { 0..160 => 0, 160..230 => u64::from(a) * 3_000, _ => u64::from(a) * 20_000 });
        }
        world.end();
    }

    /// Chaos: several users do not touch each other's buckets.
    #[test]
    fn users_do_not_share_what_is_theirs(
        limits in any_limits(),
        actions in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>(), any::<u8>(), any::<u8>()), 1..200),
    ) {
        let mut world = World::new(&limits, 4, 10);
        // The last user does nothing.
        let others = |who: u8| [0, 1, 2, 4, 5, 6, 8, 9][usize::from(who) % 8];
        for (who, kind, a, b, wait) in actions {
            world.act(others(who), kind, a, b);
            world.pass(if wait < 180 { 0 } else { u64::from(a) * 8_000 });
        }
        prop_assert_eq!(world.keys[3].empty_at(), (Moment::START, Moment::START));
        world.end();
    }
}

#[test]
fn the_loop_of_close_and_reconnect_gains_nothing() {
    let limits = Limits {
        per_second: 20.0,
        burst: 40.0,
        queue: 20,
        bytes_per_second: 262_144.0,
        max_message_bytes: 65_536,
        is_raw: true,
        reports_only: false,
    };
    let mut world = World::new(&limits, 1, 4);
    for round in 0..400 {
        let index = round % 4;
        for _ in 0..20 {
            let message = world.message(0, 0);
            world.send(index, &message);
        }
        world.send(index, &frame(0x88, b"\x03\xe8"));
        world.pass(25_000_000);
        world.reconnect(index, 0);
    }
    // 10 seconds: the model in `turn` has seen that no window held more.
    world.end();
}
