//! What a connection keeps while a header, a frame or a message is incomplete; nothing of it is there otherwise.

use super::frame::{MAX_HEADER, Opcode, Violation};

/// A frame whose payload is still arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) remaining: u64,
    /// Rotated to the next payload byte.
    pub(super) mask: [u8; 4],
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
}

/// A message that is not yet whole.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) opcode: Opcode,
    pub(super) is_compressed: bool,
    pub(super) fragments: u32,
    /// Payload bytes that its headers announced so far.
    pub(super) claimed: u64,
    pub(super) buffer: Vec<u8>,
    /// Up to where a text is known to be UTF-8.
    pub(super) validated: usize,
}

impl Assembly {
    /// What has come of it must be UTF-8 already.
    pub(super) fn is_plain_text(&self) -> bool {
        self.opcode == Opcode::Text && !self.is_compressed
    }
}

/// What is only there while something is incomplete.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) header: [u8; MAX_HEADER],
    pub(super) header_len: usize,
    pub(super) incoming: Option<Incoming>,
    pub(super) message: Option<Assembly>,
    pub(super) control: Vec<u8>,
    /// A message is open.
    pub(super) in_message: bool,
}

impl Partial {
    /// As new: also after a violation left something open.
    pub(super) fn clear(&mut self) {
        self.header_len = 0;
        self.incoming = None;
        self.message = None;
        self.control.clear();
        self.in_message = false;
    }

    /// Keeps unmasked payload bytes, which `append` adds to the message's buffer; a text is checked as far as it has come.
    pub(super) fn keep(
        &mut self,
        opcode: Opcode,
        chunk: &[u8],
        append: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Result<(), Violation> {
        if opcode.is_control() {
            self.control.extend_from_slice(chunk);
            return Ok(());
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        append(&mut message.buffer, chunk);
        if !message.is_plain_text() {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&message.buffer[message.validated..]) {
            Ok(_) => message.validated = message.buffer.len(),
            Err(error) if error.error_len().is_none() => message.validated += error.valid_up_to(),
            Err(_) => return Err(Violation::TextNotUtf8),
        }
        Ok(())
    }
}
