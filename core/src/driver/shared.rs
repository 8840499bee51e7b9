//! What the threads of one server share: the policy, the limits, and the two roads between shards and application.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::caught::{caught, said};
use super::clock::Clock;
use super::commands::{Command, CommandBuffer};
use super::events::{EventBatch, ViolationEvent, kind};
use super::ids::{ConnectionId, MAX_SLOTS, Slots};
use super::log::{Sampler, Subject, escape, printable};
use super::notices::Notices;
use super::sink::Inline;
use super::stats::{ShardStats, Stats, Verdicts};
use super::tickets::Tickets;
use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::config::Policy;
use wsguard_proto::connection::Report;
use wsguard_proto::inbox::Fill;
use wsguard_proto::limits::Limits;
use wsguard_proto::lock::lock;
use wsguard_proto::revocation::Revocations;
use wsguard_proto::verdict::Code;

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
    /// Bytes of broadcasts that were posted and that it has not come to.
    pub(super) broadcast_bytes: AtomicUsize,
    pub(super) commands_arrived: Notify,
    pub(super) events: Mutex<EventBatch>,
    /// The last batch that the application has let go.
    released: AtomicU64,
    /// Reading was stopped for want of room in the inbox; wake the shard when there is.
    pub(super) starved: AtomicBool,
    /// One of its tasks has ended, without which it is of no use.
    pub(super) lost_a_task: AtomicBool,
}

impl Remote {
    /// Adds commands under the lock and wakes the shard when it may be asleep.
    pub(super) fn post(&self, write: impl FnOnce(&mut CommandBuffer)) {
        let mut commands = lock(&self.commands);
        if commands.is_closed {
            // Nobody will carry it out: it is only written to be given back.
            drop(commands);
            let mut nobodys = CommandBuffer::default();
            write(&mut nobodys);
            return self.discard(&nobodys);
        }
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

    /// The shard is gone: takes no more commands, and gives back what those hold that nobody carried out.
    pub(super) fn close(&self) {
        let mut commands = lock(&self.commands);
        let left = core::mem::take(&mut *commands);
        commands.is_closed = true;
        drop(commands);
        self.discard(&left);
    }

    /// Lets buffers go that nothing waits in.
    pub(super) fn shrink(&self) {
        let mut commands = lock(&self.commands);
        if commands.commands.is_empty() {
            commands.shrink();
        }
    }

    fn discard(&self, left: &CommandBuffer) {
        for command in &left.commands {
            match command {
                Command::Adopt(_) => _ = self.load.fetch_sub(1, Ordering::Relaxed),
                Command::Broadcast { frame, .. } => {
                    self.broadcast_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }

    /// Whether commands wait to be carried out.
    pub(super) fn has_commands(&self) -> bool {
        self.commands_wait.load(Ordering::Acquire)
    }

    /// The last batch that the application is done with.
    pub(super) fn last_released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Whether the application is done with batch `sequence`.
    pub(super) fn has_released(&self, sequence: u64) -> bool {
        self.last_released() >= sequence
    }
}

/// The locked events of one shard, and whoever adds to them: what was added is counted, wherever that ended.
pub(super) struct Writing<'s> {
    shared: &'s Shared,
    batch: MutexGuard<'s, EventBatch>,
    used_before: usize,
    bytes_before: usize,
    others_before: usize,
    upgrades_before: usize,
}

impl Writing<'_> {
    pub(super) fn batch(&mut self) -> &mut EventBatch {
        &mut self.batch
    }

    /// How many bytes the events need that were added, which is 0 without any, and whether the application listens to
    /// anything that is there.
    pub(super) fn finish(self) -> (usize, bool) {
        (self.batch.used() - self.used_before, self.shared.note(&self.batch))
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.shared.inbox_grew(self.batch.bytes().saturating_sub(self.bytes_before));
        let others = self.batch.others - self.others_before;
        if others > 0 {
            self.shared.inbox_others.fetch_add(others, Ordering::Relaxed);
        }
        let upgrades = self.batch.upgrades - self.upgrades_before;
        if upgrades > 0 {
            self.shared.upgrades.fetch_add(upgrades, Ordering::Relaxed);
        }
    }
}

/// The state of one server.
pub(super) struct Shared {
    pub(super) policy: Arc<Policy>,
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    /// Whether it listens where other machines can reach it.
    pub(super) is_public: bool,
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
    /// Those of them that are no messages.
    inbox_others: AtomicUsize,
    /// Handshakes that ask, in batches that the application has not let go.
    upgrades: AtomicUsize,
    /// A shard has died.
    failed: AtomicBool,
    application_waits: AtomicBool,
    /// The kinds of events that the application does not listen to.
    unheeded: AtomicU8,
    /// There may be events that it listens to.
    heeded_events: AtomicBool,
    /// A shard will wake it soon for those it does not listen to.
    wakes_later: AtomicBool,
    wake: Box<dyn Wake>,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").field("life", &self.life()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        policy: Policy,
        tls: Option<Arc<rustls::ServerConfig>>,
        inline: Option<Box<dyn Inline>>,
        wake: Box<dyn Wake>,
        is_public: bool,
    ) -> Self {
        let policy = Arc::new(policy);
        let most_slots = (policy.max_connections + 1).min(MAX_SLOTS);
        let remote = |shard| Remote {
            slots: Slots::new(most_slots),
            stats: ShardStats::default(),
            load: AtomicUsize::new(0),
            commands: Mutex::default(),
            commands_wait: AtomicBool::new(false),
            broadcast_bytes: AtomicUsize::new(0),
            commands_arrived: Notify::new(),
            events: Mutex::new(EventBatch::of_shard(shard, &policy)),
            released: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            lost_a_task: AtomicBool::new(false),
        };
        Self {
            limits: Arc::default(),
            is_public,
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
            inbox_others: AtomicUsize::new(0),
            upgrades: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
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

    /// Whether nothing more can be asked of it: it has stopped, or is about to because a part of it died.
    pub(super) fn is_over(&self) -> bool {
        self.life() == Life::Stopped || self.failed.load(Ordering::Acquire)
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
        // Whoever floods the inbox with violations leaves room for others' handshakes: they stay counted and logged. What
        // ends a connection is told all the same: there are no more of those than connections.
        let ends_a_connection =
            subject.conn.is_some() && !(self.policy.report_only() && is_about_a_message(report.code));
        if self.heeds(kind::VIOLATION)
            && (ends_a_connection || self.inbox_fill().takes_remarks())
            && self.sampler.passes_event(report.code, subject.ip, now)
        {
            events.push_violation(ViolationEvent {
                code: report.code,
                ip: subject.ip,
                user: subject.user.map(Arc::from),
                conn: subject.conn,
                event: report.event.map(|event| escape(event).into()),
                detail: printable(report.detail).into(),
            });
        }
    }

    /// Adds events of `shard` outside a connection's turn and wakes the application.
    pub(super) fn tell(self: &Arc<Self>, shard: usize, push: impl FnOnce(&mut EventBatch)) {
        let mut writing = self.write_events(shard);
        push(writing.batch());
        if writing.finish().0 > 0 {
            self.wake_application();
        }
    }

    /// Locks the events of `shard`, to add some.
    pub(super) fn write_events(&self, shard: usize) -> Writing<'_> {
        let batch = lock(&self.shards[shard].events);
        let (used_before, bytes_before) = (batch.used(), batch.bytes());
        let (others_before, upgrades_before) = (batch.others, batch.upgrades);
        Writing { shared: self, batch, used_before, bytes_before, others_before, upgrades_before }
    }

    /// No handshake may be added to the inbox.
    pub(super) fn inbox_is_full(&self) -> bool {
        !self.inbox_fill().takes_newcomers()
    }

    pub(super) fn inbox_grew(&self, bytes: usize) {
        self.inbox_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn inbox_fill(&self) -> Fill {
        let others = self.inbox_others.load(Ordering::Relaxed);
        let messages = self.inbox_bytes.load(Ordering::Relaxed).saturating_sub(others);
        Fill { most: self.policy.max_inbox_bytes, messages, others }
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
        if self.application_waits.swap(false, Ordering::AcqRel) && caught(|| self.wake.wake()).is_none() {
            said(|| tracing::error!(target: "wsguard", "the application's own Wake panicked"));
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
        self.upgrades.fetch_sub(batch.upgrades, Ordering::Relaxed);
        self.inbox_others.fetch_sub(batch.others, Ordering::Relaxed);
        batch.clear();
        batch.sequence = 0;
        self.inbox_shrank(bytes);
        // Whoever had more than its share of this batch has none of it now, however full the inbox is of others' messages.
        let remote = &self.shards[batch.shard];
        if self.inbox_fill().takes_messages() && remote.starved.swap(false, Ordering::AcqRel) {
            remote.post(CommandBuffer::resume);
        }
    }

    /// Takes off what was added. An application that gives back more than it kept does not turn the inbox over.
    pub(super) fn inbox_shrank(&self, bytes: usize) {
        let less = |now: usize| Some(now.saturating_sub(bytes));
        let _ = self.inbox_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        // Less first, then the look for who waits; a shard marks first, then looks for less. One sees the other. Above half
        // nobody is woken for each message that a face lets go: those who wait look again by themselves.
        fence(Ordering::SeqCst);
        if self.inbox_fill().room_for_all() > 0 {
            for remote in &self.shards {
                if remote.starved.swap(false, Ordering::AcqRel) {
                    remote.post(CommandBuffer::resume);
                }
            }
        }
    }

    /// Swaps a shard's events into the empty `batch`; whether there were any.
    pub(super) fn take_events(self: &Arc<Self>, shard: usize, batch: &mut EventBatch) -> bool {
        let mut events = lock(&self.shards[shard].events);
        if events.is_empty() {
            return false;
        }
        let next = events.sequence + 1;
        batch.swap(&mut events, self);
        events.sequence = next;
        events.shard = shard;
        true
    }

    /// A shard has died: half a server is worse than none (THREATS S9), so all others stop, too.
    pub(super) fn fail(&self, shard: usize) {
        self.advance(Life::Draining);
        self.failed.store(true, Ordering::Release);
        for remote in &self.shards {
            remote.post(|buffer| buffer.commands.push(Command::Stop));
        }
        said(|| {
            tracing::error!(target: "wsguard", shard, "a shard died: the server stops");
        });
    }

    pub(super) fn remote(&self, conn: ConnectionId) -> Option<&Remote> {
        self.shards.get(conn.shard()).filter(|remote| remote.slots.is_open(conn))
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats {
            connections: self.limits.connections() as u64,
            refusing: self.refusing.load(Ordering::Relaxed) as u64,
            upgrades_in_inbox: self.upgrades.load(Ordering::Relaxed) as u64,
            inbox_bytes: self.inbox_bytes.load(Ordering::Relaxed) as u64,
            pending_auth: self.tickets.len() as u64,
            verdicts: self.verdicts.snapshot(),
            ..Stats::default()
        };
        for ShardStats {
            open,
            opened_total,
            messages_in,
            bytes_in,
            bytes_out,
            outbox_bytes,
            delayed,
            rooms,
            memberships,
        } in self.shards.iter().map(|remote| &remote.stats)
        {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            stats.open += read(open);
            stats.opened_total += read(opened_total);
            stats.messages_in += read(messages_in);
            stats.bytes_in += read(bytes_in);
            stats.bytes_out += read(bytes_out);
            stats.outbox_bytes += read(outbox_bytes);
            stats.delayed += read(delayed);
            stats.rooms += read(rooms);
            stats.room_memberships += read(memberships);
        }
        stats
    }
}

/// Whether `on_violation: "report"` only reports it.
fn is_about_a_message(code: Code) -> bool {
    matches!(
        code,
        Code::RateLimited | Code::UnexpectedBinary | Code::BadEnvelope | Code::UnknownEvent | Code::SchemaMismatch
    )
}

/// A server of these options without threads, that wakes nobody.
#[cfg(test)]
pub(super) fn idle(more: &str) -> Arc<Shared> {
    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    let json = format!(r#"{{"origins": ["https://a.example"], "auth": "none", {more}}}"#);
    let policy = wsguard_proto::config::Options::from_json(&json).and_then(super::compile).unwrap();
    Arc::new(Shared::new(policy, None, None, Box::new(Nobody), false))
}
