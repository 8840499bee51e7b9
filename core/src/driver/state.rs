//! What the threads of one server share: the policy, the limits, and the two roads between shards and application.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use tokio::sync::Notify;

use super::caught::said;
use super::clock::Clock;
use super::commands::Command;
use super::compile::threads;
use super::directory::Directory;
use super::ears::Ears;
use super::events::{EventBatch, ViolationEvent, kind};
use super::ids::{ConnectionId, MAX_SLOTS};
use super::inbox::Inbox;
use super::inline::Inline;
use super::jwks::Fetchers;
use super::level::Level;
use super::log::{Audit, Sampler, Subject, VerdictRecord, escape, printable};
use super::mailbox::ShardMailbox;
use super::membership::Membership;
use super::notices::Notices;
use super::shard_events::{Changes, Look, ShardEvents, Writing};
use super::stats::{ShardStats, Stats, Verdicts};
use super::telling::{Tell, Told};
use super::tickets::Tickets;
use super::tls::ServerTls;
use super::wake::{ApplicationWaker, Wake};
use wsguard_proto::bans::{Bans, ViolationCounts};
use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::config::PolicySet;
use wsguard_proto::connection::Report;
use wsguard_proto::limits::Limits;
use wsguard_proto::lock::lock;
use wsguard_proto::revocation::Revocations;
use wsguard_proto::time::Moment;

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Life {
    Running,
    Draining,
    Stopped,
}

/// What becomes of whoever a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An open connection ends.
    Ends,
    /// A handshake is refused, or what no connection is the cause of.
    Refuses,
    /// A message is answered or left out, and its connection goes on.
    Answers,
    /// Rules only report.
    Passes,
}

/// Whether the application is asked of handshakes, beyond what `auth` says, and for how long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consulting {
    /// Of each that has passed every check of ours.
    pub(super) of_everyone: bool,
    /// It decides as long as it likes.
    pub(super) without_deadline: bool,
}

/// The state of one server.
pub(super) struct ServerState {
    /// What new handshakes are judged by. Shards have it for themselves: nobody asks here on the way of a message.
    set: Mutex<Arc<PolicySet>>,
    /// The largest `max_outbox_bytes` of the set.
    largest_outbox: AtomicUsize,
    /// Held while one reload is on its way.
    pub(super) reloading: Mutex<()>,
    /// What corks of threads know it by: an address may be another server's by and by.
    pub(super) cork_id: u64,
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    /// Whether it listens where other machines can reach it.
    pub(super) is_public: bool,
    /// Whether it listens on a Unix socket; `None`: its connections come from elsewhere.
    pub(super) is_unix: Option<bool>,
    pub(super) tls: RwLock<Option<Arc<ServerTls>>>,
    pub(super) tickets: Arc<Tickets>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) directory: Directory,
    /// `None`: the server is alone.
    pub(super) cluster: OnceLock<Membership>,
    pub(super) notices: Notices,
    pub(super) jwks: Fetchers,
    pub(super) bans: Mutex<Bans>,
    /// What counts for `auto_ban`.
    pub(super) offences: Mutex<ViolationCounts>,
    /// The shards, as other threads see them.
    pub(super) shards: Arc<[ShardMailbox]>,
    events: Box<[ShardEvents]>,
    changes: Changes,
    pub(super) inbox: Arc<Inbox>,
    pub(super) waker: Arc<ApplicationWaker>,
    pub(super) inline: Option<Box<dyn Inline>>,
    /// Every ping and pong of a peer is told.
    pub(super) heeds_control: AtomicBool,
    /// The application is told that a connection has begun to close.
    pub(super) heeds_closing: AtomicBool,
    pub(super) ears: Arc<Ears>,
    /// Handshakes that are none are refused as the npm package `ws` does, and version 8 is as good as 13.
    pub(super) is_like_ws: bool,
    /// Pings of new connections are the application's to answer.
    pub(super) leaves_pings: bool,
    pub(super) sampler: Sampler,
    pub(super) audit: Audit,
    /// When the first drain began.
    pub(super) drain_began: OnceLock<Moment>,
    /// Handshakes that are only still there to be refused.
    pub(super) refusing: Level,
    /// Bytes in pipes, in both directions.
    pub(super) pipe_bytes: Level,
    /// Whether and how the application is asked of whoever has passed every check.
    pub(super) consulting: Consulting,
    /// Open connections of all shards.
    pub(super) open: AtomicUsize,
    /// Reloads that were refused.
    pub(super) reload_failures: AtomicU64,
    /// Told when the last shard has ended.
    pub(super) over: Notify,
    refused_over_tls: Mutex<Bucket>,
    verdicts: Verdicts,
    life: AtomicU8,
    /// The application has taken every event, and was told that the server has stopped.
    pub(super) end_was_told: AtomicBool,
    /// A shard has died.
    failed: AtomicBool,
}

impl core::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ServerState").field("life", &self.life()).finish_non_exhaustive()
    }
}

/// What the corks of threads know a server by: its address may be another server's by and by.
fn fresh_cork_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl ServerState {
    pub(super) fn new(
        set: PolicySet,
        tls: Option<Arc<ServerTls>>,
        inline: Option<Box<dyn Inline>>,
        wake: Box<dyn Wake>,
        is_public: bool,
    ) -> Self {
        let clock = Clock::start();
        let threads = threads(set.top.threads);
        // As many as there can be: a reload may raise `max_connections`. What is not used takes next to nothing.
        let shards: Arc<[_]> = (0..threads).map(|_| ShardMailbox::new(MAX_SLOTS)).collect();
        Self {
            cork_id: fresh_cork_id(),
            limits: Arc::default(),
            is_public,
            is_unix: None,
            clock,
            tls: RwLock::new(tls),
            tickets: Arc::default(),
            revocations: Arc::default(),
            directory: Directory::default(),
            cluster: OnceLock::new(),
            notices: Notices::default(),
            jwks: Fetchers::default(),
            bans: Mutex::default(),
            offences: Mutex::default(),
            events: (0..threads).map(|shard| ShardEvents::new(shard, clock)).collect(),
            changes: Changes::default(),
            inbox: Arc::new(Inbox::new(Arc::clone(&shards), set.top.max_inbox_bytes)),
            waker: Arc::new(ApplicationWaker::new(wake)),
            shards,
            inline,
            heeds_control: AtomicBool::new(false),
            heeds_closing: AtomicBool::new(false),
            ears: Arc::default(),
            is_like_ws: false,
            leaves_pings: false,
            sampler: Sampler::default(),
            audit: Audit::default(),
            drain_began: OnceLock::new(),
            refusing: Level::default(),
            pipe_bytes: Level::default(),
            consulting: Consulting::default(),
            open: AtomicUsize::new(0),
            reload_failures: AtomicU64::new(0),
            over: Notify::new(),
            refused_over_tls: Mutex::default(),
            verdicts: Verdicts::default(),
            life: AtomicU8::new(Life::Running as u8),
            end_was_told: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            largest_outbox: AtomicUsize::new(set.largest_outbox()),
            reloading: Mutex::default(),
            set: Mutex::new(Arc::new(set)),
        }
    }

    /// The shards close what was granted to a user before the revocation `number`.
    pub(super) fn close_revoked(&self, user: &str, number: u64) {
        for mailbox in self.shards.iter() {
            mailbox.post(|buffer| {
                let user = buffer.keep(user.as_bytes());
                buffer.commands.push(Command::DisconnectUser { user, number });
            });
        }
    }

    /// The server ends: no other node has to reckon with it.
    pub(super) fn leave_cluster(&self) {
        if let Some(membership) = self.cluster.get() {
            membership.leave();
        }
    }

    /// What new handshakes are judged by.
    pub(super) fn set(&self) -> Arc<PolicySet> {
        Arc::clone(&lock(&self.set))
    }

    pub(super) fn replace_set(&self, next: &Arc<PolicySet>) {
        self.largest_outbox.store(next.largest_outbox(), Ordering::Relaxed);
        *lock(&self.set) = Arc::clone(next);
    }

    /// What is larger can be sent to nobody.
    pub(super) fn largest_outbox(&self) -> usize {
        self.largest_outbox.load(Ordering::Relaxed)
    }

    /// What TLS is spoken by; `None`: none is.
    pub(super) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(super) fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Running,
            1 => Life::Draining,
            _ => Life::Stopped,
        }
    }

    /// Whether nothing more can be asked of it: it has stopped, or is about to because a part of it died.
    pub(super) fn is_over(&self) -> bool {
        self.life() == Life::Stopped || self.failed.load(Ordering::Acquire)
    }

    /// Whether it has stopped, and not by a fault, and the application has not taken every event.
    pub(super) fn is_ending(&self) -> bool {
        let is_stopped = self.life() == Life::Stopped && !self.failed.load(Ordering::Acquire);
        is_stopped && !self.end_was_told.load(Ordering::Acquire)
    }

    /// Moves on to a later stage of life; whether it was earlier.
    pub(super) fn advance(&self, life: Life) -> bool {
        self.life.fetch_max(life as u8, Ordering::AcqRel) < life as u8
    }

    /// Whether a handshake that is refused anyway is worth a TLS handshake to say so: some are, a storm is dropped.
    pub(super) fn may_refuse_over_tls(&self) -> bool {
        let rate = Rate::new(20.0, 100.0);
        lock(&self.refused_over_tls).try_pour(&rate, 1, self.clock.now()).is_ok()
    }

    /// Counts, logs and tells a verdict. `events` is where the application hears of it.
    ///
    /// What ends a connection is told however full the inbox is: there are no more of those than connections.
    /// Its records are for the caller to say, once `events` are not locked any more.
    pub(super) fn report(
        &self,
        report: &Report<'_>,
        subject: Subject<'_>,
        effect: Effect,
        events: &mut EventBatch,
        records: &mut Vec<VerdictRecord>,
    ) {
        self.verdicts.count(report.code);
        let now = self.clock.now();
        // A proxy is nobody to ban: where its address is all that is known, the record names no client.
        let top = Arc::clone(&self.set().top);
        let client = subject.ip.filter(|ip| !top.trusted_proxies.trusts(Some(*ip)));
        records.extend(self.sampler.record(report, Subject { ip: client, ..subject }, now));
        // What is only reported, or answered, bans nobody.
        if matches!(effect, Effect::Ends | Effect::Refuses) {
            records.extend(self.count_offence(report.code, client, &top, now));
        }
        // A flood of violations in the inbox leaves room for others' handshakes: they stay counted and logged.
        if self.waker.listens_to(kind::VIOLATION)
            && (effect == Effect::Ends || self.inbox.fill().takes_remarks())
            && self.sampler.passes_event(report.code, subject.ip, now)
        {
            events.push_violation(ViolationEvent {
                code: report.code,
                ip: subject.ip,
                user: subject.user.map(Arc::from),
                conn: subject.conn,
                event: report.event.map(|event| escape(event).into()),
                detail: printable(report.detail).into(),
                reported: effect == Effect::Passes,
            });
        }
    }

    /// Reports a verdict outside a connection's turn; `more` are events that come with it.
    pub(super) fn report_elsewhere(
        &self,
        shard: usize,
        report: &Report<'_>,
        subject: Subject<'_>,
        effect: Effect,
        more: impl FnOnce(&mut EventBatch),
    ) {
        let mut records = Vec::new();
        self.tell(shard, |events| {
            self.report(report, subject, effect, events, &mut records);
            more(events);
        });
        records.into_iter().for_each(VerdictRecord::say);
    }

    /// Adds events of `shard` outside a connection's turn and wakes the application.
    pub(super) fn tell(&self, shard: usize, push: impl FnOnce(&mut EventBatch)) {
        let mut writing = self.write_events(shard);
        push(writing.batch());
        if writing.finish().0 > 0 {
            self.waker.wake();
        }
    }

    /// Locks the events of `shard`, to add some.
    pub(super) fn write_events(&self, shard: usize) -> Writing<'_> {
        self.events[shard].write(&self.changes, &self.inbox, &self.waker)
    }

    /// Swaps events of a shard into the empty `batch`, if no other's come first.
    pub(super) fn take_events(&self, shard: usize, batch: &mut EventBatch) -> Look {
        let is_early = |change| self.events.iter().any(|other| other.holds_change_until(change));
        self.events[shard].take(batch, &self.changes, &self.inbox, is_early)
    }

    /// Takes events of any shard, those of the next after `turn` if it has some; returns whether there were any.
    pub(super) fn take_any(&self, turn: &mut usize, batch: &mut EventBatch) -> bool {
        let shards = self.events.len();
        let mut is_over = false;
        while !is_over {
            is_over = true;
            for _ in 0..shards {
                *turn = (*turn + 1) % shards;
                match self.take_events(*turn, batch) {
                    Look::Taken => return true,
                    Look::Nothing => {}
                    // What comes first may have come to a shard that was looked at before.
                    Look::Later => is_over = false,
                }
            }
        }
        false
    }

    #[cfg(test)]
    pub(super) fn events_capacity(&self, shard: usize) -> usize {
        self.events[shard].capacity()
    }

    /// When the oldest event came that the application has not taken; [`Moment::NEVER`]: it has taken all.
    pub(super) fn oldest_event(&self) -> Moment {
        self.events.iter().map(ShardEvents::oldest).min().unwrap_or(Moment::NEVER)
    }

    /// Lets buffers of `shard` go that nothing waits in.
    pub(super) fn shrink(&self, shard: usize) {
        self.shards[shard].shrink();
        self.events[shard].shrink();
    }

    /// A shard has died: half a server is worse than none, so all others stop, too.
    pub(super) fn fail(&self, shard: usize) {
        self.advance(Life::Draining);
        self.failed.store(true, Ordering::Release);
        for mailbox in self.shards.iter() {
            mailbox.post(|buffer| buffer.commands.push(Command::Stop));
        }
        said(|| {
            tracing::error!(target: "wsguard", shard, "a shard died: the server stops");
        });
    }

    /// The mailbox of the shard of `conn`; `None`: that connection is not open.
    pub(super) fn mailbox(&self, conn: ConnectionId) -> Option<&ShardMailbox> {
        self.shards.get(conn.shard()).filter(|mailbox| mailbox.slots.is_open(conn))
    }

    pub(super) fn stats(&self) -> Stats {
        let (rooms, room_memberships) = self.directory.counts();
        let cluster = self.cluster.get().map(Membership::facts).unwrap_or_default();
        let mut stats = Stats {
            cluster_up: cluster.is_up.into(),
            cluster_dropped: cluster.dropped,
            rooms,
            room_memberships,
            connections: self.limits.connections() as u64,
            refusing: self.refusing.get() as u64,
            upgrades_in_inbox: self.inbox.upgrades() as u64,
            pipe_bytes: self.pipe_bytes.get() as u64,
            inbox_bytes: self.inbox.bytes() as u64,
            pending_auth: self.tickets.len() as u64,
            verdicts: self.verdicts.snapshot(),
            ..Stats::default()
        };
        for of_shard in self.shards.iter().map(|mailbox| &mailbox.stats) {
            let ShardStats { open, opened_total, messages_in, bytes_in, bytes_out, outbox_bytes, delayed, .. } =
                of_shard;
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            stats.open += read(open);
            stats.opened_total += read(opened_total);
            stats.messages_in += read(messages_in);
            stats.bytes_in += read(bytes_in);
            stats.bytes_out += read(bytes_out);
            stats.outbox_bytes += read(outbox_bytes);
            stats.delayed += read(delayed);
            stats.messages_compressed_in += read(&of_shard.messages_compressed_in);
            stats.bytes_inflated += read(&of_shard.bytes_inflated);
            stats.messages_compressed_out += read(&of_shard.messages_compressed_out);
            stats.messages_left_plain += read(&of_shard.messages_left_plain);
            stats.compression_saved_bytes += read(&of_shard.compression_saved_bytes);
        }
        stats
    }
}

impl Tell for ServerState {
    fn tell_from_anywhere(&self, shard: usize, told: Told) {
        // Nobody takes an event any more.
        if self.life() == Life::Stopped {
            return;
        }
        let mut writing = self.write_events(shard);
        writing.batch().push_told(told);
        writing.finish();
        // At once: waking later asks for a runtime.
        self.waker.wake_at_once();
    }
}

/// A server of these options without threads, that wakes nobody.
#[cfg(test)]
pub(super) fn idle(more: &str) -> Arc<ServerState> {
    idle_with(more, None)
}

/// The same, with an inline handler.
#[cfg(test)]
pub(super) fn idle_with(more: &str, inline: Option<Box<dyn Inline>>) -> Arc<ServerState> {
    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", {more}}}"#);
    let policy = wsguard_proto::config::Options::from_json(&json).and_then(super::compile).unwrap();
    Arc::new(ServerState::new(policy, None, inline, Box::new(Nobody), false))
}
