//! What becomes of a whole message: rate, contract, delivery, or a verdict.

use super::delayed::Kept;
use super::{Connection, Message, Report, Turn};
use crate::codec::{Opcode, Violation};
use crate::config::Protocol;
use crate::contract::{BadEnvelope, Envelope, JsonLimits, Rule, SchemaMismatch};
use crate::outgoing;
use crate::rate::{Charge, INVALID_COST, Overflow, Passing, Receipt};
use crate::time::Moment;
use crate::verdict::Code;

/// A message that its rate lets pass.
struct Admitted {
    passing: Passing,
    /// What it was charged; `None`: nothing.
    receipt: Option<Receipt>,
}

impl Admitted {
    /// At once, and for nothing.
    const FREE: Self = Admitted { passing: Passing::Now, receipt: None };
}

impl Connection {
    /// A whole message: `payload` is unmasked; a text is not yet checked for UTF-8.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    pub(super) fn handle_message(&mut self, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        let message = match opcode {
            Opcode::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Message::Text(text),
                Err(_) => return self.fail(Violation::TextNotUtf8, turn),
            },
            _ => Message::Binary(payload),
        };
        match (turn.policy.protocol, message) {
            (Protocol::Raw, message) => {
                if let Some(admitted) = self.admit(1.0, payload.len(), None, turn) {
                    self.pass(admitted.passing, message, turn);
                }
            }
            (Protocol::Json, Message::Text(text)) => self.handle_envelope(text, turn),
            (Protocol::Json, _) => self.remark_binary(payload.len(), turn),
        }
    }

    /// Only where violations are reported: else the decoder refuses it from its header.
    #[cold]
    fn remark_binary(&mut self, len: usize, turn: &mut Turn<'_>) {
        self.admit(INVALID_COST, len, None, turn);
        let detail = Violation::Binary.to_string();
        turn.sink.remark(Report { code: Code::UnexpectedBinary, event: None, detail: &detail });
    }

    fn handle_envelope(&mut self, text: &str, turn: &mut Turn<'_>) {
        let policy = turn.policy;
        match policy.contract.read(text, turn.scratch) {
            Ok(envelope) => {
                let cost = envelope.index.map_or(INVALID_COST, |index| policy.contract.event(index).cost());
                let Some(admitted) = self.admit(cost, text.len(), Some(&envelope.event), turn) else { return };
                if self.honours_contract(&envelope, admitted.receipt.as_ref(), turn) {
                    self.pass(admitted.passing, Message::Event { envelope: &envelope, text }, turn);
                }
            }
            Err(bad) => {
                if self.admit(INVALID_COST, text.len(), None, turn).is_some() {
                    let detail = bad_envelope(bad, policy.contract.json_limits());
                    self.judge(&Report { code: Code::BadEnvelope, event: None, detail: &detail }, turn);
                }
            }
        }
    }

    /// Checks event, roles and schema of a message that was admitted, in this order; `false`: it may not pass.
    fn honours_contract(&mut self, envelope: &Envelope<'_>, receipt: Option<&Receipt>, turn: &mut Turn<'_>) -> bool {
        let contract = &turn.policy.contract;
        let event = Some(&*envelope.event);
        if let Some(index) = envelope.index
            && !contract.event(index).is_for(&self.roles)
        {
            let _ = self.charge_as_invalid(receipt, turn);
            let detail = "the connection has none of the event's roles";
            return self.judge(&Report { code: Code::EventDenied, event, detail }, turn);
        }
        match envelope.index.map(|index| contract.check(index, envelope.data)) {
            Some(Ok(())) => true,
            Some(Err(mismatch)) => {
                let charged = self.charge_as_invalid(receipt, turn);
                self.judge_mismatch(envelope, &mismatch, charged, turn)
            }
            None => self.judge(&Report { code: Code::UnknownEvent, event, detail: "event is not in events" }, turn),
        }
    }

    /// Acts on data that does not fit its schema; whether the message may still pass. Answers are for those whose rate has room
    /// for what an invalid message costs.
    fn judge_mismatch(
        &mut self,
        envelope: &Envelope<'_>,
        mismatch: &SchemaMismatch,
        charged: Result<(), Overflow>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let contract = &turn.policy.contract;
        let detail = mismatch.to_string();
        let report = Report { code: Code::SchemaMismatch, event: Some(&*envelope.event), detail: &detail };
        let replies = envelope.index.is_some_and(|index| contract.event(index).replies_to_mismatches());
        if turn.policy.report_only() || !replies {
            return self.judge(&report, turn);
        }
        turn.sink.remark(report);
        if let (Err(over), Some(rules)) = (charged, &turn.policy.rate_limit) {
            let detail = over.describe(rules);
            return self
                .judge(&Report { code: Code::RateLimited, event: Some(&*envelope.event), detail: &detail }, turn);
        }
        let data = outgoing::mismatch_data(mismatch.path());
        outgoing::push_error_frame(turn.out, &envelope.event, &data, envelope.id);
        false
    }

    /// Acts on a broken message rule as `on_violation` says; whether the message may still pass.
    fn judge(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) -> bool {
        if turn.policy.report_only() {
            turn.sink.remark(*report);
            return true;
        }
        self.refuse(report, turn);
        false
    }

    /// A message that its bytes alone make invalid (too large, in too many fragments, of the wrong kind, no UTF-8) costs
    /// what an invalid one does. An error: its rate has no room for that.
    pub(super) fn charge_invalid(&self, turn: &Turn<'_>) -> Result<(), Overflow> {
        match (&self.rate_key, &turn.policy.rate_limit) {
            (Some(key), Some(rules)) => key.charge_invalid(rules, turn.now),
            _ => Ok(()),
        }
    }

    /// So does one that was charged before it was found to be invalid. An error: its rate has no room for that.
    fn charge_as_invalid(&self, receipt: Option<&Receipt>, turn: &Turn<'_>) -> Result<(), Overflow> {
        match (&self.rate_key, &turn.policy.rate_limit, receipt) {
            (Some(key), Some(rules), Some(receipt)) => key.charge_as_invalid(rules, receipt, turn.now),
            _ => Ok(()),
        }
    }

    /// Charges the byte bucket with what came of an unfinished message, and refuses it when the rest of what its header
    /// announced would overflow.
    pub(super) fn charge_partial(&mut self, turn: &mut Turn<'_>) {
        let (received, outstanding) = (self.decoder.take_received_bytes(), self.decoder.outstanding_bytes());
        if received == 0 && outstanding == 0 {
            return;
        }
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return };
        let passes = key.receive(rules, &mut self.charged, received, outstanding, turn.now);
        if turn.policy.report_only() {
            return;
        }
        let kept = self.delayed.as_ref().map_or(0, |delayed| delayed.bytes()) + self.decoder.buffered_bytes();
        let held = kept.saturating_add(usize::try_from(outstanding).unwrap_or(usize::MAX));
        let over = match passes {
            Ok(at) if at > turn.now && held > rules.max_delayed_bytes => Overflow::Delayed { bytes: held },
            Ok(_) => return,
            Err(over) => over,
        };
        let detail = over.describe(rules);
        self.refuse(&Report { code: Code::RateLimited, event: None, detail: &detail }, turn);
    }

    /// How the message may pass; `None`: it overflows and the connection is closing.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    fn admit(&mut self, cost: f64, len: usize, event: Option<&str>, turn: &mut Turn<'_>) -> Option<Admitted> {
        let charged = core::mem::take(&mut self.charged);
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return Some(Admitted::FREE) };
        let (waiting_bytes, not_before) =
            self.delayed.as_ref().map_or((0, Moment::START), |delayed| (delayed.bytes(), delayed.last_release()));
        let bytes = len as u64 + turn.deflate.surcharge.unwrap_or(0);
        let charge = Charge { cost, bytes, charged, not_before, held: waiting_bytes + len };
        let admitted = if turn.policy.report_only() {
            key.observe(rules, &charge, turn.now).map(|receipt| (Passing::Now, receipt))
        } else {
            key.admit(rules, &charge, turn.now)
        };
        match admitted {
            Ok((passing, receipt)) => {
                turn.deflate.surcharge = None;
                Some(Admitted { passing, receipt: Some(receipt) })
            }
            Err(over) => self.judge_overflow(over, event, turn),
        }
    }

    #[cold]
    fn judge_overflow(&mut self, over: Overflow, event: Option<&str>, turn: &mut Turn<'_>) -> Option<Admitted> {
        let detail = turn.policy.rate_limit.as_ref().map_or_else(String::new, |rules| over.describe(rules));
        let may_pass = self.judge(&Report { code: Code::RateLimited, event, detail: &detail }, turn);
        may_pass.then_some(Admitted::FREE)
    }

    /// Delivers a message, or lets it wait.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    fn pass(&mut self, passing: Passing, message: Message<'_>, turn: &mut Turn<'_>) {
        match passing {
            Passing::Now => self.deliver(message, turn),
            Passing::At(release, place) => self.delay(release, place, &message),
        }
    }

    /// Delivers a message that has waited; it was found valid when it came.
    pub(super) fn deliver_delayed(&mut self, kept: &Kept, turn: &mut Turn<'_>) {
        let policy = turn.policy;
        match (policy.protocol, kept) {
            (_, Kept::Binary(payload)) => self.deliver(Message::Binary(payload), turn),
            (Protocol::Raw, Kept::Text(text)) => self.deliver(Message::Text(text), turn),
            (Protocol::Json, Kept::Text(text)) => {
                let Ok(envelope) = policy.contract.read(text, turn.scratch) else { return };
                self.deliver(Message::Event { envelope: &envelope, text }, turn);
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    fn deliver(&mut self, message: Message<'_>, turn: &mut Turn<'_>) {
        let start = turn.out.len();
        if let Err(code) = turn.sink.message(message, turn.out) {
            return self.end_failed(code, turn);
        }
        if let (Some(agreed), Some(rules)) = (self.deflate(), &turn.policy.compression)
            && turn.out.len() > start
            && !turn.sink.answers_go_plain()
        {
            turn.deflate.compress_answers(agreed, rules, turn.out, start);
        }
    }

    #[cold]
    fn end_failed(&mut self, code: Code, turn: &mut Turn<'_>) {
        self.violate(&Report { code, event: None, detail: "the application's handler failed" }, turn);
    }
}

/// What is wrong with a message, in words for the log: where a limit is broken, which.
fn bad_envelope(bad: BadEnvelope, limits: JsonLimits) -> String {
    match bad.rule {
        Rule::TooDeep => format!("{bad}: over json_limits.max_depth ({})", limits.max_depth),
        Rule::TooManyKeys => format!("{bad}: over json_limits.max_keys ({})", limits.max_keys),
        _ => bad.to_string(),
    }
}
