//! Our decoder and tungstenite's agree on every stream, but for the differences that README.md lists.
#![no_main]

use std::io::{Read, Result, Write};

use libfuzzer_sys::fuzz_target;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};
use wsguard_fuzz::{setting, stream};
use wsguard_proto::codec::{BufferPool, CloseFrame, Decoder, FrameError, Limits, Opcode, Step, Violation};

const MAX_MESSAGE: usize = 65_536;

#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// How a stream ends.
#[derive(Debug, PartialEq)]
enum End {
    /// Nothing more came.
    Open,
    /// With a close frame.
    Close(Option<(u16, String)>),
    Refused(Violation),
    TheyRefused(String),
}

fn ours(bytes: &[u8]) -> (Vec<Seen>, End) {
    let limits = Limits { max_message_bytes: MAX_MESSAGE, max_fragments: u32::MAX, text_only: false, deflate: false };
    let (mut decoder, mut pool) = (Decoder::default(), BufferPool::default());
    let mut bytes = bytes.to_vec();
    let (mut seen, mut at) = (Vec::new(), 0);
    loop {
        let (opcode, payload) = match decoder.next(&mut bytes, &mut at, &limits, &mut pool) {
            Ok(Step::NeedMore) => return (seen, End::Open),
            Ok(Step::Message { opcode, payload, .. } | Step::Control { opcode, payload }) => (opcode, payload),
            Err(violation) => return (seen, End::Refused(violation)),
        };
        let payload = payload.bytes(&bytes).to_vec();
        seen.push(match opcode {
            Opcode::Text => match String::from_utf8(payload) {
                Ok(text) => Seen::Text(text),
                Err(_) => return (seen, End::Refused(Violation::TextNotUtf8)),
            },
            Opcode::Binary => Seen::Binary(payload),
            Opcode::Ping => Seen::Ping(payload),
            Opcode::Pong => Seen::Pong(payload),
            Opcode::Close => match CloseFrame::parse(&payload) {
                Ok(close) => return (seen, End::Close(close.code.map(|code| (code, close.reason)))),
                Err(violation) => return (seen, End::Refused(violation)),
            },
            Opcode::Continuation => panic!("a message of continuations"),
        });
    }
}

/// A socket that reads its bytes and swallows what is written.
struct Wire<'b>(&'b [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn theirs(bytes: &[u8]) -> (Vec<Seen>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.to_string()),
            Ok(Message::Binary(payload)) => Seen::Binary(payload.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(Message::Close(None)) => return (seen, End::Close(None)),
            Ok(Message::Close(Some(close))) if &*close.reason == "Protocol violation" => {
                return (seen, End::TheyRefused("close code".to_owned()));
            }
            Ok(Message::Close(Some(close))) => {
                return (seen, End::Close(Some((close.code.into(), close.reason.to_string()))));
            }
            Ok(Message::Frame(_)) => panic!("a raw frame"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (seen, End::Open),
            Err(error) => return (seen, End::TheyRefused(error.to_string())),
        });
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let mut bytes = stream(set & 1 != 0, rest);
    let (seen, end) = ours(&bytes);
    if let End::Refused(violation) = &end {
        // They take any form of a length; a long form on a control frame is too long to us whatever it says.
        if let Some(FrameError::LengthNotMinimal | FrameError::ControlTooLong(_)) = violation.frame() {
            let (their_seen, _) = theirs(&bytes);
            return assert!(their_seen.starts_with(&seen), "they saw {their_seen:?}");
        }
        // We refuse from the first byte that is wrong, they from the whole frame: let them have it whole.
        bytes.push(0x80);
        bytes.resize(bytes.len() + MAX_MESSAGE + 16, 0);
    }
    let (their_seen, their_end) = theirs(&bytes);
    assert_eq!(seen, their_seen, "we ended with {end:?}, they with {their_end:?}");
    match (&end, &their_end) {
        (End::Refused(_), End::TheyRefused(_)) => {}
        // Registered with IANA after RFC 6455; unknown to them.
        (End::Close(Some((1014, _))), End::TheyRefused(_)) => {}
        // The words we tell their own refusal by.
        (End::Close(Some((_, reason))), End::TheyRefused(_)) if reason == "Protocol violation" => {}
        _ => assert_eq!(end, their_end),
    }
});
