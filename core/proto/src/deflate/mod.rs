//! permessage-deflate (RFC 7692): what is agreed in the opening handshake, and what a shard lends for it to a connection's turn.
//!
//! Never with context takeover: each message is compressed by itself. So an idle connection holds neither compressor nor window,
//! one of each serves all connections of a shard, and secrets of different messages never share a window.

mod deflater;
mod negotiate;
#[cfg(test)]
mod oracle;

pub use deflater::{BUDGET_BYTES, Deflater, Pressed, WINDOW_SIZES, payload_bytes};
pub use negotiate::{AcceptedOffer, negotiate};

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The window that our messages may refer back to, as a power of two: 9 to 15.
    pub server_window_bits: u8,
}

/// What a shard lends to a turn for compressed messages. It is empty until the first one comes.
#[derive(Debug, Default)]
pub struct Deflate {
    /// Payload bytes of ours that may still be compressed in this run.
    pub budget: usize,
    /// Made when the first message of ours is compressed.
    pub deflater: Option<Box<Deflater>>,
}
