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
    /// Our close frame was sent; the peer's is awaited, everything else it sends is discarded.
    Closing,
    /// Nothing more is read from the peer: send what is left, end the socket's write side, wait for its end.
    Closed,
    /// Drop the socket now.
    Dropped,
}

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
    pub(super) phase: Phase,
    /// `close_timeout_ms` after the first close frame: the socket is dropped.
    pub(super) drop_at: Moment,
    ending: Ending,
    told: bool,
}

impl Connection {
    /// How far the connection is.
    pub fn phase(&self) -> Phase {
        self.closing.as_ref().map_or(Phase::Open, |closing| closing.phase)
    }

    /// Starts the closing handshake with `code`; does nothing when it has begun already.
    pub fn close(&mut self, code: u16, reason: &str, turn: &mut Turn<'_>) {
        if self.is_open() {
            codec::close_frame(turn.out, Some(code), reason);
            let reason = reason[..reason.floor_char_boundary(123)].to_owned();
            self.begin_closing(Phase::Closing, Ending { code, reason, clean: false }, turn);
        }
    }

    /// Reports a broken rule and closes for it.
    pub fn violate(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) {
        if self.is_open() {
            let Report { code, event, detail } = *report;
            turn.sink.report(Report { code, event, detail });
            self.close(code.close_code(), code.reason(), turn);
        }
    }

    /// Fails the connection (section 7.1.7): the framing is broken, nothing after it can be read.
    pub(super) fn fail(&mut self, code: Code, detail: &str, turn: &mut Turn<'_>) {
        self.violate(&Report { code, event: None, detail }, turn);
        if let Some(closing) = &mut self.closing {
            closing.phase = Phase::Closed;
        }
    }

    /// A close frame of the peer: the answer to ours, or the start of its own.
    pub(super) fn handle_close(&mut self, payload: &[u8], turn: &mut Turn<'_>) {
        if let Some(closing) = &mut self.closing {
            closing.phase = Phase::Closed;
            closing.ending.clean = true;
            return;
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
        let ending = Ending { code: 1006, reason: String::new(), clean: false };
        if self.is_open() {
            self.begin_closing(Phase::Dropped, ending, turn);
        }
        if let Some(closing) = &mut self.closing {
            closing.phase = Phase::Dropped;
        }
    }

    fn begin_closing(&mut self, phase: Phase, ending: Ending, turn: &mut Turn<'_>) {
        self.drop_delayed();
        self.pending_pong = None;
        self.decoder.discard_data(turn.pool);
        let drop_at = turn.now.after_millis(turn.policy.close_timeout_ms);
        self.closing = Some(Box::new(Closing { phase, drop_at, ending, told: false }));
    }

    /// How the connection ended, once that is certain; told once.
    pub fn take_ending(&mut self) -> Option<Ending> {
        let closing = self.closing.as_mut()?;
        let certain = matches!(closing.phase, Phase::Closed | Phase::Dropped) && !closing.told;
        closing.told |= certain;
        certain.then(|| closing.ending.clone())
    }
}
