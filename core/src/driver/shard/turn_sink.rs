//! Where a connection's messages go: to the handler that runs inline, or into the batch for the application.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::driver::caught::caught;
use crate::driver::events::{EventBatch, Open};
use crate::driver::ids::ConnectionId;
use crate::driver::inline::{Handled, InlineMessage, Replies};
use crate::driver::log::{Subject, VerdictRecord};
use crate::driver::mailbox::ShardMailbox;
use crate::driver::shard_events::Writing;
use crate::driver::state::{Effect, ServerState};
use wsguard_proto::connection::{Message, Report, Sink};
use wsguard_proto::contract::Contract;
use wsguard_proto::verdict::Code;

/// What a turn added to the inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    /// The batch that it is in.
    pub(super) batch: u64,
    /// How many bytes its events need.
    pub(super) bytes: usize,
    /// The batch that holds the connection's last event that the application may answer.
    pub(super) answerable: u64,
}

/// The sink of one turn of one connection. The batch is locked once, when the first event comes.
pub(super) struct TurnSink<'s> {
    state: &'s ServerState,
    mailbox: &'s ShardMailbox,
    batch: Option<Writing<'s>>,
    conn: ConnectionId,
    contract: &'s Arc<Contract>,
    subject: Subject<'s>,
    /// The batch that holds the last event of this connection, and which one that was before the turn.
    last_batch: u64,
    last_batch_before: u64,
    pub(super) messages: u64,
    /// Records of the turn, to be said when the batch is not locked any more.
    pub(super) records: Vec<VerdictRecord>,
    /// Messages of the inline handler.
    pub(super) replies: u64,
    /// The last of them are not to be compressed.
    answers_go_plain: bool,
    /// Answers to pings.
    pub(super) pongs: u8,
    /// A message of the application is sent in fragments: no answer may come between them.
    pub(super) is_mid_fragments: bool,
    /// Message rules only report.
    pub(super) reports_only: bool,
}

impl<'s> TurnSink<'s> {
    pub(super) fn new(
        state: &'s ServerState,
        conn: ConnectionId,
        contract: &'s Arc<Contract>,
        subject: Subject<'s>,
        last_batch: u64,
    ) -> Self {
        let mailbox = &state.shards[conn.shard()];
        Self {
            state,
            mailbox,
            batch: None,
            conn,
            contract,
            subject,
            last_batch,
            last_batch_before: last_batch,
            messages: 0,
            records: Vec::new(),
            replies: 0,
            answers_go_plain: false,
            pongs: 0,
            is_mid_fragments: false,
            reports_only: false,
        }
    }

    /// The batch, for an event of this connection.
    pub(super) fn batch(&mut self) -> &mut EventBatch {
        let writing = self.batch.get_or_insert_with(|| self.state.write_events(self.conn.shard()));
        let batch = writing.batch();
        self.last_batch = batch.sequence;
        batch
    }

    /// The connection has opened.
    pub(super) fn push_open(&mut self, open: Open) {
        let writing = self.batch.get_or_insert_with(|| self.state.write_events(self.conn.shard()));
        writing.push_change(|batch| batch.push_open(open));
        self.last_batch = writing.batch().sequence;
    }

    fn heeds_control(&self) -> bool {
        self.state.heeds_control.load(Ordering::Relaxed)
    }

    fn judge(&mut self, report: &Report<'_>, effect: Effect) {
        let (state, subject) = (self.state, self.subject);
        let mut records = core::mem::take(&mut self.records);
        state.report(report, subject, effect, self.batch(), &mut records);
        self.records = records;
    }

    /// Ends the turn: what it added to the inbox; `None`: nothing.
    pub(super) fn finish(self) -> Option<Added> {
        let writing = self.batch?;
        let (bytes, is_wanted) = writing.finish();
        let answerable = if is_wanted { self.last_batch } else { self.last_batch_before };
        Some(Added { batch: self.last_batch, bytes, answerable }).filter(|added| added.bytes > 0)
    }

    /// Whether the application has not released every event of this connection, or has sent commands that were not
    /// carried out yet.
    fn application_is_behind(&self) -> bool {
        !self.mailbox.has_released(self.last_batch) || self.mailbox.has_commands()
    }

    /// Offers a message to the inline handler.
    fn handled_inline(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<Handled, Code> {
        let Some(handler) = &self.state.inline else { return Ok(Handled::Pass) };
        if self.is_mid_fragments || self.application_is_behind() {
            return Ok(Handled::Pass);
        }
        let message = match message {
            Message::Text(text) => InlineMessage::Text(text),
            Message::Binary(payload) => InlineMessage::Binary(payload),
            Message::Event { envelope, .. } => InlineMessage::Event(&envelope.event, envelope.data, envelope.id),
        };
        let end = out.len();
        let mut replies = Replies::new(out);
        let handled = caught(|| handler.message(self.conn, message, &mut replies));
        match handled {
            Some(handled) => {
                self.replies += replies.count;
                self.answers_go_plain = replies.plain;
                Ok(handled)
            }
            None => {
                out.truncate(end);
                Err(Code::Internal)
            }
        }
    }
}

impl Sink for TurnSink<'_> {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Code> {
        self.messages += 1;
        if self.handled_inline(&message, out)? == Handled::Pass {
            let (conn, contract) = (self.conn, self.contract);
            self.batch().push_message(conn, &message, contract);
        }
        Ok(())
    }

    fn answers_go_plain(&self) -> bool {
        self.answers_go_plain
    }

    fn report(&mut self, report: Report<'_>) {
        self.judge(&report, Effect::Ends);
    }

    fn remark(&mut self, report: Report<'_>) {
        let effect = if self.reports_only { Effect::Passes } else { Effect::Answers };
        self.judge(&report, effect);
    }

    fn pong(&mut self, rtt: Duration) {
        self.pongs += 1;
        let conn = self.conn;
        self.batch().push_pong(conn, rtt);
    }

    fn ping_frame(&mut self, payload: &[u8]) {
        if self.heeds_control() {
            let conn = self.conn;
            self.batch().push_ping_frame(conn, payload);
        }
    }

    fn pong_frame(&mut self, payload: &[u8]) {
        if self.heeds_control() {
            let conn = self.conn;
            self.batch().push_pong_frame(conn, payload);
        }
    }

    fn replies_may_come(&self) -> bool {
        self.batch.is_some() || self.application_is_behind()
    }
}
