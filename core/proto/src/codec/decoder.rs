//! Frames to messages: fragments, sizes, UTF-8 as it arrives, control frames in between.
//!
//! A frame that lies whole in the input is unmasked in place and handed out as a range of it: nothing is copied. Only
//! what is cut by the end of the input is kept, and what is kept grows with bytes *received*, never with the length a
//! header *claims*.

use core::mem;
use core::ops::Range;

use super::frame::{Header, MAX_HEADER, Opcode, Room, Violation};
use super::mask::{rotate, unmask};
use super::partial::{Assembly, Incoming, Partial};
use super::pool::BufferPool;
use super::skim::Skim;

/// What one message may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Payload bytes of a message, fragments added up.
    pub max_message_bytes: usize,
    /// Frames of a message, empty ones counted.
    pub max_fragments: u32,
    /// Refuse binary messages from their first header.
    pub text_only: bool,
    /// permessage-deflate was agreed on: a message may be compressed.
    pub deflate: bool,
}

/// Where an unmasked payload lies.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the input, at this range.
    InPlace(Range<usize>),
    /// Put together from several inputs or fragments; give it back to the pool.
    Assembled(Vec<u8>),
}

impl Payload {
    /// The bytes, where `input` is what the step was made from.
    pub fn bytes<'b>(&'b self, input: &'b [u8]) -> &'b [u8] {
        match self {
            Payload::InPlace(range) => &input[range.clone()],
            Payload::Assembled(bytes) => bytes,
        }
    }

    /// Gives an assembled buffer back.
    pub fn recycle(self, pool: &mut BufferPool) {
        if let Payload::Assembled(bytes) = self {
            pool.put(bytes);
        }
    }
}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The input is used up.
    NeedMore,
    /// A whole message, text or binary. An in-place text is not yet checked for UTF-8, nor is one that is compressed.
    Message {
        /// `Text` or `Binary`.
        opcode: Opcode,
        /// Its payload.
        payload: Payload,
        /// The payload is compressed, and came in so many frames.
        compressed: Option<u32>,
    },
    /// A whole control frame.
    Control {
        /// `Close`, `Ping` or `Pong`.
        opcode: Opcode,
        /// Its payload, at most 125 bytes.
        payload: Payload,
    },
}

/// The frame decoder of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    received: u64,
}

impl Decoder {
    /// Whether something has begun and not ended: a header, a frame or a message.
    pub fn is_mid_message(&self) -> bool {
        self.partial.is_some()
    }

    /// Bytes kept for what has begun.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            partial.message.as_ref().map_or(0, |message| message.buffer.len()) + partial.control.len()
        })
    }

    /// Payload bytes of data frames that came since the last call: what a byte bucket is charged.
    pub fn take_received_bytes(&mut self) -> u64 {
        mem::take(&mut self.received)
    }

    /// Payload bytes that the header of an unfinished data frame announced and that have not come.
    pub fn outstanding_bytes(&self) -> u64 {
        let incoming = self.partial.as_ref().and_then(|partial| partial.incoming.as_ref());
        incoming.filter(|incoming| !incoming.opcode.is_control()).map_or(0, |incoming| incoming.remaining)
    }

    /// Decodes no more: what was kept is given up, and what still comes is for the [`Skim`], from here on.
    pub fn give_up(&mut self, pool: &mut BufferPool) -> Skim {
        let Some(mut partial) = self.partial.take() else { return Skim::default() };
        if let Some(message) = partial.message.take() {
            pool.put(message.buffer);
        }
        let skim = match &partial.incoming {
            Some(Incoming { remaining, mask, opcode: Opcode::Close, .. }) => {
                Skim::in_close(*remaining, *mask, &partial.control)
            }
            Some(incoming) => Skim::in_frame(incoming.remaining),
            None => Skim::in_header(&partial.header[..partial.header_len]),
        };
        pool.put_partial(partial);
        skim
    }

    /// Finds the next message or control frame in `input[*at..]` and moves `at` behind it.
    pub fn next(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        limits: &Limits,
        pool: &mut BufferPool,
    ) -> Result<Step, Violation> {
        if self.partial.is_none() {
            if let Some(step) = self.whole_frame(input, at, limits)? {
                return Ok(step);
            }
            if *at == input.len() && self.partial.is_none() {
                return Ok(Step::NeedMore);
            }
        }
        let mut partial = self.partial.take().unwrap_or_else(|| pool.partials.pop().unwrap_or_default());
        let step = self.advance(&mut partial, input, at, limits, pool);
        if partial.in_message || partial.incoming.is_some() || partial.header_len > 0 {
            self.partial = Some(partial);
        } else {
            pool.put_partial(partial);
        }
        step
    }

    /// The fast path: nothing is open and the next frame is whole, unfragmented and in the input.
    fn whole_frame(&mut self, input: &mut [u8], at: &mut usize, limits: &Limits) -> Result<Option<Step>, Violation> {
        let Some(header) = Header::parse(&input[*at..], false, room(limits, None))? else { return Ok(None) };
        let start = *at + header.header_len;
        let available = input.len() - start;
        if !header.fin || header.payload_len > available as u64 {
            return Ok(None);
        }
        let range = start..start + header.payload_len as usize;
        *at = range.end;
        if !header.opcode.is_control() {
            check_kind(header.opcode, limits)?;
            self.received += header.payload_len;
        }
        unmask(&mut input[range.clone()], header.mask);
        let payload = Payload::InPlace(range);
        Ok(Some(if header.opcode.is_control() {
            Step::Control { opcode: header.opcode, payload }
        } else {
            Step::Message { opcode: header.opcode, payload, compressed: header.rsv1.then_some(1) }
        }))
    }

    /// The general path: headers and payloads in whatever pieces they come.
    fn advance(
        &mut self,
        partial: &mut Partial,
        input: &mut [u8],
        at: &mut usize,
        limits: &Limits,
        pool: &mut BufferPool,
    ) -> Result<Step, Violation> {
        loop {
            if partial.incoming.is_none() {
                let Some(header) = read_header(partial, input, at, limits)? else { return Ok(Step::NeedMore) };
                begin(partial, &header, limits)?;
            }
            let Some(incoming) = &mut partial.incoming else { continue };
            let take = incoming.remaining.min((input.len() - *at) as u64) as usize;
            let chunk = &mut input[*at..*at + take];
            *at += take;
            unmask(chunk, incoming.mask);
            incoming.mask = rotate(incoming.mask, take);
            incoming.remaining -= take as u64;
            let incoming = *incoming;
            if !incoming.opcode.is_control() {
                self.received += take as u64;
            }
            partial.keep(incoming.opcode, chunk, |buffer, bytes| pool.append(buffer, bytes))?;
            if incoming.remaining > 0 {
                return Ok(Step::NeedMore);
            }
            partial.incoming = None;
            if let Some(step) = partial.end_frame(&incoming)? {
                return Ok(step);
            }
        }
    }
}

/// The room of the message that is `open`, or of a new one.
fn room(limits: &Limits, open: Option<&Assembly>) -> Room {
    Room {
        limit: limits.max_message_bytes as u64,
        claimed: open.map_or(0, |message| message.claimed),
        frames: open.map_or(0, |message| message.fragments),
        has_deflate: limits.deflate,
        is_compressed: open.is_some_and(|message| message.is_compressed),
    }
}

fn check_kind(opcode: Opcode, limits: &Limits) -> Result<(), Violation> {
    if opcode == Opcode::Binary && limits.text_only {
        return Err(Violation::Binary);
    }
    Ok(())
}

/// A header, of which earlier inputs may have brought the first bytes.
fn read_header(
    partial: &mut Partial,
    input: &[u8],
    at: &mut usize,
    limits: &Limits,
) -> Result<Option<Header>, Violation> {
    let kept = partial.header_len;
    let new = &input[*at..input.len().min(*at + MAX_HEADER - kept)];
    partial.header[kept..kept + new.len()].copy_from_slice(new);
    let room = room(limits, partial.message.as_ref());
    match Header::parse(&partial.header[..kept + new.len()], partial.in_message, room)? {
        Some(header) => {
            *at += header.header_len - kept;
            partial.header_len = 0;
            Ok(Some(header))
        }
        None => {
            *at += new.len();
            partial.header_len = kept + new.len();
            Ok(None)
        }
    }
}

/// Accepts a header: everything it gives away is checked here.
fn begin(partial: &mut Partial, header: &Header, limits: &Limits) -> Result<(), Violation> {
    let Header { fin, opcode, payload_len, rsv1, mask, .. } = *header;
    partial.incoming = Some(Incoming { remaining: payload_len, mask, fin, opcode });
    if opcode.is_control() {
        return Ok(());
    }
    partial.in_message = true;
    check_kind(opcode, limits)?;
    let message = partial.message.get_or_insert_with(|| Assembly {
        opcode,
        is_compressed: rsv1,
        fragments: 0,
        claimed: 0,
        buffer: Vec::new(),
        validated: 0,
    });
    message.fragments += 1;
    if message.fragments > limits.max_fragments {
        return Err(Violation::TooManyFragments { limit: limits.max_fragments });
    }
    message.claimed += payload_len;
    Ok(())
}

impl Partial {
    /// Ends a frame: a control frame or the last fragment is a step, any other fragment is not.
    fn end_frame(&mut self, frame: &Incoming) -> Result<Option<Step>, Violation> {
        if frame.opcode.is_control() {
            let payload = Payload::Assembled(mem::take(&mut self.control));
            return Ok(Some(Step::Control { opcode: frame.opcode, payload }));
        }
        if !frame.fin {
            return Ok(None);
        }
        self.in_message = false;
        let Some(message) = self.message.take() else { return Ok(None) };
        if message.is_plain_text() && message.validated < message.buffer.len() {
            return Err(Violation::TextNotUtf8);
        }
        let Assembly { opcode, buffer, is_compressed, fragments, .. } = message;
        let compressed = is_compressed.then_some(fragments);
        Ok(Some(Step::Message { opcode, payload: Payload::Assembled(buffer), compressed }))
    }
}

#[cfg(test)]
mod tests;
