//! What becomes of a whole message: rate, contract, delivery, or a verdict.

use super::{Connection, Message, Report, Turn};
use crate::codec::Opcode;
use crate::config::Protocol;
use crate::contract::Envelope;
use crate::rate::{Admission, Charge, INVALID_COST, QueuePlace};
use crate::time::Moment;
use crate::verdict::Code;

/// How an admitted message passes.
enum Passing {
    Now,
    At(Moment, QueuePlace),
}

impl Connection {
    /// A whole message: `payload` is unmasked; a text is not yet checked for UTF-8.
    pub(super) fn handle_message(&mut self, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        self.decoder.take_received_bytes();
        let text = match opcode {
            Opcode::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Some(text),
                Err(_) => return self.fail_message(Code::BadUtf8, "text is not utf-8", turn),
            },
            _ => None,
        };
        match (turn.policy.protocol, text) {
            (Protocol::Raw, _) => {
                if let Some(passing) = self.admit(1.0, payload.len(), None, turn) {
                    self.pass(passing, opcode, payload, None, turn);
                }
            }
            (Protocol::Json, Some(text)) => self.handle_envelope(text, turn),
            (Protocol::Json, None) => {
                // Only where violations are reported: else the decoder refuses it from its header.
                let detail = "binary message where protocol is json";
                self.admit(INVALID_COST, payload.len(), None, turn);
                turn.sink.report(Report { code: Code::UnexpectedBinary, event: None, detail });
            }
        }
    }

    fn handle_envelope(&mut self, text: &str, turn: &mut Turn<'_>) {
        let policy = turn.policy;
        match policy.contract.read(text, turn.scratch) {
            Ok(envelope) => {
                let cost = envelope.index.map_or(INVALID_COST, |index| policy.contract.event(index).cost());
                let Some(passing) = self.admit(cost, text.len(), Some(&envelope.event), turn) else { return };
                if self.honours_contract(&envelope, cost, turn) {
                    self.pass(passing, Opcode::Text, text.as_bytes(), Some(&envelope), turn);
                }
            }
            Err(bad) => {
                if self.admit(INVALID_COST, text.len(), None, turn).is_some() {
                    let detail = bad.to_string();
                    self.judge(&Report { code: Code::BadEnvelope, event: None, detail: &detail }, turn);
                }
            }
        }
    }

    /// Checks event and schema of a message that was admitted for `cost`; `false`: the connection is closing.
    fn honours_contract(&mut self, envelope: &Envelope<'_>, cost: f64, turn: &mut Turn<'_>) -> bool {
        let contract = &turn.policy.contract;
        let event = Some(&*envelope.event);
        match envelope.index.map(|index| contract.check(index, envelope.data)) {
            Some(Ok(())) => true,
            Some(Err(mismatch)) => {
                self.charge_as_invalid(cost, turn);
                let detail = mismatch.to_string();
                self.judge(&Report { code: Code::SchemaMismatch, event, detail: &detail }, turn)
            }
            None => self.judge(&Report { code: Code::UnknownEvent, event, detail: "event is not in events" }, turn),
        }
    }

    /// Acts on a broken message rule as `on_violation` says; whether the message may still pass.
    fn judge(&mut self, report: &Report<'_>, turn: &mut Turn<'_>) -> bool {
        if turn.policy.report_only() {
            turn.sink.report(*report);
            return true;
        }
        self.refuse(report, turn);
        false
    }

    /// A message that its bytes alone make invalid: too large, in too many fragments, of the wrong kind, no UTF-8.
    pub(super) fn fail_message(&mut self, code: Code, detail: &str, turn: &mut Turn<'_>) {
        self.charge_as_invalid(0.0, turn);
        self.fail(code, detail, turn);
    }

    /// A message for which `cost` was charged in this turn costs what an invalid one does.
    fn charge_as_invalid(&self, cost: f64, turn: &Turn<'_>) {
        if let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) {
            key.charge_as_invalid(rules, cost, turn.now);
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
        let detail = match passes {
            Ok(at) if at > turn.now && kept as u64 + outstanding > rules.max_delayed_bytes as u64 => {
                "payload bytes over rate_limit.bytes_per_second and the delayed queue"
            }
            Ok(_) => return,
            Err(over) => over,
        };
        self.refuse(&Report { code: Code::RateLimited, event: None, detail }, turn);
    }

    /// How the message may pass; `None`: it overflows and the connection is closing.
    fn admit(&mut self, cost: f64, len: usize, event: Option<&str>, turn: &mut Turn<'_>) -> Option<Passing> {
        let charged = core::mem::take(&mut self.charged);
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return Some(Passing::Now) };
        let (waiting_bytes, not_before) =
            self.delayed.as_ref().map_or((0, Moment::START), |delayed| (delayed.bytes(), delayed.last_release()));
        let may_wait = waiting_bytes + len <= rules.max_delayed_bytes;
        let charge = Charge { cost, bytes: len as u64, charged, not_before, may_wait };
        if turn.policy.report_only() {
            if let Some(detail) = key.observe(rules, &charge, turn.now) {
                turn.sink.report(Report { code: Code::RateLimited, event, detail });
            }
            return Some(Passing::Now);
        }
        match key.admit(rules, &charge, turn.now) {
            Admission::Now => Some(Passing::Now),
            Admission::At(at, place) => Some(Passing::At(at, place)),
            Admission::Overflow(detail) => {
                self.refuse(&Report { code: Code::RateLimited, event, detail }, turn);
                None
            }
        }
    }

    /// Delivers a message, or lets it wait.
    fn pass(
        &mut self,
        passing: Passing,
        opcode: Opcode,
        payload: &[u8],
        envelope: Option<&Envelope<'_>>,
        turn: &mut Turn<'_>,
    ) {
        if let Passing::At(release, place) = passing {
            return self.delay(release, place, opcode, payload);
        }
        let message = match envelope {
            Some(envelope) => Message::Event { envelope, bytes: payload.len() },
            None => Message::Raw { opcode, payload },
        };
        self.deliver(message, turn);
    }

    /// Delivers a message that has waited; it was found valid when it came.
    pub(super) fn deliver_delayed(&mut self, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        if turn.policy.protocol == Protocol::Raw {
            return self.deliver(Message::Raw { opcode, payload }, turn);
        }
        let policy = turn.policy;
        let Ok(text) = simdutf8::basic::from_utf8(payload) else { return };
        let Ok(envelope) = policy.contract.read(text, turn.scratch) else { return };
        self.deliver(Message::Event { envelope: &envelope, bytes: payload.len() }, turn);
    }

    fn deliver(&mut self, message: Message<'_>, turn: &mut Turn<'_>) {
        if let Err(code) = turn.sink.message(message, turn.out) {
            self.violate(&Report { code, event: None, detail: "the application's handler failed" }, turn);
        }
    }
}
