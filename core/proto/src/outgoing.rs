//! The envelope of outgoing messages: `{"event": …, "data": …, "status": "ok"}`, with the `id` of what it replies to. A request
//! of the server has an `id` of its own, and no status.

use std::borrow::Cow;

use crate::codec::{self, Opcode};
use crate::contract::Status;
use crate::verdict::Code;

/// Appends a text frame that carries the envelope. `data` and `id` are JSON text and are trusted to be.
pub fn push_frame(out: &mut Vec<u8>, event: &str, data: &str, id: Option<&str>) {
    push(out, event, data, id, Some(Status::Ok));
}

/// The same with the status `error`: a reply to a message that could not be carried out.
pub fn push_error_frame(out: &mut Vec<u8>, event: &str, data: &str, id: Option<&str>) {
    push(out, event, data, id, Some(Status::Error));
}

/// The same without a status: a request of the server, which the peer answers with a reply of this `id`.
pub fn push_request_frame(out: &mut Vec<u8>, event: &str, data: &str, id: &str) {
    push(out, event, data, Some(id), None);
}

/// What a reply to a message says whose data does not fit the schema: the verdict, and the place as a JSON pointer.
pub fn mismatch_data(path: &str) -> String {
    format!(r#"{{"code":"{}","path":"{}"}}"#, Code::SchemaMismatch, escaped(path))
}

/// The text of what [`push_frame`] appends, without an `id`.
pub(crate) fn event_text(event: &str, data: &str) -> Vec<u8> {
    let event = escaped(event);
    [r#"{"event":""#, &event, r#"","data":"#, data, r#","status":""#, Status::Ok.name(), r#""}"#].concat().into_bytes()
}

fn push(out: &mut Vec<u8>, event: &str, data: &str, id: Option<&str>, status: Option<Status>) {
    let event = escaped(event);
    let status: [&str; 3] = status.map_or([""; 3], |status| [r#","status":""#, status.name(), "\""]);
    let reply: [&str; 2] = id.map_or([""; 2], |id| [r#","id":"#, id]);
    let parts = [r#"{"event":""#, &event, r#"","data":"#, data].into_iter().chain(status).chain(reply).chain(["}"]);
    let len = parts.clone().map(str::len).sum();
    out.reserve(len + codec::frame_overhead(len));
    codec::data_header(out, Opcode::Text, len);
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The inside of a JSON string.
fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        return Cow::Borrowed(text);
    }
    let quoted = serde_json::Value::from(text).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_json_whatever_the_event_is_called() {
        for (event, id) in [("echo", None), ("quo\"te\\\n", Some("7")), ("é", Some("\"x\""))] {
            let mut out = Vec::new();
            push_frame(&mut out, event, r#"{"a":[1]}"#, id);
            let payload: serde_json::Value = serde_json::from_slice(&out[2..]).unwrap();
            assert_eq!(out[1] as usize, out.len() - 2);
            assert_eq!((&payload["event"], &payload["status"]), (&event.into(), &"ok".into()));
            assert_eq!(payload["data"]["a"][0], 1);
            assert_eq!(payload.get("id").map(ToString::to_string).as_deref(), id);
        }
    }

    #[test]
    fn a_request_has_an_id_and_no_status() {
        let mut out = Vec::new();
        push_request_frame(&mut out, "ask", "[1]", "\"s7\"");
        assert_eq!(str::from_utf8(&out[2..]).unwrap(), r#"{"event":"ask","data":[1],"id":"s7"}"#);
    }

    #[test]
    fn an_error_names_the_place_whatever_it_is_called() {
        let mut out = Vec::new();
        push_error_frame(&mut out, "say", &mismatch_data("/a\"b/0"), Some("7"));
        let payload = str::from_utf8(&out[2..]).unwrap();
        let expected = r#"{"event":"say","data":{"code":"schema_mismatch","path":"/a\"b/0"},"status":"error","id":7}"#;
        assert_eq!(payload, expected);
    }
}
