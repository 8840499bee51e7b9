//! RFC 6455 section 5 on bytes: frames in, messages and control frames out; frames encoded.
//!
//! The decoder is header-first: everything that a header gives away (RSV bits, masking, lengths, sizes that add up,
//! fragments that do not belong) is refused from the header, before a byte of payload is kept. What a message *means*
//! is not decided here.

mod close;
mod decoder;
mod encode;
mod fault;
mod frame;
mod mask;
mod partial;
mod pool;
mod skim;

pub use close::{CloseFrame, NO_CODE, is_sendable};
pub use decoder::{Decoder, Limits, Payload, Step};
pub(crate) use encode::header;
pub use encode::{
    MAX_CONTROL_PAYLOAD, PING_FRAME, close_frame, data_frame, data_header, fragment_frame, frame_overhead, ping_frame,
    pong_frame,
};
pub use fault::FrameFault;
pub use frame::{CompressionFault, FrameError, Header, Opcode, Room, Violation};
pub use mask::unmask;
pub use pool::BufferPool;
pub use skim::{Skim, lone_close_frame};
