//! The steps that speak to a connection.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Run, ms};
use serde_json::{Value, json};
use toml::Table;
use wsguard_test_support::deflate::Agreed;
use wsguard_test_support::frame::{CLOSE, Frame, PING, PONG, TEXT, encode};
use wsguard_test_support::http::ACCEPT;
use wsguard_test_support::outcome::{Failure, Outcome, fail, shown};

use crate::host::PLACE;
use crate::http::{Request, check_headers};
use crate::matcher::{literal, matches, to_json};
use crate::step::{
    Alive, Answered, CloseWanted, Closed, Collect, Expect, ExpectHttp, Flood, Refused, Trickle, misread,
};
use crate::wire::{Connect, Connection};

fn after(within_ms: u64) -> Instant {
    Instant::now() + ms(within_ms)
}

impl Run<'_> {
    /// The current connection, opened on first use.
    pub(super) fn connection(&mut self) -> Outcome<&mut Connection> {
        if !self.connections.contains_key(&self.current) {
            self.connect(&Connect::default())?;
        }
        self.connections.get_mut(&self.current).ok_or_else(|| Failure("no connection".into()))
    }

    pub(super) fn connect(&mut self, spec: &Connect) -> Outcome {
        self.marks.insert(self.current.clone(), Instant::now());
        let tls = (self.place.transport == "tls").then_some(self.place.certs);
        let connection = Connection::open(spec, &self.address, tls)?;
        self.connections.insert(self.current.clone(), connection);
        Ok(())
    }

    pub(super) fn send(&mut self, bytes: &[u8], chunk: Option<usize>) -> Outcome {
        let connection = self.connection()?;
        for piece in bytes.chunks(chunk.unwrap_or(usize::MAX)) {
            if !connection.send(piece)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn request(&mut self, request: &Request, chunk: Option<usize>) -> Outcome {
        let host = if self.address.starts_with("unix:") { "localhost".into() } else { self.address.clone() };
        let head = request.encode(&host)?;
        self.send(&head, chunk)
    }

    pub(super) fn upgrade(&mut self, request: &Request, chunk: Option<usize>) -> Outcome {
        let deadline = after(request.retry_ms);
        loop {
            self.request(request, chunk)?;
            match self.switched(request) {
                Err(_) if Instant::now() < deadline => self.drop_current()?,
                outcome => return outcome,
            }
        }
    }

    /// The 101 in full, and the `open` event.
    fn switched(&mut self, request: &Request) -> Outcome {
        let connection = self.connection()?;
        let response = connection.response(after(request.within_ms))?;
        if response.status != 101 {
            let rest = connection.rest(after(1000)).unwrap_or_default();
            return fail!("expected 101, got {} {}", response.status, shown(&rest));
        }
        let mut wanted = Table::new();
        wanted.insert("Sec-WebSocket-Accept".into(), ACCEPT.into());
        wanted.insert("Sec-WebSocket-Extensions".into(), request.compressed.into());
        wanted.insert("Sec-WebSocket-Protocol".into(), request.subprotocol.clone().map_or(false.into(), Into::into));
        wanted.extend(request.answer.clone());
        check_headers(&response, &wanted)?;
        for (name, value) in [("Upgrade", "websocket"), ("Connection", "upgrade")] {
            if !response.header(name).is_some_and(|actual| actual.eq_ignore_ascii_case(value)) {
                return fail!("expected {name}: {value}, got {:?}", response.header(name));
            }
        }
        if let Some(answer) = response.header("Sec-WebSocket-Extensions") {
            let agreed = Agreed::parse(answer)?;
            if agreed.server_window_bits != request.window {
                return fail!("expected server_max_window_bits {:?}, got {answer:?}", request.window);
            }
            connection.agreed = Some(agreed);
        }
        if request.open { self.opened(request) } else { Ok(()) }
    }

    fn opened(&mut self, request: &Request) -> Outcome {
        let mut wanted = json!({"type": "open", "conn": "@any"});
        if !request.offers().is_empty() {
            wanted["compressed"] = json!(request.compressed);
        }
        for (key, value) in [("user", &request.user), ("path", &request.path), ("ip", &request.ip)] {
            if let Some(value) = value {
                wanted[key] = json!(value);
            }
        }
        if let Some(roles) = &request.roles {
            wanted["roles"] = json!(roles);
        }
        if let Some(subprotocol) = &request.subprotocol {
            wanted["subprotocol"] = json!(subprotocol);
        }
        let event = self.host.take_event(&wanted, ms(request.within_ms))?;
        let user = event["user"].clone();
        let connection = self.connection()?;
        connection.id = Some(event["conn"].clone());
        connection.user = user;
        Ok(())
    }

    pub(super) fn expect_http(&mut self, wanted: &ExpectHttp) -> Outcome {
        let deadline = after(wanted.within_ms);
        let connection = self.connection()?;
        let response = connection.response(deadline)?;
        let body = if wanted.closes {
            connection.rest(deadline)?
        } else {
            connection.exactly(response.body_length(), deadline)?
        };
        if response.status != wanted.status {
            return fail!("expected status {}, got {} with body {}", wanted.status, response.status, shown(&body));
        }
        check_headers(&response, &wanted.headers)?;
        if response.header("Content-Length").is_some_and(|length| length != body.len().to_string()) {
            return fail!("the body is not Content-Length long: {}", shown(&body));
        }
        let text = String::from_utf8_lossy(&body);
        let exact = wanted.body.as_ref().is_none_or(|body| text.trim_end() == body);
        let part = wanted.body_contains.as_ref().is_none_or(|part| text.contains(part.as_str()));
        if !exact || !part || body.len() > wanted.body_max {
            return fail!("unexpected body {}", shown(&body));
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, wanted: &Answered) -> Outcome {
        let response = self.connection()?.response(after(wanted.within_ms))?;
        if wanted.one_of.contains(&response.status) {
            return Ok(());
        }
        fail!("expected one of {:?}, got {}", wanted.one_of, response.status)
    }

    pub(super) fn refused(&mut self, wanted: &Refused) -> Outcome {
        let mut headers = wanted.headers.clone();
        headers.insert("Connection".into(), "close".into());
        headers.entry("Server").or_insert(false.into());
        self.expect_http(&ExpectHttp {
            status: wanted.status,
            headers,
            body: None,
            body_contains: Some(wanted.code.clone()),
            body_max: 256,
            closes: true,
            within_ms: wanted.within_ms,
        })?;
        let ip = wanted.ip.clone().unwrap_or(self.connection()?.ip.to_string());
        let event = json!({"type": "violation", "code": wanted.code, "ip": ip, "conn": null, "user": wanted.user});
        if wanted.event {
            self.host.take_event(&event, Duration::from_secs(2))?;
        } else {
            self.host.take_events(&event);
        }
        self.nothing_processed()
    }

    /// A refused peer reached nobody: no `open`, no `message` that a step has not taken.
    fn nothing_processed(&mut self) -> Outcome {
        for kind in ["open", "message"] {
            if let Some(event) = self.host.take_events(&json!({"type": kind})).first() {
                return fail!("the host saw {event} of a refused peer");
            }
        }
        Ok(())
    }

    pub(super) fn emit(&mut self, message: &Table, chunk: Option<usize>) -> Outcome {
        let text = literal(&toml::Value::Table(message.clone())).to_string();
        self.send(&encode(TEXT, text.as_bytes()), chunk)
    }

    pub(super) fn expect(&mut self, wanted: &Expect) -> Outcome {
        let deadline = after(wanted.within_ms);
        for _ in 0..wanted.times {
            let frame = self.connection()?.frame(deadline)?;
            check_frame(wanted, &frame)?;
        }
        Ok(())
    }

    /// Answers the next frame, which must be a ping.
    pub(super) fn pong(&mut self, within_ms: u64) -> Outcome {
        let frame = self.connection()?.frame(after(within_ms))?;
        if frame.opcode != PING {
            return fail!("expected a ping, got {frame:?}");
        }
        self.send(&encode(PONG, &frame.payload), None)
    }

    pub(super) fn collect(&mut self, wanted: &Collect) -> Outcome {
        let deadline = after(wanted.within_ms);
        let opcode = wanted.op.number()?;
        let connection = self.connection()?;
        let mut count = 0;
        while wanted.until.is_none_or(|until| count < until) {
            match connection.frame_if_any(deadline)? {
                Some(frame) if frame.opcode == opcode => {
                    frame.inflated(connection.agreed)?;
                    count += 1;
                }
                Some(other) => {
                    connection.put_back(&other);
                    break;
                }
                None => break,
            }
        }
        if (wanted.min..=wanted.max).contains(&count) {
            return Ok(());
        }
        fail!("expected {} to {} frames, got {count}; then {:?}", wanted.min, wanted.max, connection.ended)
    }

    pub(super) fn expect_bytes(&mut self, bytes: &[u8]) -> Outcome {
        let got = self.connection()?.exactly(bytes.len(), after(5000))?;
        if got == bytes { Ok(()) } else { fail!("expected {}, got {}", shown(bytes), shown(&got)) }
    }

    pub(super) fn expect_close(&mut self, wanted: &CloseWanted) -> Outcome {
        let deadline = after(wanted.within_ms);
        let frame = self.connection()?.frame(deadline)?;
        check_close(&frame, wanted.code, wanted.reason.as_deref())?;
        if wanted.reply {
            self.send(&encode(CLOSE, &frame.payload[..frame.payload.len().min(2)]), None)?;
        }
        if wanted.eof { self.expect_eof(wanted.within_ms) } else { Ok(()) }
    }

    pub(super) fn expect_eof(&mut self, within_ms: u64) -> Outcome {
        let rest = self.connection()?.rest(after(within_ms))?;
        if rest.is_empty() { Ok(()) } else { fail!("expected the end, got {}", shown(&rest)) }
    }

    /// The rest of an answer, no second answer, and the end.
    pub(super) fn ends(&mut self, within_ms: u64) -> Outcome {
        let rest = self.connection()?.rest(after(within_ms))?;
        let behind_the_first = rest.strip_prefix(b"HTTP/1.1 ").unwrap_or(&rest);
        if behind_the_first.windows(11).any(|window| window == b"\r\nHTTP/1.1 ") {
            return fail!("a second answer: {}", shown(&rest));
        }
        Ok(())
    }

    /// A TLS alert or nothing, then the end.
    pub(super) fn expect_tls_refused(&mut self, within_ms: u64) -> Outcome {
        const ALERT: u8 = 0x15;
        let rest = self.connection()?.rest(after(within_ms))?;
        match rest.first() {
            None | Some(&ALERT) => Ok(()),
            Some(_) => fail!("expected a TLS alert or the end, got {}", shown(&rest)),
        }
    }

    pub(super) fn expect_nothing(&mut self, for_ms: u64) -> Outcome {
        self.connection()?.silence(after(for_ms))
    }

    pub(super) fn closed(&mut self, wanted: &Closed) -> Outcome {
        let deadline = after(wanted.within_ms);
        let skipped = wanted.after.iter().map(crate::frame::Opcode::number).collect::<Outcome<Vec<_>>>()?;
        let connection = self.connection()?;
        let mut frame = connection.frame(deadline)?;
        while skipped.contains(&frame.opcode) {
            frame = connection.frame(deadline)?;
        }
        check_close(&frame, Some(wanted.close), wanted.reason.as_deref())?;
        if wanted.reply {
            connection.send(&encode(CLOSE, &wanted.close.to_be_bytes()))?;
        }
        let rest = connection.rest(deadline)?;
        if !rest.is_empty() {
            return fail!("after the close frame came {}", shown(&rest));
        }
        let (id, user, ip) = (connection.id.clone(), connection.user.clone(), connection.ip);
        self.closed_events(wanted, &id.unwrap_or(Value::Null), &user, ip)
    }

    /// The violation with the address and the user, the close, and no message behind the violation.
    fn closed_events(&mut self, wanted: &Closed, id: &Value, user: &Value, ip: IpAddr) -> Outcome {
        let patience = Duration::from_secs(3);
        if let Some(code) = &wanted.code {
            let mut violation =
                json!({"type": "violation", "code": code, "ip": ip.to_string(), "conn": id, "user": user});
            if let Some(event) = &wanted.event {
                violation["event"] = json!(event);
            }
            let violation = self.host.take_event(&violation, patience)?;
            let place = violation[PLACE].as_u64();
            let messages = self.host.take_events(&json!({"type": "message", "conn": id}));
            if let Some(late) = messages.iter().find(|message| message[PLACE].as_u64() > place) {
                return fail!("processed after the violation: {late}");
            }
        }
        self.host.take_event(&json!({"type": "close", "conn": id, "code": wanted.close}), patience)?;
        Ok(())
    }

    pub(super) fn alive(&mut self, wanted: &Alive) -> Outcome {
        self.echoes += 1;
        let text = format!("still here {}", self.echoes);
        let payload = if self.raw_protocol {
            text.clone()
        } else {
            json!({"event": "echo", "data": text, "id": self.echoes}).to_string()
        };
        self.send(&encode(TEXT, payload.as_bytes()), None)?;
        let id = self.echoes;
        let connection = self.connection()?;
        let frame = connection.frame(after(wanted.within_ms))?;
        let conn = connection.id.clone().unwrap_or(Value::Null);
        let answered = if self.raw_protocol {
            frame.opcode == TEXT && frame.payload == text.as_bytes()
        } else {
            let reply = json!({"event": "echo", "data": text, "id": id, "status": "ok"});
            serde_json::from_slice::<Value>(&frame.payload).is_ok_and(|actual| actual == reply)
        };
        if !answered {
            return fail!("expected the echo of {text:?}, got {}", frame.shown());
        }
        self.host.take_event(&json!({"type": "message", "conn": conn}), Duration::from_secs(3))?;
        Ok(())
    }

    /// A new honest client comes, is served, and leaves.
    pub(super) fn fresh(&mut self, wanted: &Alive) -> Outcome {
        let before = self.current.clone();
        self.current = "(fresh)".into();
        self.connect(&Connect { from: wanted.from, ..Connect::default() })?;
        let mut request: Request = Table::new().try_into().map_err(misread)?;
        request.within_ms = wanted.within_ms;
        request.set_token(wanted.token.as_deref());
        self.upgrade(&request, None)?;
        self.alive(wanted)?;
        self.bye(wanted.within_ms)?;
        self.current = before;
        Ok(())
    }

    pub(super) fn bye(&mut self, within_ms: u64) -> Outcome {
        self.send(&encode(CLOSE, &1000_u16.to_be_bytes()), None)?;
        let deadline = after(within_ms);
        let connection = self.connection()?;
        let frame = connection.frame(deadline)?;
        check_close(&frame, Some(1000), None)?;
        let rest = connection.rest(deadline)?;
        if !rest.is_empty() {
            return fail!("after the close frame came {}", shown(&rest));
        }
        let id = connection.id.clone().unwrap_or(Value::Null);
        let close = json!({"type": "close", "conn": id, "code": 1000, "clean": true});
        self.connections.remove(&self.current);
        self.host.take_event(&close, Duration::from_secs(3)).map(|_| ())
    }

    #[expect(clippy::unnecessary_wraps, reason = "every step has the same shape")]
    pub(super) fn drop_current(&mut self) -> Outcome {
        self.connections.remove(&self.current);
        Ok(())
    }

    pub(super) fn reset(&mut self) -> Outcome {
        self.connections.remove(&self.current).map_or_else(|| fail!("nothing to reset"), Connection::reset)
    }

    pub(super) fn trickle(&mut self, trickle: &Trickle) -> Outcome {
        let connection = self.connection()?;
        for byte in trickle.bytes.to_vec()? {
            if !connection.send(&[byte])? || connection.silence(after(trickle.every_ms)).is_err() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn flood(&mut self, flood: &Flood) -> Outcome {
        let frame = flood.frame.encode()?;
        let connection = self.connection()?;
        for _ in 0..flood.times {
            if !connection.send_for(&frame, ms(flood.patience_ms))? {
                break;
            }
        }
        Ok(())
    }
}

fn check_close(frame: &Frame, code: Option<u16>, reason: Option<&str>) -> Outcome {
    let (got, got_reason) = frame.close_reason();
    let right = frame.opcode == CLOSE
        && code.is_none_or(|code| got == Some(code))
        && reason.is_none_or(|reason| reason == got_reason);
    if right { Ok(()) } else { fail!("expected close {code:?} {}, got {}", reason.unwrap_or(""), frame.shown()) }
}

fn check_frame(wanted: &Expect, frame: &Frame) -> Outcome {
    let opcode = wanted.op.as_ref().map_or(Ok(TEXT), crate::frame::Opcode::number)?;
    let payload = wanted.payload.as_ref().map(crate::bytes::Bytes::to_vec).transpose()?;
    let same = payload.as_ref().is_none_or(|payload| *payload == frame.payload);
    let length = wanted.length.is_none_or(|length| length == frame.payload.len());
    let compressed = wanted.compressed.is_none_or(|compressed| compressed == frame.compressed);
    let json = wanted.json.as_ref().is_none_or(|json| {
        let actual: Option<Value> = serde_json::from_slice(&frame.payload).ok();
        matches(&to_json(json), actual.as_ref())
    });
    if frame.opcode == opcode && frame.fin && same && length && compressed && json {
        return Ok(());
    }
    let expected = match (&wanted.json, payload) {
        (Some(json), _) => to_json(json).to_string(),
        (None, Some(payload)) => shown(&payload),
        (None, None) => "any payload".into(),
    };
    let way = match wanted.compressed {
        Some(true) => " compressed",
        Some(false) => " plain",
        None => "",
    };
    fail!("expected opcode {opcode}{way} with {expected}, got {}", frame.shown())
}
