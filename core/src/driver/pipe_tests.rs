use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;
use crate::driver::events::{Event, EventBatch};
use crate::driver::state::{ServerState, idle};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Rig {
    server: Arc<ServerState>,
    batch: EventBatch,
    pipe: Option<Pipe>,
    end: Option<PipeEnd>,
    id: PipeId,
    woken: Arc<Count>,
    waker: Waker,
}

impl Rig {
    fn new() -> Self {
        let server = idle(r#""threads": 1"#);
        let (pipe, end) = pipe(Arc::<ServerState>::clone(&server), 0, &server.pipe_bytes);
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let id = pipe.id();
        Self { server, batch: EventBatch::new(), pipe: Some(pipe), end: Some(end), id, woken, waker }
    }

    fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().unwrap()
    }

    fn level(&self) -> usize {
        self.server.pipe_bytes.get()
    }

    /// How often it was told that there is something to take, and that there is room.
    fn told(&mut self) -> (usize, usize) {
        let (mut ready, mut room) = (0, 0);
        self.batch.release();
        self.server.take_events(0, &mut self.batch);
        for event in self.batch.iter() {
            match event {
                Event::PipeReady(id) if id == self.id => ready += 1,
                Event::PipeRoom(id) if id == self.id => room += 1,
                other => panic!("{other:?}"),
            }
        }
        (ready, room)
    }

    fn write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let end = self.end.as_mut().unwrap();
        Pin::new(end).poll_write(&mut Context::from_waker(&self.waker), bytes)
    }

    fn read(&mut self, most: usize) -> Poll<io::Result<Vec<u8>>> {
        let end = self.end.as_mut().unwrap();
        let mut space = vec![0; most];
        let mut buffer = ReadBuf::new(&mut space);
        let poll = Pin::new(end).poll_read(&mut Context::from_waker(&self.waker), &mut buffer);
        poll.map_ok(|()| buffer.filled().to_vec())
    }

    fn take(&mut self, most: usize) -> (Vec<u8>, Taken) {
        let mut into = Vec::new();
        let taken = self.pipe().take(&mut into, most);
        (into, taken)
    }
}

#[test]
fn a_push_beyond_the_mark_is_taken_and_says_when_to_go_on() {
    let mut rig = Rig::new();
    assert!(rig.pipe().push(&vec![1; MARK_BYTES]));
    assert!(!rig.pipe().push(&[2; 1]), "over the mark");
    assert!(!rig.pipe().push(&vec![3; 1_000_000]), "and taken all the same");
    assert_eq!(rig.level(), MARK_BYTES + 1_000_001);
    assert!(matches!(rig.read(1_000_000), Poll::Ready(Ok(bytes)) if bytes.len() == 1_000_000));
    assert_eq!(rig.told(), (0, 0), "still more than half of the mark");
    assert!(matches!(rig.read(1 << 20), Poll::Ready(Ok(bytes)) if bytes.len() == MARK_BYTES + 1));
    assert_eq!((rig.told(), rig.level()), ((0, 1), 0));
    assert!(rig.pipe().push(&[4; 1]));
    assert!(matches!(rig.read(9), Poll::Ready(Ok(bytes)) if bytes == [4]));
    assert_eq!(rig.told(), (0, 0), "told once");
}

#[test]
fn an_application_that_never_listens_breaks_its_pipe_and_not_the_server() {
    let rig = Rig::new();
    let mut pushed = 0;
    while !rig.end.as_ref().unwrap().is_broken() {
        rig.pipe().push(&vec![0; 1 << 20]);
        pushed += 1;
        assert!(pushed < 20);
        assert!(rig.level() <= MOST_BYTES);
    }
    assert!(pushed > 16);
    // One piece may be as large as it likes.
    let rig = Rig::new();
    assert!(!rig.pipe().push(&vec![0; MOST_BYTES + 1]));
    assert!(!rig.end.as_ref().unwrap().is_broken());
}

#[test]
fn what_is_not_taken_holds_the_writer_up() {
    let mut rig = Rig::new();
    assert!(matches!(rig.write(&vec![1; 100_000]), Poll::Ready(Ok(MARK_BYTES))));
    assert!(rig.write(&[1; 1]).is_pending());
    assert_eq!(rig.told(), (1, 0));
    let (bytes, taken) = rig.take(MARK_BYTES / 2 - 1);
    assert_eq!((bytes.len(), taken), (MARK_BYTES / 2 - 1, Taken { is_ended: false, more: true }));
    assert_eq!((rig.woken.get(), rig.told()), (0, (0, 0)));
    assert!(matches!(rig.write(&[2; 10]), Poll::Ready(Ok(10))));
    assert_eq!(rig.told(), (0, 0), "it was told that there is something, and there is");
    let (bytes, taken) = rig.take(usize::MAX);
    assert_eq!((bytes.len(), taken), (MARK_BYTES / 2 + 11, Taken { is_ended: false, more: false }));
    assert_eq!(rig.woken.get(), 1);
    assert!(matches!(rig.write(&[2; 10]), Poll::Ready(Ok(10))));
    assert_eq!((rig.told(), rig.level()), ((1, 0), 10));
    drop(rig.end.take());
    assert_eq!(rig.told(), (0, 0), "nothing was taken since");
    assert_eq!(rig.take(4).1, Taken { is_ended: false, more: true });
    assert_eq!(rig.take(100), (vec![2; 6], Taken { is_ended: true, more: false }));
    assert_eq!(rig.level(), 0);
}

#[test]
fn a_last_answer_has_room_and_ends_the_pipe() {
    let mut rig = Rig::new();
    rig.end.take().unwrap().end_with(&vec![7; 200_000]).unwrap();
    assert_eq!(rig.told(), (1, 0));
    let (bytes, taken) = rig.take(usize::MAX);
    assert_eq!((bytes.len(), taken), (200_000, Taken { is_ended: true, more: false }));
    assert!(rig.pipe().push(&vec![0; 1 << 20]), "nobody waits for room that is never told");
    assert_eq!(rig.level(), 0);
}

#[test]
fn as_of_a_socket_what_came_before_it_broke_is_read() {
    for breaks in [Pipe::abort as fn(&Pipe), |_| {}] {
        let mut rig = Rig::new();
        assert!(rig.read(1).is_pending());
        rig.pipe().push(b"ab");
        assert!(matches!(rig.write(b"for the peer"), Poll::Ready(Ok(12))));
        breaks(rig.pipe());
        drop(rig.pipe.take());
        assert!(rig.woken.get() > 0);
        // An answer to what is read must not be what ends it.
        assert!(matches!(rig.write(&vec![0; 2 * MARK_BYTES]), Poll::Ready(Ok(len)) if len == 2 * MARK_BYTES));
        assert!(matches!(rig.read(9), Poll::Ready(Ok(bytes)) if bytes == b"ab"));
        assert!(matches!(rig.read(9), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset));
        assert!(matches!(rig.write(b"x"), Poll::Ready(Ok(1))));
        assert_eq!(rig.level(), 0);
    }
}

#[test]
fn an_idle_pipe_keeps_no_buffer() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.pipe().push(&[0; 10_000]);
        assert!(rig.read(1 << 16).is_ready() && rig.write(&[0; 10_000]).is_ready());
        assert_eq!(rig.take(usize::MAX).0.len(), 10_000);
    }
    let state = lock(&rig.pipe().0.0.state);
    assert_eq!(state.incoming.bytes.capacity() + state.outgoing.bytes.capacity(), 0);
}

#[test]
fn ids_come_back_from_their_numbers() {
    let rig = Rig::new();
    assert_eq!(PipeId::from_u64(rig.id.to_u64()), rig.id);
    assert_ne!(rig.id, Rig::new().id);
    assert!(rig.id.to_u64() < 1 << 53);
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Read(usize),
    Write(usize),
    Take(usize),
    End,
    Shutdown,
    Abort,
    DropPipe,
    DropEnd,
}

fn act() -> impl Strategy<Value = Act> {
    let size = || prop_oneof![0usize..10, 0usize..5000, 30_000usize..200_000];
    prop_oneof![
        6 => size().prop_map(Act::Push),
        6 => size().prop_map(Act::Read),
        6 => size().prop_map(Act::Write),
        6 => size().prop_map(Act::Take),
        1 => Just(Act::End),
        1 => Just(Act::Shutdown),
        1 => Just(Act::Abort),
        1 => Just(Act::DropPipe),
        1 => Just(Act::DropEnd),
    ]
}

/// Bytes that nobody mixes up: of a count that goes on.
fn next(count: &mut usize, len: usize) -> Vec<u8> {
    let bytes = (*count..*count + len).map(|number| (number % 251) as u8).collect();
    *count += len;
    bytes
}

fn follows(count: &mut usize, bytes: &[u8]) -> bool {
    next(count, bytes.len()) == bytes
}

proptest! {
    /// Whatever both sides do in whatever order: each byte arrives once and in order, or is dropped at the end; whoever waits
    /// hears of what it waits for; the level is that of what is there.
    #[test]
    fn nothing_is_lost_doubled_or_left_behind(acts in prop::collection::vec(act(), 1..120)) {
        let mut rig = Rig::new();
        let (mut pushed, mut read, mut written, mut taken) = (0, 0, 0, 0);
        let (mut peer_ended, mut broken, mut server_ended) = (false, false, false);
        // The application was told, and has not taken all since; it waits for room.
        let (mut knows, mut waits_for_room) = (false, false);
        for act in acts {
            match act {
                Act::Push(len) if rig.pipe.is_some() => {
                    let is_read = rig.end.is_some() && !peer_ended && !broken;
                    let mut ahead = pushed;
                    let bytes = next(&mut ahead, len);
                    let has_room = rig.pipe().push(&bytes);
                    if is_read && len > 0 {
                        if rig.end.as_ref().unwrap().is_broken() {
                            broken = true;
                            written = taken;
                        } else {
                            pushed = ahead;
                            prop_assert_eq!(has_room, pushed - read <= MARK_BYTES);
                            waits_for_room |= !has_room;
                        }
                    } else {
                        prop_assert!(has_room);
                    }
                }
                Act::Read(most) if rig.end.is_some() && most > 0 => match rig.read(most) {
                    Poll::Ready(Ok(bytes)) if bytes.is_empty() => prop_assert!(peer_ended && read == pushed),
                    Poll::Ready(Ok(bytes)) => prop_assert!(follows(&mut read, &bytes)),
                    Poll::Ready(Err(_)) => prop_assert!(broken && read == pushed),
                    Poll::Pending => {
                        prop_assert!(read == pushed && !peer_ended && !broken);
                        let before = rig.woken.get();
                        if rig.pipe.is_some() {
                            rig.pipe().push(&next(&mut pushed, 1));
                            prop_assert!(rig.woken.get() > before);
                        }
                    }
                },
                Act::Write(len) if rig.end.is_some() => {
                    let mut ahead = written;
                    let bytes = next(&mut ahead, len);
                    match rig.write(&bytes) {
                        Poll::Ready(Ok(took)) if broken => prop_assert!(took == len && !server_ended),
                        Poll::Ready(Ok(took)) => {
                            prop_assert!(!server_ended && took <= len && (took > 0 || len == 0));
                            written += took;
                            prop_assert!(written - taken <= MARK_BYTES);
                        }
                        Poll::Ready(Err(_)) => prop_assert!(server_ended),
                        Poll::Pending => prop_assert!(written - taken == MARK_BYTES && !broken && !server_ended),
                    }
                }
                Act::Take(most) if rig.pipe.is_some() => {
                    let before = rig.woken.get();
                    let was_full = written - taken == MARK_BYTES;
                    let waited = lock(&rig.pipe().0.0.state).writer.is_some();
                    let (bytes, told) = rig.take(most);
                    prop_assert!(follows(&mut taken, &bytes));
                    prop_assert_eq!(told.more, taken < written);
                    prop_assert_eq!(told.is_ended, taken == written && (server_ended || broken));
                    knows &= told.more;
                    if was_full && waited && written - taken <= MARK_BYTES / 2 {
                        prop_assert!(rig.woken.get() > before, "a writer waits for ever");
                    }
                }
                Act::End if rig.pipe.is_some() => {
                    rig.pipe().end();
                    peer_ended = true;
                }
                Act::Shutdown if rig.end.is_some() => {
                    let end = rig.end.as_mut().unwrap();
                    let _ = Pin::new(end).poll_shutdown(&mut Context::from_waker(Waker::noop()));
                    server_ended = true;
                }
                Act::Abort | Act::DropPipe if rig.pipe.is_some() => {
                    rig.pipe().abort();
                    (broken, written) = (true, taken);
                    if matches!(act, Act::DropPipe) {
                        rig.pipe = None;
                    }
                }
                Act::DropEnd => {
                    rig.end = None;
                    (server_ended, waits_for_room) = (true, false);
                    read = pushed;
                }
                _ => {}
            }
            let (ready, room) = rig.told();
            prop_assert!(ready <= 1 && room <= 1);
            prop_assert!(!(ready == 1 && knows), "told twice");
            knows |= ready == 1;
            if rig.pipe.is_some() && !broken && (written > taken || server_ended) {
                // The end is told as well, once, also behind the last bytes.
                prop_assert!(knows || written == taken, "{written} {taken}");
            }
            if room == 1 {
                prop_assert!(waits_for_room);
                waits_for_room = false;
            }
            prop_assert!(!(waits_for_room && rig.end.is_some() && pushed - read <= MARK_BYTES / 2), "room that nobody hears of");
            let unread = if rig.end.is_some() { pushed - read } else { 0 };
            prop_assert_eq!(rig.level(), unread + written - taken);
        }
        rig.pipe = None;
        rig.end = None;
        prop_assert_eq!(rig.level(), 0);
    }
}
