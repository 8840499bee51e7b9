//! What the threads of one server share: the policy, the limits, and the two roads between shards and application.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Clock;
use super::commands::CommandBuffer;
use super::events::{EventBatch, ViolationEvent, kind};
use super::ids::{ConnectionId, MAX_SLOTS, Slots};
use super::log::{Sampler, Subject, escape};
use super::notices::Notices;
use super::sink::Inline;
use super::stats::{ShardStats, Stats, Verdicts};
use super::tickets::Tickets;
use crate::bucket::{Bucket, Rate};
use crate::config::Policy;
use crate::connection::Report;
use crate::limits::{Limits, lock};
use crate::revocation::Revocations;

/// How long events that nobody listens to may wait for one that wakes the application anyway.
const UNHEEDED_WAIT: Duration = Duration::from_millis(20);

/// Wakes the application: called at most once per batch, on a shard's thread. It must not block.
pub trait Wake: Send + Sync + 'static {
    /// There are events, or the server has stopped.
    fn wake(&self);
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Life {
    Running,
    Draining,
    Stopped,
}

/// One shard as other threads see it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) slots: Slots,
    pub(super) stats: ShardStats,
    /// Connections that were handed to it and have not ended.
    pub(super) load: AtomicUsize,
    commands: Mutex<CommandBuffer>,
    commands_wait: AtomicBool,
    pub(super) commands_arrived: Notify,
    pub(super) events: Mutex<EventBatch>,
    /// The last batch that the application has let go.
    released: AtomicU64,
    /// Reading was stopped for want of room in the inbox; wake the shard when there is.
    pub(super) starved: AtomicBool,
}

impl Remote {
    /// Adds commands under the lock and wakes the shard when it may be asleep.
    pub(super) fn post(&self, write: impl FnOnce(&mut CommandBuffer)) {
        let mut commands = lock(&self.commands);
        write(&mut commands);
        drop(commands);
        if !self.commands_wait.swap(true, Ordering::AcqRel) {
            self.commands_arrived.notify_one();
        }
    }

    /// The shard will look for commands very soon: nobody needs to wake it for those that come until then.
    pub(super) fn expect_commands(&self) {
        self.commands_wait.store(true, Ordering::Release);
    }

    /// Takes all commands, leaving an empty buffer.
    pub(super) fn take_commands(&self, buffer: &mut CommandBuffer) {
        self.commands_wait.store(false, Ordering::Release);
        core::mem::swap(&mut *lock(&self.commands), buffer);
    }

    /// Whether commands wait to be carried out.
    pub(super) fn has_commands(&self) -> bool {
        self.commands_wait.load(Ordering::Acquire)
    }

    /// Whether the application is done with batch `sequence`.
    pub(super) fn has_released(&self, sequence: u64) -> bool {
        self.released.load(Ordering::Acquire) >= sequence
    }
}

/// The state of one server.
pub(super) struct Shared {
    pub(super) policy: Arc<Policy>,
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    pub(super) tls: Option<RwLock<Arc<rustls::ServerConfig>>>,
    pub(super) tickets: Arc<Tickets>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) notices: Notices,
    pub(super) shards: Box<[Remote]>,
    pub(super) inline: Option<Box<dyn Inline>>,
    pub(super) sampler: Sampler,
    /// Handshakes that are only still there to be refused.
    pub(super) refusing: AtomicUsize,
    /// Open connections of all shards.
    pub(super) open: AtomicUsize,
    refused_over_tls: Mutex<Bucket>,
    verdicts: Verdicts,
    life: AtomicU8,
    inbox_bytes: AtomicUsize,
    application_waits: AtomicBool,
    /// The kinds of events that the application does not listen to.
    unheeded: AtomicU8,
    /// There may be events that it listens to.
    heeded_events: AtomicBool,
    /// A shard will wake it soon for those it does not listen to.
    wakes_later: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Shared {
    pub(super) fn new(
        policy: Policy,
        tls: Option<Arc<rustls::ServerConfig>>,
        inline: Option<Box<dyn Inline>>,
        wake: Box<dyn Wake>,
    ) -> Self {
        let policy = Arc::new(policy);
        let most_slots = (policy.max_connections + 1).min(MAX_SLOTS);
        let remote = |shard| Remote {
            slots: Slots::new(most_slots),
            stats: ShardStats::default(),
            load: AtomicUsize::new(0),
            commands: Mutex::default(),
            commands_wait: AtomicBool::new(false),
            commands_arrived: Notify::new(),
            events: Mutex::new(EventBatch::of_shard(shard, &policy)),
            released: AtomicU64::new(0),
            starved: AtomicBool::new(false),
        };
        Self {
            limits: Arc::default(),
            clock: Clock::start(),
            tls: tls.map(RwLock::new),
            tickets: Arc::default(),
            revocations: Arc::default(),
            notices: Notices::default(),
            shards: (0..policy.threads).map(remote).collect(),
            inline,
            sampler: Sampler::default(),
            refusing: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            refused_over_tls: Mutex::default(),
            verdicts: Verdicts::default(),
            life: AtomicU8::new(Life::Running as u8),
            inbox_bytes: AtomicUsize::new(0),
            application_waits: AtomicBool::new(false),
            unheeded: AtomicU8::new(0),
            heeded_events: AtomicBool::new(false),
            wakes_later: AtomicBool::new(false),
            wake,
            policy,
        }
    }

    pub(super) fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Running,
            1 => Life::Draining,
            _ => Life::Stopped,
        }
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
    pub(super) fn report(&self, report: &Report<'_>, subject: Subject<'_>, events: &mut EventBatch) {
        self.verdicts.count(report.code);
        let now = self.clock.now();
        // A proxy is nobody to ban: where its address is all that is known, the record names no client.
        let client = subject.ip.filter(|ip| !self.policy.trusted_proxies.trusts(Some(*ip)));
        self.sampler.log(report, Subject { ip: client, ..subject }, now);
        if self.heeds(kind::VIOLATION) && self.sampler.passes_event(report.code, now) {
            events.push_violation(ViolationEvent {
                code: report.code,
                ip: subject.ip,
                user: subject.user.map(Arc::from),
                conn: subject.conn,
                event: report.event.map(|event| escape(event).into()),
            });
        }
    }

    /// Adds events of `shard` outside a connection's turn and wakes the application.
    pub(super) fn tell(self: &Arc<Self>, shard: usize, push: impl FnOnce(&mut EventBatch)) {
        let mut events = lock(&self.shards[shard].events);
        let before = events.bytes();
        push(&mut events);
        let added = events.bytes() - before;
        self.note(&events);
        drop(events);
        if added > 0 {
            self.inbox_grew(added);
            self.wake_application();
        }
    }

    pub(super) fn inbox_grew(&self, bytes: usize) {
        self.inbox_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How full the inbox is, from 0 to 1 and beyond.
    pub(super) fn inbox_fill(&self) -> f64 {
        self.inbox_bytes.load(Ordering::Relaxed) as f64 / self.policy.max_inbox_bytes as f64
    }

    /// Sets which of the events that ask for no answer the application listens to.
    pub(super) fn heed(&self, opens: bool, closes: bool, violations: bool) {
        let bit = |heeded: bool, kind: u8| if heeded { 0 } else { kind };
        let unheeded = bit(opens, kind::OPEN) | bit(closes, kind::CLOSE) | bit(violations, kind::VIOLATION);
        self.unheeded.store(unheeded, Ordering::Relaxed);
    }

    fn heeds(&self, kinds: u8) -> bool {
        kinds & !self.unheeded.load(Ordering::Relaxed) != 0
    }

    /// Notes, with the batch still locked, whether it holds what the application listens to.
    pub(super) fn note(&self, events: &EventBatch) -> bool {
        let is_heeded = self.heeds(events.kinds);
        if is_heeded && !self.heeded_events.load(Ordering::Relaxed) {
            self.heeded_events.store(true, Ordering::Release);
        }
        is_heeded
    }

    /// Wakes the application if it waits, once per batch: at once for what it listens to, else soon.
    pub(super) fn wake_application(self: &Arc<Self>) {
        if self.heeded_events.load(Ordering::Acquire) {
            self.wake_at_once();
        } else if !self.wakes_later.swap(true, Ordering::AcqRel) {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(UNHEEDED_WAIT).await;
                shared.wakes_later.store(false, Ordering::Release);
                shared.wake_at_once();
            });
        }
    }

    pub(super) fn wake_at_once(&self) {
        if self.application_waits.swap(false, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// The application is about to sleep. It must look for events once more after this.
    pub(super) fn application_waits(&self) {
        self.heeded_events.store(false, Ordering::SeqCst);
        self.application_waits.store(true, Ordering::SeqCst);
    }

    /// The application is done with a batch: its room is free again.
    pub(super) fn release(&self, batch: &mut EventBatch) {
        if batch.sequence == 0 {
            return;
        }
        self.shards[batch.shard].released.fetch_max(batch.sequence, Ordering::AcqRel);
        let bytes = batch.bytes();
        batch.clear();
        batch.sequence = 0;
        self.inbox_shrank(bytes);
    }

    pub(super) fn inbox_shrank(&self, bytes: usize) {
        self.inbox_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.inbox_fill() < 0.5 {
            for remote in &self.shards {
                if remote.starved.swap(false, Ordering::AcqRel) {
                    remote.post(CommandBuffer::resume);
                }
            }
        }
    }

    /// Swaps a shard's events into the empty `batch`; whether there were any.
    pub(super) fn take_events(&self, shard: usize, batch: &mut EventBatch) -> bool {
        let mut events = lock(&self.shards[shard].events);
        if events.is_empty() {
            return false;
        }
        let next = events.sequence + 1;
        if !batch.belongs_to(&self.policy) {
            *batch = EventBatch::of_shard(shard, &self.policy);
        }
        core::mem::swap(&mut *events, batch);
        events.sequence = next;
        events.shard = shard;
        true
    }

    pub(super) fn remote(&self, conn: ConnectionId) -> Option<&Remote> {
        self.shards.get(conn.shard()).filter(|remote| remote.slots.is_open(conn))
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats {
            connections: self.limits.connections() as u64,
            inbox_bytes: self.inbox_bytes.load(Ordering::Relaxed) as u64,
            pending_auth: self.tickets.len() as u64,
            verdicts: self.verdicts.snapshot(),
            ..Stats::default()
        };
        for ShardStats { open, opened_total, messages_in, bytes_in, bytes_out, outbox_bytes, delayed } in
            self.shards.iter().map(|remote| &remote.stats)
        {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            stats.open += read(open);
            stats.opened_total += read(opened_total);
            stats.messages_in += read(messages_in);
            stats.bytes_in += read(bytes_in);
            stats.bytes_out += read(bytes_out);
            stats.outbox_bytes += read(outbox_bytes);
            stats.delayed += read(delayed);
        }
        stats
    }
}
