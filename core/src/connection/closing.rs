//! The closing handshake (RFC 6455 section 7) and what is told of it.

use super::{Connection, Report, Turn};
use crate::codec::{self, CloseFrame};
use crate::time::Moment;
use crate::verdict::Code;

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Messages are exchanged.
    Open,
    /// A violation was found; answers to what came before it may still be sent. Nothing of the peer is processed.
    Doomed,
    /// Our close frame was sent; the peer's is awaited, everything else it sends is discarded.
    Closing,
    /// Nothing more is read from the peer: send what is left, end the socket's write side, wait for its end.
    Closed,
    /// Drop the socket now.
    Dropped,
}

/// How long a doomed connection waits for the application's answers to messages that came before the violation, and how
/// often it looks.
const GRACE_MS: u64 = 100;
const LOOK_MS: u64 = 2;

/// How a connection ended, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The close code: sent by us, or the peer's; 1005 for an empty close frame, 1006 when the connection broke.
    pub code: u16,
    /// The reason that went with it.
    pub reason: String,
    /// Whether both sides sent a close frame.
    pub clean: bool,
}

#[derive(Debug)]
pub(super) struct Closing {
    phase: Phase,
    /// While doomed: the next look. Then: `close_timeout_ms` after our close frame, when the socket is dropped.
    deadline: Moment,
    /// While doomed: when the close frame goes out whatever the application does.
    give_up_at: Moment,
    /// Nothing more of the peer is read: its framing is broken, or it has said goodbye.
    deaf: bool,
    ending: Ending,
    told: bool,
}

impl Closing {
    pub(super) fn next_deadline(&self) -> Moment {
        if self.phase == Phase::Dropped { Moment::NEVER } else { self.deadline }
    }
}

impl Connection {
    /// How far the connection is.
    pub fn phase(&self) -> Phase {
        self.closing.as_ref().map_or(Phase::Open, |closing| closing.phase)
    }

    /// Whether both sides have said goodbye: nothing is left to wait for once our close frame is sent.
    pub fn is_cleanly_closed(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.phase == Phase::Closed && closing.ending.clean)
    }

    /// Starts the closing handshake with `code`; does nothing when it has begun already.
    pub fn close(&mut self, code: u16, reason: &str, turn: &mut Turn<'_>) {
        if self.is_open() {
            let reason = reason[..reason.floor_char_boundary(123)].to_owned();
            self.begin_closing(Phase::Doomed, Ending { code, reason, clean: false }, turn);
            self.say_goodbye(turn);
        }
    }

    /// Reports a broken rule and closes for it.
    pub fn violate(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) {
        if self.is_open() {
            turn.sink.report(*report);
            let draining = report.code == Code::Draining;
            let close = if draining { turn.policy.drain_close_code } else { report.code.close_code() };
            self.close(close, report.code.reason(), turn);
        }
    }

    /// Acts on a message rule that the application itself checked, as `on_violation` says.
    pub fn refuse_for_the_application(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) {
        if turn.policy.report_only() && self.is_open() {
            turn.sink.report(*report);
        } else {
            self.violate(report, turn);
        }
    }

    /// As [`violate`](Self::violate), for what the peer sent: from here on nothing of it is processed, but the
    /// application's answers to what came before are sent first, if they come at once.
    pub(super) fn refuse(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) {
        if !self.is_open() {
            return;
        }
        if !turn.sink.replies_may_come() {
            return self.violate(report, turn);
        }
        turn.sink.report(*report);
        let ending = Ending { code: report.code.close_code(), reason: report.code.reason().to_owned(), clean: false };
        self.begin_closing(Phase::Doomed, ending, turn);
    }

    /// Fails the connection (section 7.1.7): the framing is broken.
    pub(super) fn fail(&mut self, code: Code, detail: &str, turn: &mut Turn<'_>) {
        self.refuse(&Report { code, event: None, detail }, turn);
        if let Some(closing) = &mut self.closing {
            closing.hear_no_more();
        }
    }

    /// Whether what the peer sends is not read any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.deaf)
    }

    /// A close frame of the peer: the answer to ours, or the start of its own.
    pub(super) fn handle_close(&mut self, payload: &[u8], turn: &mut Turn<'_>) {
        if let Some(closing) = &mut self.closing {
            closing.ending.clean = true;
            return closing.hear_no_more();
        }
        match CloseFrame::parse(payload) {
            Ok(CloseFrame { code, reason }) => {
                self.release_all_delayed(turn);
                if self.is_open() {
                    codec::close_frame(turn.out, code, "");
                    let ending = Ending { code: code.unwrap_or(1005), reason, clean: true };
                    self.begin_closing(Phase::Closed, ending, turn);
                }
            }
            Err(violation) => {
                let detail = violation.frame.map_or("close reason is not utf-8", codec::FrameError::describe);
                self.fail(violation.code, detail, turn);
            }
        }
    }

    /// The peer ended the stream, or the socket failed.
    pub fn handle_eof(&mut self, turn: &mut Turn<'_>) {
        if self.is_open() {
            let ending = Ending { code: 1006, reason: String::new(), clean: false };
            self.begin_closing(Phase::Dropped, ending, turn);
        }
        // It may have ended its side only, and still hear why it is refused.
        self.say_goodbye(turn);
        if let Some(closing) = &mut self.closing {
            closing.phase = Phase::Dropped;
        }
    }

    fn begin_closing(&mut self, phase: Phase, ending: Ending, turn: &mut Turn<'_>) {
        self.drop_delayed();
        self.pending_pong = None;
        self.decoder.discard_data(turn.pool);
        let now = turn.now;
        self.closing = Some(Box::new(Closing {
            phase,
            deadline: now.after_millis(if phase == Phase::Doomed { LOOK_MS } else { turn.policy.close_timeout_ms }),
            give_up_at: now.after_millis(GRACE_MS),
            deaf: phase != Phase::Doomed,
            ending,
            told: false,
        }));
    }

    /// Sends the close frame of a doomed connection.
    fn say_goodbye(&mut self, turn: &mut Turn<'_>) {
        if let Some(closing) = &mut self.closing
            && closing.phase == Phase::Doomed
        {
            codec::close_frame(turn.out, Some(closing.ending.code), &closing.ending.reason);
            closing.phase = if closing.deaf { Phase::Closed } else { Phase::Closing };
            closing.deadline = turn.now.after_millis(turn.policy.close_timeout_ms);
        }
    }

    pub(super) fn handle_closing_deadline(&mut self, turn: &mut Turn<'_>) {
        let Some(closing) = &mut self.closing else { return };
        if closing.deadline > turn.now {
            return;
        }
        if closing.phase != Phase::Doomed {
            closing.phase = Phase::Dropped;
        } else if closing.give_up_at > turn.now && turn.sink.replies_may_come() {
            closing.deadline = turn.now.after_millis(LOOK_MS);
        } else {
            self.say_goodbye(turn);
        }
    }

    /// How the connection ended, once that is certain; told once.
    pub fn take_ending(&mut self) -> Option<Ending> {
        let closing = self.closing.as_mut()?;
        let certain = matches!(closing.phase, Phase::Closed | Phase::Dropped) && !closing.told;
        closing.told |= certain;
        certain.then(|| closing.ending.clone())
    }
}

impl Closing {
    fn hear_no_more(&mut self) {
        self.deaf = true;
        if self.phase == Phase::Closing {
            self.phase = Phase::Closed;
        }
    }
}
