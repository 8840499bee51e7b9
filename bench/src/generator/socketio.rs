//! How a Socket.IO session begins over WebSocket alone (protocol 5 on Engine.IO 4): the server opens the engine's session, the
//! client asks for the namespace `/`, and the server lets it in.

use anyhow::{Result, bail, ensure};

use super::frames::{FrameReader, TEXT, push};

/// The request target.
pub(super) const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

const OPENED: &[u8] = b"0{";
const CONNECT: &[u8] = b"40";
const CONNECTED: &[u8] = b"40{";

/// A packet that the application's handler of `echo` sends back as it is, of `len` bytes in all.
pub(super) fn packet(len: usize) -> Vec<u8> {
    let packet = |text: &str| format!(r#"42["echo","{text}"]"#);
    let frame = packet("").len();
    packet(&"x".repeat(len.saturating_sub(frame))).into_bytes()
}

/// A session on its way.
pub(super) struct Greeting {
    reader: FrameReader,
    has_asked: bool,
}

impl Greeting {
    pub(super) fn new() -> Self {
        Self { reader: FrameReader::keeping(), has_asked: false }
    }

    /// Takes what the server has said, and adds to `out` what is to be sent; true when the session has begun.
    pub(super) fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let mut has_begun = false;
        while let Some(frame) = self.reader.next(&mut input)? {
            let said = &self.reader.kept;
            ensure!(frame.opcode == TEXT && !has_begun, "opcode {} came before the session had begun", frame.opcode);
            match self.has_asked {
                false if said.starts_with(OPENED) => {
                    push(out, TEXT, CONNECT);
                    self.has_asked = true;
                }
                true if said.starts_with(CONNECTED) => has_begun = true,
                _ => bail!("the session does not begin: {:?}", String::from_utf8_lossy(said)),
            }
        }
        Ok(has_begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<u8> {
        wsguard_test_support::frame::Frame::whole(TEXT, text.as_bytes()).as_sent()
    }

    #[test]
    fn a_session_begins_in_two_steps_however_they_are_cut() {
        let (opened, connected) = (said(r#"0{"sid":"a"}"#), said(r#"40{"sid":"b"}"#));
        for piece in [1, 5, 100] {
            let (mut greeting, mut out) = (Greeting::new(), Vec::new());
            for bytes in opened.chunks(piece) {
                assert!(!greeting.take(bytes, &mut out).unwrap());
            }
            assert_eq!(out.len(), 2 + 4 + CONNECT.len());
            let begun: Vec<_> =
                connected.chunks(piece).map(|bytes| greeting.take(bytes, &mut Vec::new()).unwrap()).collect();
            assert_eq!(begun.iter().position(|&begun| begun), Some(begun.len() - 1));
        }
        assert!(Greeting::new().take(&connected, &mut Vec::new()).is_err());
        assert!(Greeting::new().take(&said("44{}"), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_packet_is_as_long_as_asked() {
        assert_eq!(packet(64).len(), 64);
        assert_eq!(packet(15), br#"42["echo","xx"]"#.to_vec());
    }
}
