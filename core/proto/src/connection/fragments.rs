//! Messages that the application sends in fragments (RFC 6455 section 5.4): their order, and what waits behind them.

use super::Connection;
use crate::config::Protocol;

/// What a data frame of the application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DataOpcode {
    /// It goes on with the message before it.
    Continuation = 0,
    /// It begins a text message.
    Text = 1,
    /// It begins a binary message.
    Binary = 2,
}

/// A part of a message that the application sends bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Begins a message, or goes on with one.
    pub opcode: DataOpcode,
    /// It is the last of its message.
    pub fin: bool,
}

/// Whole frames that wait for the last fragment of a message.
#[derive(Debug, Default)]
pub struct Behind {
    /// The frames.
    pub frames: Vec<u8>,
    /// How much shorter they are than what was said: compression has saved it.
    pub saved_bytes: usize,
}

impl Fragment {
    /// The first byte of its frame.
    #[must_use]
    pub fn first_byte(self) -> u8 {
        if self.fin { 0x80 | self.opcode as u8 } else { self.opcode as u8 }
    }

    /// Whether it may come now, where a message `is_open` or none is.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn may_come(self, is_open: bool) -> Result<(), &'static str> {
        match (self.opcode, is_open) {
            (DataOpcode::Continuation, false) => Err("a continuation has no message to go on with"),
            (DataOpcode::Text | DataOpcode::Binary, true) => {
                Err("the message before this one has no last fragment yet: send a continuation with fin")
            }
            _ => Ok(()),
        }
    }
}

impl Connection {
    /// Whether a message of the application is begun and not ended: whole messages wait behind it.
    #[must_use]
    pub fn is_mid_fragments(&self) -> bool {
        self.behind().is_some()
    }

    /// The application sends a fragment next. Where nothing may be sent any more, nothing is noted either.
    ///
    /// # Errors
    ///
    /// What is wrong, in words: the peer could make nothing of it.
    pub fn send_fragment(&mut self, fragment: Fragment, protocol: Protocol) -> Result<(), &'static str> {
        if protocol != Protocol::Raw {
            return Err("fragments are for connections of the protocol raw");
        }
        if !self.may_send() {
            return Ok(());
        }
        fragment.may_come(self.is_mid_fragments())?;
        if !fragment.fin {
            self.extras.get_or_insert_default().behind.get_or_insert_default();
        }
        Ok(())
    }

    /// Lets whole frames of messages wait for the last fragment, of which compression has saved so much.
    pub fn wait_behind(&mut self, frames: &[u8], saved_bytes: usize) {
        if let Some(behind) = self.extras.as_mut().and_then(|extras| extras.behind.as_mut()) {
            behind.frames.extend_from_slice(frames);
            behind.saved_bytes += saved_bytes;
        }
    }

    fn behind(&self) -> Option<&Behind> {
        self.extras.as_ref().and_then(|extras| extras.behind.as_ref())
    }

    /// Bytes of frames that wait for the last fragment.
    #[must_use]
    pub fn bytes_behind(&self) -> usize {
        self.behind().map_or(0, |behind| behind.frames.len())
    }

    /// What compression has saved of them.
    #[must_use]
    pub fn saved_behind(&self) -> usize {
        self.behind().map_or(0, |behind| behind.saved_bytes)
    }

    /// The last fragment is sent: what waited for it.
    pub fn end_fragments(&mut self) -> Behind {
        let behind = self.extras.as_mut().and_then(|extras| extras.behind.take());
        self.forget_idle_extras();
        behind.unwrap_or_default()
    }
}
