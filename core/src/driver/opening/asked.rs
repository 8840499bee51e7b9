//! A handshake that was put to the application: it hears of an open, or that there will be none.

use std::sync::Arc;

use crate::driver::state::ServerState;
use crate::driver::tickets::{Ticket, TicketId};

/// As long as it lives the handshake is not over. Dropped without [`opened`](Self::opened), the application is told that it is
/// gone, unless it has refused it itself.
pub(super) struct Asked {
    state: Arc<ServerState>,
    shard: usize,
    ticket: Ticket,
}

impl Asked {
    /// Of a handshake whose `Event::Upgrade` is told.
    pub(super) fn new(state: &Arc<ServerState>, shard: usize, ticket: Ticket) -> Self {
        Self { state: Arc::clone(state), shard, ticket }
    }

    /// It became a connection, whose open names the ticket. The events may be locked already.
    pub(super) fn opened(self) -> TicketId {
        self.ticket.withdraw();
        self.ticket.id()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.ticket.withdraw() {
            let ticket = self.ticket.id();
            self.state.tell(self.shard, |events| events.push_upgrade_gone(ticket));
        }
    }
}
