//! What becomes of a whole message: rate, contract, delivery, or a verdict.

use super::{Connection, Message, Report, Turn};
use crate::codec::Opcode;
use crate::config::{Protocol, RateRules};
use crate::contract::Envelope;
use crate::limits::{Admission, Charge};
use crate::time::Moment;
use crate::verdict::Code;

const BAD_UTF8: Report<'static> = Report { code: Code::BadUtf8, event: None, detail: "text is not utf-8" };

impl Connection {
    /// A whole message: `payload` is unmasked; a text is not yet checked for UTF-8.
    pub(super) fn handle_message(&mut self, opcode: Opcode, payload: &[u8], turn: &mut Turn<'_>) {
        let bytes_pass_at = core::mem::take(&mut self.bytes_pass_at);
        let text = match opcode {
            Opcode::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Some(text),
                Err(_) => return self.fail(Code::BadUtf8, BAD_UTF8.detail, turn),
            },
            _ => None,
        };
        match (turn.policy.protocol, text) {
            (Protocol::Raw, _) => {
                if let Some(at) = self.admit(1, bytes_pass_at, payload.len(), None, turn) {
                    self.pass(at, opcode, payload, None, turn);
                }
            }
            (Protocol::Json, Some(text)) => self.handle_envelope(text, bytes_pass_at, turn),
            (Protocol::Json, None) => {
                // Only where violations are reported: else the decoder refuses it from its header.
                let detail = "binary message where protocol is json";
                self.admit(1, bytes_pass_at, payload.len(), None, turn);
                turn.sink.report(Report { code: Code::UnexpectedBinary, event: None, detail });
            }
        }
    }

    fn handle_envelope(&mut self, text: &str, bytes_pass_at: Moment, turn: &mut Turn<'_>) {
        let policy = turn.policy;
        match policy.contract.read(text, turn.scratch) {
            Ok(envelope) => {
                let cost = envelope.index.map_or(1, |index| policy.contract.event(index).cost());
                let Some(at) = self.admit(cost, bytes_pass_at, text.len(), Some(&envelope.event), turn) else { return };
                if self.honours_contract(&envelope, turn) {
                    self.pass(at, Opcode::Text, text.as_bytes(), Some(&envelope), turn);
                }
            }
            Err(bad) => {
                // An invalid message costs 1, so that reconnecting offenders run dry.
                if self.admit(1, bytes_pass_at, text.len(), None, turn).is_some() {
                    let detail = bad.to_string();
                    self.judge(&Report { code: Code::BadEnvelope, event: None, detail: &detail }, turn);
                }
            }
        }
    }

    /// Checks event and schema; `false`: the connection is closing.
    fn honours_contract(&mut self, envelope: &Envelope<'_>, turn: &mut Turn<'_>) -> bool {
        let contract = &turn.policy.contract;
        let event = Some(&*envelope.event);
        match envelope.index.map(|index| contract.check(index, envelope.data)) {
            Some(Ok(())) => true,
            Some(Err(mismatch)) => {
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

    /// Charges the byte bucket with what headers announced of an unfinished message.
    pub(super) fn charge_claimed(&mut self, turn: &mut Turn<'_>) {
        let claimed = self.decoder.take_claimed_bytes();
        if claimed == 0 || !self.is_open() {
            return;
        }
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return };
        let pass_at = key.charge_bytes(rules, claimed, turn.now);
        self.bytes_pass_at = self.bytes_pass_at.max(pass_at);
        let waiting = self.delayed.as_ref().map_or(0, |delayed| delayed.bytes()) as u64;
        if pass_at > turn.now && waiting + claimed > rules.max_delayed_bytes as u64 && !turn.policy.report_only() {
            let detail = "payload bytes over bytes_per_second and the delayed queue";
            self.refuse(&Report { code: Code::RateLimited, event: None, detail }, turn);
        }
    }

    /// When the message may pass; `None`: it overflows and the connection is closing.
    fn admit(
        &mut self,
        cost: u32,
        bytes_pass_at: Moment,
        len: usize,
        event: Option<&str>,
        turn: &mut Turn<'_>,
    ) -> Option<Moment> {
        let bytes = self.decoder.take_claimed_bytes();
        let (Some(key), Some(rules)) = (&self.rate_key, &turn.policy.rate_limit) else { return Some(turn.now) };
        let charge = self.charge(rules, cost, bytes, bytes_pass_at, len);
        let report = Report { code: Code::RateLimited, event, detail: "messages over rate_limit and its queue" };
        if turn.policy.report_only() {
            if key.observe(rules, charge, turn.now) {
                turn.sink.report(report);
            }
            return Some(turn.now);
        }
        match key.admit(rules, charge, turn.now) {
            Admission::Now => Some(turn.now),
            Admission::At(at) => Some(at),
            Admission::Overflow => {
                self.refuse(&report, turn);
                None
            }
        }
    }

    fn charge(&self, rules: &RateRules, cost: u32, bytes: u64, bytes_pass_at: Moment, len: usize) -> Charge {
        let (waiting_bytes, last) =
            self.delayed.as_ref().map_or((0, Moment::START), |delayed| (delayed.bytes(), delayed.last_release()));
        Charge {
            cost,
            bytes,
            not_before: bytes_pass_at.max(last),
            may_wait: waiting_bytes + len <= rules.max_delayed_bytes,
        }
    }

    /// Delivers a message that may pass at `at`, or lets it wait.
    fn pass(
        &mut self,
        at: Moment,
        opcode: Opcode,
        payload: &[u8],
        envelope: Option<&Envelope<'_>>,
        turn: &mut Turn<'_>,
    ) {
        if at > turn.now {
            return self.delay(at, opcode, payload, turn);
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
