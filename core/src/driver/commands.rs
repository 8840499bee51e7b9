//! Commands on their way from the application to a shard, with the bytes they speak of.

use std::sync::Arc;

use super::accepted::Accepted;
use super::arena::{Span, kept_bytes};
use super::ids::ConnectionId;
use super::level::Held;
use super::shared_frame::SharedFrame;
use wsguard_proto::bans::Ban;
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::config::{PolicySet, Protocol};
use wsguard_proto::connection::Fragment;
use wsguard_proto::rooms::Block;
use wsguard_proto::time::Moment;

/// Connections of a shard as they were at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipients {
    /// `None`: every one.
    pub(super) blocks: Option<Span>,
    /// Whoever opened since is none of them.
    pub(super) before: u32,
}

/// Bytes of a block: its key and its bits.
const BLOCK_BYTES: usize = 36;

#[derive(Debug)]
pub(super) enum Command {
    /// Whole frames for one connection.
    Frames {
        conn: ConnectionId,
        frames: Span,
        /// How many.
        count: u32,
        /// They are not to be compressed.
        plain: bool,
    },
    Close {
        conn: ConnectionId,
        code: u16,
        reason: Span,
    },
    /// A whole ping or pong of the application, with a payload of its own.
    Control {
        conn: ConnectionId,
        frame: Span,
        is_ping: bool,
    },
    /// A whole frame of a message that is sent in fragments.
    Fragment {
        conn: ConnectionId,
        frame: Span,
        fragment: Fragment,
    },
    /// Whether pings of the peer are answered at once, or left to the application.
    AutoPong {
        conn: ConnectionId,
        answers: bool,
    },
    /// A timed ping of the application, with this payload.
    Ping {
        conn: ConnectionId,
        payload: [u8; 8],
    },
    /// Drops the socket.
    Terminate {
        conn: ConnectionId,
    },
    /// Ends the socket behind what was said.
    HangUp {
        conn: ConnectionId,
    },
    /// Closes some, or every connection, but for those whose ids the span has.
    CloseAll {
        whom: Recipients,
        code: u16,
        reason: Span,
        except: Span,
    },
    /// The application's handler failed for this connection.
    HandlerFailed {
        conn: ConnectionId,
    },
    /// The application's own check of a message found it broken.
    DataRefused {
        conn: ConnectionId,
        event: Span,
        id: Option<Span>,
        may_reply: bool,
    },
    /// Stops or goes on reading from one connection.
    Pause {
        conn: ConnectionId,
        paused: bool,
    },
    /// One frame for some, or for every connection of this protocol, but for those whose ids the span has.
    Broadcast {
        to: Recipients,
        protocol: Protocol,
        frame: Arc<SharedFrame>,
        except: Span,
        /// The frame's part in what broadcasts hold of the shard.
        waits: Held,
    },
    /// Closes what was granted to a user before this revocation.
    DisconnectUser {
        user: Span,
        number: u64,
    },
    /// Closes what was granted to any user before this revocation.
    DisconnectAll {
        number: u64,
    },
    /// Other policies from now on.
    Reload(Arc<PolicySet>),
    /// The next connections of a reload that has begun.
    GoOnReloading,
    /// Somebody was banned: what is open and banned is closed. With a ban of the application's: also where that is lifted, or
    /// over, when its turn comes.
    CloseBanned(Option<Box<Ban>>),
    /// The next connections that are looked at for that.
    GoOnBanning,
    Adopt(Box<Accepted>),
    Resume,
    Drain {
        until: Moment,
        jitter_ms: u64,
    },
    Stop,
    /// A fault of ours while a connection has its turn.
    #[cfg(test)]
    Fault {
        conn: ConnectionId,
    },
    /// A mistake of ours: something is said in a turn that ends without a write.
    #[cfg(test)]
    Mutter {
        conn: ConnectionId,
    },
}

impl Command {
    /// Whose bytes were posted with it, and how many.
    pub(super) fn posted(&self) -> Option<(ConnectionId, usize)> {
        match self {
            Command::Frames { conn, frames: span, .. }
            | Command::Control { conn, frame: span, .. }
            | Command::Fragment { conn, frame: span, .. } => Some((*conn, span.len)),
            _ => None,
        }
    }
}

/// Commands for one shard, with the bytes they speak of.
#[derive(Debug, Default)]
pub(super) struct CommandBuffer {
    pub(super) commands: Vec<Command>,
    bytes: Vec<u8>,
}

impl CommandBuffer {
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    pub(super) fn text(&self, span: Span) -> &str {
        core::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// Ids as [`keep_ids`](Self::keep_ids) has kept them.
    pub(super) fn ids(&self, span: Span) -> &[[u8; 8]] {
        self.bytes(span).as_chunks().0
    }

    /// Keeps ids in ascending order, so that one is found soon among many.
    pub(super) fn keep_ids(&mut self, ids: impl Iterator<Item = ConnectionId>) -> Span {
        let span = self.write(|out| ids.for_each(|id| out.extend(id.to_u64().to_be_bytes())));
        self.bytes[span.start..].as_chunks_mut::<8>().0.sort_unstable();
        span
    }

    /// Keeps the connections of one shard.
    pub(super) fn keep_recipients(&mut self, blocks: Option<&[Block]>, before: u32) -> Recipients {
        let blocks = blocks.map(|blocks| {
            self.write(|out| {
                for block in blocks {
                    out.extend(block.key.to_ne_bytes());
                    block.bits.iter().for_each(|bits| out.extend(bits.to_ne_bytes()));
                }
            })
        });
        Recipients { blocks, before }
    }

    /// The blocks that [`keep_recipients`](Self::keep_recipients) has kept.
    pub(super) fn blocks(&self, blocks: Span) -> impl Iterator<Item = Block> {
        self.bytes(blocks).as_chunks::<BLOCK_BYTES>().0.iter().map(|bytes| {
            let (key, bits) = bytes.split_at(size_of::<u32>());
            let mut words = bits.as_chunks().0.iter().map(|bits| u64::from_ne_bytes(*bits));
            let key = key.first_chunk().map_or(0, |key| u32::from_ne_bytes(*key));
            Block { key, bits: core::array::from_fn(|_| words.next().unwrap_or_default()) }
        })
    }

    pub(super) fn clear(&mut self) {
        let kept = kept_bytes(self.bytes.len());
        self.commands.clear();
        self.bytes.clear();
        self.bytes.shrink_to(kept);
        self.commands.shrink_to(1 << 14);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.commands.capacity() + self.bytes.capacity()
    }

    /// Lets its buffers go.
    pub(super) fn shrink(&mut self) {
        (self.commands, self.bytes) = (Vec::new(), Vec::new());
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> Span {
        self.write(|out| out.extend_from_slice(bytes))
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.bytes.len();
        write(&mut self.bytes);
        Span { start, len: self.bytes.len() - start }
    }

    /// Adds what `write` encodes to the frames of `conn`; neighbours of one kind become one command.
    /// Returns how many bytes that are; `None`: more than `most`, and nothing was added.
    pub(super) fn frames(
        &mut self,
        conn: ConnectionId,
        plain: bool,
        most: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<usize> {
        let span = self.write(write);
        if span.len > most {
            self.bytes.truncate(span.start);
            return None;
        }
        if let Some(Command::Frames { conn: last, frames, count, plain: last_is_plain }) = self.commands.last_mut()
            && (*last, *last_is_plain) == (conn, plain)
        {
            frames.len += span.len;
            *count = count.saturating_add(1);
        } else {
            self.commands.push(Command::Frames { conn, frames: span, count: 1, plain });
        }
        Some(span.len)
    }

    /// Adds a ping or a pong for `conn`; returns how many bytes it has.
    pub(super) fn control(&mut self, conn: ConnectionId, opcode: Opcode, payload: &[u8]) -> usize {
        let frame = self.write(|out| codec::data_frame(out, opcode, payload));
        self.commands.push(Command::Control { conn, frame, is_ping: opcode == Opcode::Ping });
        frame.len
    }

    /// Adds a fragment for `conn`; returns how many bytes it has.
    pub(super) fn fragment(&mut self, conn: ConnectionId, fragment: Fragment, payload: &[u8]) -> usize {
        let frame = self.write(|out| codec::fragment_frame(out, fragment.first_byte(), payload));
        self.commands.push(Command::Fragment { conn, frame, fragment });
        frame.len
    }

    pub(super) fn resume(&mut self) {
        self.commands.push(Command::Resume);
    }

    pub(super) fn append(&mut self, other: &mut CommandBuffer) {
        if self.commands.is_empty() {
            return core::mem::swap(self, other);
        }
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.commands.extend(other.commands.drain(..).map(|mut command| {
            match &mut command {
                Command::Frames { frames: span, .. }
                | Command::Control { frame: span, .. }
                | Command::Fragment { frame: span, .. }
                | Command::Close { reason: span, .. }
                | Command::DisconnectUser { user: span, .. } => span.start += base,
                Command::DataRefused { event, id, .. } => {
                    [event].into_iter().chain(id).for_each(|span| span.start += base);
                }
                Command::Broadcast { to, except, .. } => {
                    to.blocks.iter_mut().chain([except]).for_each(|span| span.start += base);
                }
                Command::CloseAll { whom, reason, except, .. } => {
                    whom.blocks.iter_mut().chain([reason, except]).for_each(|span| span.start += base);
                }
                _ => {}
            }
            command
        }));
        other.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::level::Level;

    #[test]
    fn what_is_appended_still_speaks_of_its_own_bytes() {
        let ids = |numbers: [u64; 3]| numbers.into_iter().map(ConnectionId::from_u64);
        let mut buffers = ["first", "second"].map(|name| {
            let mut buffer = CommandBuffer::default();
            let block = Block { key: name.len() as u32, bits: [1, 2, 3, u64::MAX] };
            let to = buffer.keep_recipients(Some(&[block, block]), 7);
            let except = buffer.keep_ids(ids([300, name.len() as u64, 1 << 40]));
            buffer.commands.push(Command::Broadcast {
                to,
                protocol: Protocol::Raw,
                frame: Arc::new(SharedFrame::new(Vec::new(), true)),
                except,
                waits: Level::default().hold(0),
            });
            buffer
        });
        let [first, second] = &mut buffers;
        first.append(second);
        for (command, name) in first.commands.iter().zip(["first", "second"]) {
            let Command::Broadcast { to: Recipients { blocks: Some(blocks), before: 7 }, except, .. } = command else {
                panic!("no broadcast")
            };
            let except: Vec<u64> = first.ids(*except).iter().map(|id| u64::from_be_bytes(*id)).collect();
            let block = Block { key: name.len() as u32, bits: [1, 2, 3, u64::MAX] };
            assert_eq!(first.blocks(*blocks).collect::<Vec<_>>(), [block; 2]);
            assert_eq!(except, [name.len() as u64, 300, 1 << 40]);
        }
    }
}
