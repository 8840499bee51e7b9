//! permessage-deflate as a client speaks it (RFC 7692): what a server may answer to an offer, and messages both ways. It
//! compresses with miniz and inflates with a reader of its own: neither is what the server uses.

mod inflate;

use flate2::{Compress, Compression, FlushCompress};

use crate::outcome::{Failure, Outcome, ensure, fail};
pub use inflate::{Inflated, inflate, inflate_after};

/// What ends a sync flush, and is left out of a message (section 7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The offer that every browser sends, in one way or another.
pub const OFFER: &str = "permessage-deflate";

/// What a server's answer agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// `server_max_window_bits`, if the answer has it.
    pub server_window_bits: Option<u8>,
}

impl Agreed {
    /// Reads a value of `Sec-WebSocket-Extensions` in an answer. Without both `no_context_takeover`, with a parameter twice, with
    /// one that nobody offered, it is a failure: no message may depend on another.
    pub fn parse(answer: &str) -> Outcome<Self> {
        let mut parts = answer.split(';').map(str::trim);
        ensure!(parts.next() == Some("permessage-deflate"), "not an answer of permessage-deflate: {answer:?}");
        let (mut server_alone, mut client_alone, mut server_window_bits) = (false, false, None);
        for part in parts {
            let is_new = match part {
                "server_no_context_takeover" => !std::mem::replace(&mut server_alone, true),
                "client_no_context_takeover" => !std::mem::replace(&mut client_alone, true),
                _ => {
                    let bits = part.strip_prefix("server_max_window_bits=").and_then(|bits| bits.parse().ok());
                    let bits = bits.filter(|bits| (8..=15).contains(bits) && !part.contains("=0"));
                    ensure!(bits.is_some(), "the answer has {part:?}: {answer:?}");
                    server_window_bits.replace(bits.unwrap_or(15)).is_none()
                }
            };
            ensure!(is_new, "the answer has {part:?} twice: {answer:?}");
        }
        ensure!(server_alone && client_alone, "the answer allows a context to be taken over: {answer:?}");
        Ok(Self { server_window_bits })
    }

    /// The message in the payload of a compressed frame: one whole deflate stream that keeps the agreed window, with nothing final in
    /// it and nothing behind it.
    pub fn inflate(self, payload: &[u8]) -> Outcome<Vec<u8>> {
        let inflated = inflate_message(payload).map_err(|failure| failure.during("inflating what the server sent"))?;
        let window = 1 << self.server_window_bits.unwrap_or(15);
        ensure!(!inflated.is_final, "the server sent a final block");
        ensure!(inflated.farthest <= window, "a distance of {} in a window of {window}", inflated.farthest);
        ensure!(inflated.behind == 0, "{} bytes behind the last block", inflated.behind);
        // RFC 7692 leaves it open; a message that compression makes longer is to go as it is.
        ensure!(payload.len() < inflated.bytes.len(), "{} bytes compressed to {}", inflated.bytes.len(), payload.len());
        Ok(inflated.bytes)
    }
}

/// What is in the payload of a compressed frame, whose tail was left out.
pub fn inflate_message(payload: &[u8]) -> Outcome<Inflated> {
    inflate(&[payload, &TAIL].concat())
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a flush, its tail left out: a message as it should be.
    Flushed,
    /// With a flush and its tail.
    WithTail,
    /// With a final block.
    Final,
}

/// Compresses at a level from 0 (stored) to 9.
pub fn compress(bytes: &[u8], level: u32, end: End) -> Outcome<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(level), false);
    // Stored blocks are the longest: five bytes for each 31 KiB and more, and the flush.
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 100);
    let flush = if end == End::Final { FlushCompress::Finish } else { FlushCompress::Sync };
    let done = compress.compress_vec(bytes, &mut out, flush);
    done.map_err(|error| Failure(format!("compressing: {error}")))?;
    if compress.total_in() != bytes.len() as u64 || out.len() == out.capacity() {
        return fail!("compressing stopped after {} of {} bytes", compress.total_in(), bytes.len());
    }
    if end == End::Flushed {
        ensure!(out.ends_with(&TAIL), "a flush without its tail");
        out.truncate(out.len() - TAIL.len());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn answers_are_read_strictly() {
        let bits = |answer: &str| Agreed::parse(answer).map(|agreed| agreed.server_window_bits);
        assert_eq!(bits(ALONE).unwrap(), None);
        assert_eq!(bits(&format!("{ALONE}; server_max_window_bits=9")).unwrap(), Some(9));
        for more in [
            "; server_max_window_bits",
            "; server_max_window_bits=7",
            "; server_max_window_bits=16",
            "; server_max_window_bits=09",
            "; server_max_window_bits=9; server_max_window_bits=9",
            "; client_max_window_bits=15",
            "; server_no_context_takeover",
            "; x",
            ";",
            ", permessage-deflate",
        ] {
            assert!(bits(&format!("{ALONE}{more}")).is_err(), "{more}");
        }
        assert!(bits("permessage-deflate").is_err());
        assert!(bits("permessage-deflate; server_no_context_takeover").is_err());
    }

    #[test]
    fn messages_come_back_at_every_level() {
        let agreed = Agreed { server_window_bits: None };
        let text = "what is said twice, is said twice; ".repeat(2000);
        for level in 1..=9 {
            let sent = compress(text.as_bytes(), level, End::Flushed).unwrap();
            assert_eq!(agreed.inflate(&sent).unwrap(), text.as_bytes(), "{level}");
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_caught() {
        let agreed = Agreed { server_window_bits: Some(9) };
        let (near, far) = ([b"0123456789".repeat(30), vec![b'x'; 300]].concat(), b"0123456789".repeat(3));
        let far = [&far[..], &(0..700_u16).map(|i| (i % 251) as u8 ^ 0x80).collect::<Vec<_>>(), &far].concat();
        let sent = |bytes: &[u8], end| compress(bytes, 9, end).unwrap();
        assert_eq!(agreed.inflate(&sent(&near, End::Flushed)).unwrap(), near);
        assert!(Agreed { server_window_bits: None }.inflate(&sent(&far, End::Flushed)).is_ok());
        assert!(agreed.inflate(&sent(&far, End::Flushed)).unwrap_err().0.contains("a window of 512"));
        assert!(agreed.inflate(&sent(&near, End::Final)).is_err());
        assert!(agreed.inflate(&sent(&near, End::Flushed)[..5]).is_err());
        assert!(agreed.inflate(&sent(b"short", End::Flushed)).unwrap_err().0.contains("5 bytes compressed to"));
    }
}
