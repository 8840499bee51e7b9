//! The closing handshake (RFC 6455 section 7) and what is told of it.

use super::{Connection, Report, Turn};
use crate::codec::{self, CloseFrame, FrameFault, Skim, Violation};
use crate::outgoing;
use crate::rate::INVALID_COST;
use crate::time::Moment;
use crate::verdict::Code;

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Messages are exchanged.
    Open,
    /// The peer has said goodbye, or ended its side: what it sent before is still delivered as its rate allows, and the
    /// answers are sent.
    Parting,
    /// A violation was found; answers to what came before it may still be sent. Nothing of the peer is processed.
    Doomed,
    /// Our close frame was sent; the peer's, or its end, is awaited, and everything else it sends is discarded.
    Closing,
    /// Nothing is awaited of the peer: send what is left, end the socket's write side, drop it.
    Closed,
    /// Drop the socket now.
    Dropped,
}

/// How long the close frame waits for the application's answers to messages that came before the end, and how often it
/// looks.
const GRACE_MS: u64 = 100;
const LOOK_MS: u64 = 2;
/// How much of what a peer sends behind the end is thrown away; then it does not listen, and its socket is dropped. It is
/// as much because a close frame is lost when the socket is dropped while an upload still comes.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// What is told in place of a close code: the close frame had none, the connection broke (section 7.1.5).
const NO_CODE: u16 = 1005;
const BROKEN: u16 = 1006;

/// Whether a message that the application refuses may be answered.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'m> {
    /// The connection is closed in any case, where rules do not only report.
    Never,
    /// With this id, where `on_mismatch` says so.
    To(Option<&'m str>),
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
    /// The verdict that ended it; `None`: the peer or the application did, or the connection broke.
    pub verdict: Option<Code>,
    /// The rule of framing that was broken, where one was.
    pub fault: Option<FrameFault>,
    /// What of the frame broke it, where that is a number: see [`Violation::fault_value`].
    pub fault_value: Option<u16>,
    /// The peer's own close frame, whoever closed first; `None`: there was none that may be sent.
    pub peer: Option<CloseFrame>,
}

impl Ending {
    /// The end of a connection that broke, or whose peer left without a word.
    fn broken() -> Self {
        Self::ours(BROKEN, "", None)
    }

    /// An end that is none of the peer's, and not clean as yet.
    pub fn ours(code: u16, reason: &str, verdict: Option<Code>) -> Self {
        Self { code, reason: reason.to_owned(), clean: false, verdict, fault: None, fault_value: None, peer: None }
    }
}

/// How a connection has begun to close, told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// As [`Ending::fault`].
    pub fault: Option<FrameFault>,
    /// As [`Ending::fault_value`].
    pub fault_value: Option<u16>,
}

/// What the peer has said of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// It ended its side of the stream.
    End,
    /// It sent a close frame.
    Goodbye,
}

#[derive(Debug)]
pub(super) struct Closing {
    phase: Phase,
    /// While parting or doomed: the next look. Then: when the socket is dropped.
    deadline: Moment,
    /// When answers are not waited for any more.
    give_up_at: Moment,
    /// While parting: when what still waits is discarded.
    part_at: Moment,
    heard: Heard,
    /// The framing is broken: what follows are no frames, and no close frame among them makes the end a clean one.
    is_broken: bool,
    skim: Skim,
    discarded: usize,
    ending: Ending,
    told: bool,
    beginning_told: bool,
}

impl Closing {
    pub(super) fn next_deadline(&self) -> Moment {
        if self.phase == Phase::Dropped { Moment::NEVER } else { self.deadline }
    }

    /// The peer has said more of the end.
    fn hear(&mut self, heard: Heard) {
        self.heard = self.heard.max(heard);
        if self.phase == Phase::Closing && self.heard != Heard::Nothing {
            self.phase = Phase::Closed;
        }
    }
}

impl Connection {
    /// How far the connection is.
    pub fn phase(&self) -> Phase {
        self.closing.as_ref().map_or(Phase::Open, |closing| closing.phase)
    }

    /// Starts the closing handshake with `code`; does nothing when it has begun already. What the peer sent before and
    /// still waits is discarded.
    pub fn close(&mut self, code: u16, reason: &str, turn: &mut Turn<'_>) {
        self.close_for(None, code, reason, turn);
    }

    fn close_for(&mut self, verdict: Option<Code>, code: u16, reason: &str, turn: &mut Turn<'_>) {
        if self.delivers() {
            let reason = &reason[..reason.floor_char_boundary(123)];
            self.begin_closing(Phase::Doomed, Ending::ours(code, reason, verdict), turn);
            self.say_goodbye(turn);
        }
    }

    /// Reports a broken rule and closes for it.
    pub fn violate(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) {
        if self.delivers() {
            turn.sink.report(*report);
            let draining = report.code == Code::Draining;
            let close = if draining { turn.policy.drain_close_code } else { report.code.close_code() };
            self.close_for(Some(report.code), close, report.code.reason(), turn);
        }
    }

    /// Acts on a message whose data the application itself found broken, as `on_violation` says and, where the application
    /// expects that the connection may stay, the event's `on_mismatch`.
    pub fn refuse_for_the_application(&mut self, report: &Report<'_>, reply: Reply<'_>, turn: &mut Turn<'_>) {
        let contract = &turn.policy.contract;
        let rule = report.event.and_then(|event| contract.find(event)).map(|index| contract.event(index));
        let answers = match reply {
            Reply::To(id) if !turn.policy.report_only() => {
                rule.filter(|rule| rule.replies_to_mismatches()).map(|rule| (rule, id))
            }
            Reply::To(_) | Reply::Never => None,
        };
        if answers.is_none() && !turn.policy.report_only() {
            return self.violate(report, turn);
        }
        if !self.delivers() {
            return;
        }
        turn.sink.remark(*report);
        if let Some((rule, id)) = answers {
            // It was charged for a valid message.
            let charged = if rule.cost() < INVALID_COST { self.charge_invalid(turn) } else { Ok(()) };
            if let (Err(over), Some(rules)) = (charged, &turn.policy.rate_limit) {
                let detail = over.describe(rules);
                return self.violate(&Report { code: Code::RateLimited, detail: &detail, ..*report }, turn);
            }
            outgoing::push_error_frame(turn.out, rule.name(), &outgoing::mismatch_data(""), id);
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
        let ending = Ending::ours(report.code.close_code(), report.code.reason(), Some(report.code));
        self.begin_closing(Phase::Doomed, ending, turn);
    }

    /// Fails the connection (section 7.1.7) for a frame or a message that must not be.
    pub(super) fn fail(&mut self, violation: Violation, turn: &mut Turn<'_>) {
        if !matches!(violation, Violation::Frame(_) | Violation::ReasonNotUtf8) {
            // The connection ends in any case.
            let _ = self.charge_invalid(turn);
        }
        let detail = violation.to_string();
        self.refuse(&Report { code: violation.code(), event: None, detail: &detail }, turn);
        if let Some(closing) = &mut self.closing {
            closing.is_broken |= violation.frame().is_some();
            (closing.ending.fault, closing.ending.fault_value) = (violation.fault(), violation.fault_value());
        }
    }

    /// A close frame of the peer.
    pub(super) fn handle_close(&mut self, payload: &[u8], turn: &mut Turn<'_>) {
        match CloseFrame::parse(payload) {
            Ok(frame) => {
                let ending = Ending::ours(frame.code.unwrap_or(NO_CODE), &frame.reason, None);
                let ending = Ending { clean: true, peer: Some(frame), ..ending };
                self.part(Heard::Goodbye, ending, turn);
            }
            Err(violation) => {
                self.fail(violation, turn);
                if let Some(closing) = &mut self.closing {
                    // Both have sent a close frame, where the frame itself was whole.
                    closing.ending.clean |= closing.phase == Phase::Closing && !closing.is_broken;
                    closing.hear(Heard::Goodbye);
                }
            }
        }
    }

    /// The peer ended its side of the stream: it may still hear answers, and why it is refused.
    pub fn handle_half_close(&mut self, turn: &mut Turn<'_>) {
        match &mut self.closing {
            Some(closing) => closing.hear(Heard::End),
            None => self.part(Heard::End, Ending::broken(), turn),
        }
    }

    /// The socket failed, or is given up: the peer hears nothing more.
    pub fn handle_eof(&mut self, turn: &mut Turn<'_>) {
        if self.delivers() {
            // Of a peer whose close frame has come, its code is the connection's (RFC 6455 section 7.1.5), though it was not answered.
            let said = self.closing.as_ref().filter(|closing| closing.heard == Heard::Goodbye);
            let ending = said.map(|closing| Ending { clean: false, ..closing.ending.clone() });
            self.begin_closing(Phase::Dropped, ending.unwrap_or_else(Ending::broken), turn);
        } else if let Some(closing) = &mut self.closing {
            closing.ending.clean &= closing.phase != Phase::Doomed;
            closing.phase = Phase::Dropped;
        }
    }

    /// Ends the connection behind what was said to the peer, without a close frame: for the peer it breaks. One that is on its
    /// way out already ends as it was to.
    pub fn hang_up(&mut self, turn: &mut Turn<'_>) {
        if self.phase() == Phase::Open {
            self.begin_closing(Phase::Closed, Ending::broken(), turn);
            if let Some(closing) = &mut self.closing {
                closing.deadline = closing.part_at;
            }
        }
    }

    /// Discards what comes behind the end, but for the peer's close frame.
    pub(super) fn hear_out(&mut self, input: &[u8]) {
        let Some(closing) = &mut self.closing else { return };
        closing.discarded = closing.discarded.saturating_add(input.len());
        if closing.discarded > MAX_DISCARDED_BYTES {
            closing.ending.clean &= matches!(closing.phase, Phase::Closing | Phase::Closed);
            closing.phase = Phase::Dropped;
            self.delayed = None;
        } else if closing.heard != Heard::Goodbye {
            let found = closing.skim.finds_close(input);
            // In the middle of a frame that does not come, the next frame is where nothing can tell; a lone close frame is one.
            let lone = if found { None } else { codec::lone_close_frame(input) };
            closing.is_broken |= lone.is_some();
            if found || lone.is_some() {
                let said = lone.map_or_else(|| closing.skim.take_close(), |lone| CloseFrame::parse(&lone).ok());
                closing.ending.peer = said;
                closing.ending.clean = !closing.is_broken;
                closing.hear(Heard::Goodbye);
            }
        }
    }

    fn begin_closing(&mut self, phase: Phase, mut ending: Ending, turn: &mut Turn<'_>) {
        if phase != Phase::Parting {
            self.delayed = None;
        }
        self.end_heartbeat();
        let (now, close_timeout_ms) = (turn.now, turn.policy.close_timeout_ms);
        let (heard, skim, discarded, beginning_told) = match self.closing.take() {
            Some(parting) => {
                ending.peer = parting.ending.peer;
                (parting.heard, parting.skim, parting.discarded, parting.beginning_told)
            }
            None => (Heard::Nothing, self.decoder.give_up(turn.pool), 0, false),
        };
        self.closing = Some(Box::new(Closing {
            phase,
            deadline: now.after_millis(LOOK_MS),
            give_up_at: now.after_millis(GRACE_MS),
            part_at: now.after_millis(close_timeout_ms),
            heard,
            is_broken: false,
            skim,
            discarded,
            ending,
            told: false,
            beginning_told,
        }));
    }

    /// Begins to part: the peer will send nothing more.
    fn part(&mut self, heard: Heard, ending: Ending, turn: &mut Turn<'_>) {
        self.begin_closing(Phase::Parting, ending, turn);
        if let Some(closing) = &mut self.closing {
            closing.heard = heard;
        }
        self.go_on_parting(turn);
    }

    /// A message is delivered: while parting, its answer is waited for.
    pub(super) fn expect_answer(&mut self, now: Moment) {
        if let Some(closing) = &mut self.closing {
            closing.give_up_at = now.after_millis(GRACE_MS);
        }
    }

    /// Delivers what is due of a peer that has left, and ends when nothing waits and no answer may come.
    pub(super) fn go_on_parting(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.release_delayed(now, turn);
        let next_release = self.delayed.as_ref().map(|delayed| delayed.next_release());
        let Some(closing) = self.closing.as_mut().filter(|closing| closing.phase == Phase::Parting) else { return };
        let look_at = match next_release {
            Some(release) => release,
            None if closing.give_up_at > now && turn.sink.replies_may_come() => now.after_millis(LOOK_MS),
            None => now,
        };
        if look_at > now && closing.part_at > now {
            closing.deadline = look_at.min(closing.part_at);
            return;
        }
        if closing.heard == Heard::Goodbye {
            // 1005 and 1006 are told, never sent (RFC 6455 section 7.4.1).
            let code = Some(closing.ending.code).filter(|code| codec::is_sendable(*code));
            codec::close_frame(turn.out, code, "");
        }
        self.extras = None;
        closing.phase = Phase::Closed;
        closing.deadline = closing.part_at.max(now.after_millis(GRACE_MS));
        self.delayed = None;
    }

    /// Sends the close frame of a connection that still waits for answers to what its peer has sent before; otherwise nothing.
    pub fn say_goodbye(&mut self, turn: &mut Turn<'_>) {
        if let Some(closing) = &mut self.closing
            && closing.phase == Phase::Doomed
        {
            // The application's own close may have no code.
            let code = Some(closing.ending.code).filter(|code| *code != codec::NO_CODE);
            codec::close_frame(turn.out, code, &closing.ending.reason);
            self.extras = None;
            closing.ending.clean = closing.heard == Heard::Goodbye && !closing.is_broken;
            closing.phase = if closing.heard == Heard::Nothing { Phase::Closing } else { Phase::Closed };
            closing.deadline = turn.now.after_millis(turn.policy.close_timeout_ms);
        }
    }

    pub(super) fn handle_closing_deadline(&mut self, turn: &mut Turn<'_>) {
        let Some(closing) = &mut self.closing else { return };
        if closing.deadline > turn.now {
            return;
        }
        match closing.phase {
            Phase::Parting => self.go_on_parting(turn),
            Phase::Doomed if closing.give_up_at > turn.now && turn.sink.replies_may_come() => {
                closing.deadline = turn.now.after_millis(LOOK_MS);
            }
            Phase::Doomed => self.say_goodbye(turn),
            _ => closing.phase = Phase::Dropped,
        }
    }

    /// Whether it has begun to close: nothing of the peer follows any more but the end, which is not certain yet. Told once, and
    /// not behind the end.
    pub fn take_beginning(&mut self) -> Option<Beginning> {
        let is_delivered = self.delayed.is_none();
        let closing = self.closing.as_mut().filter(|closing| is_delivered && !closing.told)?;
        let Ending { fault, fault_value, .. } = closing.ending;
        let was_told = core::mem::replace(&mut closing.beginning_told, true);
        (!was_told).then_some(Beginning { fault, fault_value })
    }

    /// How the connection ended, once that is certain; told once.
    pub fn take_ending(&mut self) -> Option<Ending> {
        let closing = self.closing.as_mut()?;
        let certain = match closing.phase {
            Phase::Closed | Phase::Dropped => true,
            // Whatever comes now, it is not a clean end.
            Phase::Closing => closing.is_broken,
            Phase::Open | Phase::Parting | Phase::Doomed => false,
        };
        let tells = certain && !closing.told;
        closing.told |= certain;
        tells.then(|| closing.ending.clone())
    }
}
