//! The threads of a server: each runs one shard with its tasks, from the start to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::unconstrained;

use super::accepted::Accepted;
use super::bind::Listening;
use super::caught::{caught, said};
use super::commands::Command;
use super::listener::accept_from;
use super::log::guard_panics;
use super::opening;
use super::shard::{self, Shard};
use super::state::{Life, ServerState};
use crate::error::Error;

/// Turns without anything left to do for handshakes, behind which their shard ends.
const LAST_TURNS: usize = 4;
/// How long it waits for that: whoever wakes handshakes again and again, with bytes for their pipes, puts the end off no longer.
const LAST_TIME: Duration = Duration::from_secs(1);

/// Starts every shard, and waits until all of them run. An error leaves none behind.
pub(super) fn start_threads(
    state: &Arc<ServerState>,
    mut listeners: Vec<Listening>,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let alive = Arc::new(AtomicUsize::new(state.shards.len()));
    let (ready, started) = mpsc::channel();
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for index in 0..state.shards.len() {
        let (state, alive, ready) = (Arc::clone(state), Arc::clone(&alive), ready.clone());
        let listeners = if index == 0 { core::mem::take(&mut listeners) } else { Vec::new() };
        let run = move || {
            guard_panics(true);
            let mut end = ShardEnd { state: Arc::clone(&state), alive, index, ended_well: false };
            end.ended_well = caught(|| run_shard(&state, index, listeners, ready)).unwrap_or(false);
        };
        match Builder::new().name(format!("wsguard-{index}")).spawn(run) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    drop(ready);
    for _ in &threads {
        let began = started.recv().unwrap_or_else(|_| Err(std::io::Error::other("a shard ended at once")));
        outcome = outcome.and(began);
    }
    if let Err(error) = outcome {
        for mailbox in state.shards.iter() {
            mailbox.post(|commands| commands.commands.push(Command::Stop));
        }
        for thread in threads {
            let _ = thread.join();
        }
        return Err(Error::Start(error));
    }
    Ok(threads)
}

/// The end of a shard's thread, however it came: the last one ends the server, and one that died ends it at once.
struct ShardEnd {
    state: Arc<ServerState>,
    alive: Arc<AtomicUsize>,
    index: usize,
    ended_well: bool,
}

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.state.shards[self.index].abandon();
        if !self.ended_well {
            self.state.fail(self.index);
        }
        if self.alive.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Handshakes that still waited went with their shards.
            self.state.tickets.close();
            self.state.jwks.stop();
            self.state.leave_cluster();
            self.state.advance(Life::Stopped);
            if let Some(began) = self.state.drain_began.get() {
                let took = self.state.clock.now().since(*began).as_millis();
                let duration_ms = u64::try_from(took).unwrap_or(u64::MAX);
                said(|| tracing::info!(target: "wsguard::audit", action = %"drain_ended", duration_ms));
            }
            self.state.waker.wake_at_once();
            self.state.over.notify_one();
        }
    }
}

/// A task without which its shard is of no use: its end, or its panic, ends the shard.
struct EssentialTask(Arc<ServerState>, usize);

impl EssentialTask {
    async fn run(self, task: impl Future<Output = ()>) {
        task.await;
    }
}

impl Drop for EssentialTask {
    fn drop(&mut self) {
        let mailbox = &self.0.shards[self.1];
        mailbox.lost_a_task.store(true, Ordering::Release);
        mailbox.commands_arrived.notify_one();
    }
}

/// Runs a shard to its end; `false`: it died.
fn run_shard(
    state: &Arc<ServerState>,
    index: usize,
    listeners: Vec<Listening>,
    ready: mpsc::Sender<std::io::Result<()>>,
) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return true;
        }
    };
    shard::install(Shard::new(Arc::clone(state), index));
    let _ = caught(|| runtime.block_on(run_tasks(state, index, listeners, ready)));
    let ended_well = shard::has_stopped();
    // Sockets go with the shard, before the runtime they are registered with.
    let _ = caught(shard::remove);
    let _ = caught(|| drop(runtime));
    ended_well
}

async fn run_tasks(
    state: &Arc<ServerState>,
    index: usize,
    listeners: Vec<Listening>,
    ready: mpsc::Sender<std::io::Result<()>>,
) {
    let essential = || EssentialTask(Arc::clone(state), index);
    // `unconstrained`: the runtime's budget of a turn is meant for tasks of one connection each. These work for all of them and
    // bound their own turns.
    tokio::spawn(unconstrained(essential().run(shard::run_connections())));
    tokio::spawn(unconstrained(essential().run(shard::run_timers())));
    tokio::spawn(unconstrained(essential().run(shard::wake_application())));
    for listener in listeners {
        let state = Arc::clone(state);
        let ear = state.ears.open();
        let accept = async move {
            accept_from(&state, index, listener, ear, |accepted| open_here(&state, index, accepted)).await;
        };
        tokio::spawn(essential().run(accept));
    }
    let _ = ready.send(Ok(()));
    // The thread that waits for all shards must not wait for this sender when another shard dies before it reports.
    drop(ready);
    let mailbox = &state.shards[index];
    loop {
        mailbox.commands_arrived.notified().await;
        if carry_out_commands(state, index).await || mailbox.lost_a_task.load(Ordering::Acquire) {
            return refuse_who_waits(state, index).await;
        }
        if mailbox.has_commands() {
            // An application that never stops speaking keeps neither sockets nor timers from their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// Begins the opening handshake of a connection on this shard.
fn open_here(state: &Arc<ServerState>, shard: usize, accepted: Accepted) {
    tokio::spawn(opening::open(Arc::clone(state), shard, accepted));
}

/// Carries out what has arrived, and begins the handshakes that came with it. `true`: the shard's work is over.
async fn carry_out_commands(state: &Arc<ServerState>, index: usize) -> bool {
    let ran = unconstrained(async { shard::run_commands() }).await;
    for accepted in ran.accepted {
        open_here(state, index, accepted);
    }
    ran.stopped
}

/// The last thing a shard does: connections that were handed over until now are answered, and handshakes that wait for something else
/// than their peer. Whoever hands one over from now on has it back.
async fn refuse_who_waits(state: &Arc<ServerState>, index: usize) {
    let mailbox = &state.shards[index];
    mailbox.close();
    carry_out_commands(state, index).await;
    state.tickets.close();
    mailbox.last_turns.notify_waiters();
    let (woken_elsewhere, until) = (tokio::runtime::Handle::current().metrics(), Instant::now() + LAST_TIME);
    let mut idle_turns = 0;
    while idle_turns < LAST_TURNS && Instant::now() < until {
        // The runtime learns which sockets are ready, and whoever has yielded is.
        tokio::task::yield_now().await;
        // Behind every task that this thread has woken by then.
        let _ = tokio::spawn(async {}).await;
        let is_idle = mailbox.waiting.get() == 0 && woken_elsewhere.global_queue_depth() == 0;
        idle_turns = if is_idle { idle_turns + 1 } else { 0 };
    }
}
