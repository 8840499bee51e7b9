//! The cork: commands that a thread holds back, to hand them over together.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::commands::CommandBuffer;
use super::state::ServerState;

/// The commands of this thread that were corked, per shard. The buffers stay for the next cork.
struct Corked {
    /// Whose commands; 0: no cork.
    server: u64,
    depth: usize,
    buffers: Vec<CommandBuffer>,
}

impl Corked {
    fn hand_over(&mut self, server: &ServerState) {
        for (mailbox, buffer) in server.shards.iter().zip(&mut self.buffers) {
            if !buffer.commands.is_empty() {
                mailbox.post(|commands| commands.append(buffer));
            }
        }
    }
}

thread_local! {
    static CORKED: RefCell<Corked> =
        const { RefCell::new(Corked { server: 0, depth: 0, buffers: Vec::new() }) };
}

/// Lets `act` see to this thread's cork; `None`: the thread is at its end, where values that it kept may still speak, and has
/// none any more.
fn with_corked<R>(act: impl FnOnce(&mut Corked) -> R) -> Option<R> {
    CORKED.try_with(|corked| act(&mut corked.borrow_mut())).ok()
}

/// Holds this thread's commands together until it is dropped: one hand-over per shard instead of one per command.
#[derive(Debug)]
pub struct Cork<'h> {
    state: &'h ServerState,
    active: bool,
    /// Belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        if !self.active {
            return;
        }
        with_corked(|corked| {
            corked.depth -= 1;
            if corked.depth > 0 {
                return;
            }
            corked.server = 0;
            corked.hand_over(self.state);
        });
    }
}

impl<'h> Cork<'h> {
    /// Collects this thread's commands for a server until it is dropped.
    pub(super) fn new(state: &'h ServerState) -> Self {
        let server = state.cork_id;
        let active = with_corked(|corked| {
            let free = corked.depth == 0;
            if free {
                corked.server = server;
                corked.buffers.resize_with(state.shards.len(), CommandBuffer::default);
            }
            let ours = corked.server == server;
            corked.depth += usize::from(ours);
            ours
        });
        Cork { state, active: active.unwrap_or(false), not_send: PhantomData }
    }

    /// Leaves the cork in place when this is dropped, for [`of_held`](Self::of_held); whether there is one.
    pub(super) fn hold(mut self) -> bool {
        core::mem::take(&mut self.active)
    }

    /// A cork of this thread that [`hold`](Self::hold) has left in place.
    pub(super) fn of_held(state: &'h ServerState) -> Self {
        Cork { state, active: true, not_send: PhantomData }
    }
}

/// Hands over what this thread's cork holds back of a server. What comes next may still be corked.
pub(super) fn flush(state: &ServerState) {
    with_corked(|corked| {
        if corked.server == state.cork_id {
            corked.hand_over(state);
        }
    });
}

/// Writes commands for a shard, into this thread's cork or straight into the shard's mailbox.
pub(super) fn post(state: &ServerState, shard: usize, write: impl FnOnce(&mut CommandBuffer)) {
    let mut write = Some(write);
    with_corked(|corked| {
        if corked.server == state.cork_id
            && let Some(write) = write.take()
        {
            write(&mut corked.buffers[shard]);
        }
    });
    if let Some(write) = write {
        state.shards[shard].post(write);
    }
}
