//! What is sent: whole, in order, to whom it is for, or not at all.

use std::sync::{Mutex, mpsc};
use std::time::Instant;

use wsguard::binding::{Handled, Inline, InlineMessage, Replies};

use super::*;

#[test]
fn what_can_never_be_sent_is_an_error_and_nothing_of_it_is_sent() {
    let mut server = start(r#", "max_outbox_bytes": 100000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large = "x".repeat(100_001);
    for refused in [
        handle.send_text(conn, &large).map(drop),
        handle.send_binary(conn, &large.as_bytes()[..99_999]).map(drop),
        handle.emit(conn, &large, "1").map(drop),
        handle.broadcast_text(To::Everyone, &large, &[]),
        handle.broadcast(To::Everyone, "e", &large, &[]),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(error.to_string().contains("max_outbox_bytes"), "{error}");
    }
    handle.send_text(conn, "small").unwrap();
    let mut frame = [0; 7];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[2..], b"small");
}

#[test]
fn what_a_route_can_never_send_is_an_error_there() {
    let routes = |small: usize| format!(r#", "routes": {{"/chat": {{}}, "/small": {{"max_outbox_bytes": {small}}}}}"#);
    let received = |client: &mut TcpStream, len: usize| {
        let mut frame = vec![0; 4 + len];
        client.read_exact(&mut frame).unwrap();
        assert_eq!((frame[1], usize::from(u16::from_be_bytes([frame[2], frame[3]]))), (126, len));
    };
    let mut server = start(&routes(1000));
    let handle = server.handle();
    let mut other = connect(&handle);
    let large = opened(&mut server);
    let mut peer = connect_to("small", &handle);
    let small = opened(&mut server);
    let message = "x".repeat(1000);
    let error = handle.send_text(small, &message).unwrap_err();
    assert!(error.code() == "invalid_argument" && error.to_string().contains("max_outbox_bytes"), "{error}");
    handle.send_text(large, &message).unwrap();
    handle.send_text(small, &message[..900]).unwrap();
    received(&mut other, 1000);
    received(&mut peer, 900);
    // A connection has the limit of its policy of now, as soon as its shard has come to it.
    handle.reload(options(&routes(2000))).unwrap();
    let gives_up = Instant::now() + Duration::from_secs(10);
    while handle.send_text(small, &message).is_err() {
        assert!(Instant::now() < gives_up);
        std::thread::yield_now();
    }
    received(&mut peer, 1000);
}

#[test]
fn large_answers_arrive_whole_and_in_order() {
    let mut server = start(r#", "max_outbox_bytes": 16777216"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large: Vec<u8> = (0..4 << 20).map(|n: u32| (n / 251) as u8).collect();
    let cork = handle.cork();
    let mut expected = Vec::new();
    for (number, len) in [10, 4 << 20, 100, 20_000, 8_192, 1].into_iter().enumerate() {
        handle.send_text(conn, &number.to_string()).unwrap();
        handle.send_binary(conn, &large[..len]).unwrap();
        expected.extend([0x81, 1, b'0' + number as u8, 0x82]);
        match len {
            0..126 => expected.push(len as u8),
            126..65_536 => expected.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
            _ => expected.extend([&[127][..], &(len as u64).to_be_bytes()].concat()),
        }
        expected.extend(&large[..len]);
    }
    drop(cork);
    let mut received = vec![0; expected.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == expected);
}

/// An inline handler that keeps its shard busy with a message `block` until it is told to go on.
struct Gate {
    entered: mpsc::Sender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Inline for Gate {
    fn message(&self, _: ConnectionId, message: InlineMessage<'_>, _: &mut Replies<'_>) -> Handled {
        if !matches!(message, InlineMessage::Text("block")) {
            return Handled::Pass;
        }
        self.entered.send(()).unwrap();
        self.leave.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        Handled::Done
    }
}

#[test]
fn a_pong_that_waited_goes_to_nobody_else() {
    const PIECE: usize = 64 * 1024;
    const LAST: usize = 300 * 1024;
    let (entered, has_entered) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let gate = Gate { entered, leave: Mutex::new(left) };
    let builder = Builder::new().without_listener().inline(gate);
    let more = r#", "threads": 1, "max_outbox_bytes": 16777216, "control_rate_limit": null"#;
    let mut server = builder.start(options(more)).unwrap();
    let handle = server.handle();
    let (mut slow, mut other, mut blocker) = (connect(&handle), connect(&handle), connect(&handle));
    let mut opens = Vec::new();
    let mut batch = EventBatch::new();
    while opens.len() < 3 {
        assert_eq!(server.events().next(&mut batch, Some(Duration::from_secs(10))), Next::Events);
        opens.extend(batch.iter().filter_map(|event| event.conn()));
    }
    drop(batch);
    let (slow_id, other_id) = (opens[0], opens[1]);
    // The reader is slow: what it does not read fills the kernel's buffers, and then a little waits in the outbox.
    let mut sent = 0;
    loop {
        handle.send_text(other_id, "x").unwrap();
        assert_eq!(next_frame(&mut other), (0x81, b"x".to_vec()));
        if handle.stats().outbox_bytes > 0 {
            break;
        }
        handle.send_binary(slow_id, &vec![1; PIECE]).unwrap();
        sent += PIECE + 10;
    }
    let in_kernel = sent - handle.stats().outbox_bytes as usize;
    slow.write_all(&[0x89, 0x84, 0, 0, 0, 0, b'm', b'i', b'n', b'e']).unwrap();
    slow.write_all(&text("seen")).unwrap();
    assert_eq!(tell(&mut server, 1), ["seen"]);
    // While the shard is busy the reader reads, and the application speaks: both are there when the shard goes on.
    blocker.write_all(&text("block")).unwrap();
    has_entered.recv_timeout(Duration::from_secs(10)).unwrap();
    slow.read_exact(&mut vec![0; in_kernel]).unwrap();
    let cork = handle.cork();
    handle.send_text(other_id, "a").unwrap();
    handle.send_binary(slow_id, &vec![1; LAST]).unwrap();
    drop(cork);
    leave.send(()).unwrap();
    slow.read_exact(&mut vec![0; sent - in_kernel + LAST + 10]).unwrap();
    handle.send_text(other_id, "b").unwrap();
    assert_eq!(next_frame(&mut other), (0x81, b"a".to_vec()));
    assert_eq!(next_frame(&mut other), (0x81, b"b".to_vec()));
    assert_eq!(next_frame(&mut slow), (0x8a, b"mine".to_vec()));
}

#[test]
fn what_a_fast_reader_could_have_taken_does_not_make_it_slow() {
    let mut server = start(r#", "threads": 1, "max_outbox_bytes": 100000"#);
    let handle = server.handle();
    let mut client = connect(&handle);
    let conn = opened(&mut server);
    let large = "x".repeat(60_000);
    let cork = handle.cork();
    handle.broadcast_text(To::Everyone, "first", &[]).unwrap();
    handle.broadcast_text(To::Everyone, &large, &[]).unwrap();
    handle.broadcast_text(To::Everyone, &large, &[]).unwrap();
    handle.send_text(conn, &large).unwrap();
    handle.send_text(conn, &large).unwrap();
    handle.send_text(conn, "last").unwrap();
    drop(cork);
    let mut all = vec![0; 7 + 4 * 60_004];
    client.read_exact(&mut all).unwrap();
    assert_eq!(next_frame(&mut client), (0x81, b"last".to_vec()));
}

#[test]
fn a_broadcast_leaves_out_as_many_as_are_named_on_whichever_shard() {
    let mut server = start(r#", "threads": 2"#);
    let handle = server.handle();
    let mut peers: Vec<_> = (0..6).map(|_| (connect(&handle), opened(&mut server))).collect();
    for (_, conn) in &peers {
        handle.join(*conn, "r").unwrap();
    }
    // In no order, one of them twice, and one that is nobody.
    let except = [peers[4].1, peers[0].1, peers[3].1, peers[0].1, ConnectionId::from_u64(7)];
    handle.broadcast_text(To::Room("r"), "some", &except).unwrap();
    handle.broadcast_binary(To::Everyone, b"some", &except).unwrap();
    handle.broadcast_text(To::Everyone, "last", &[]).unwrap();
    for (at, (client, _)) in peers.iter_mut().enumerate() {
        let mut got = Vec::new();
        while !got.ends_with(b"last") {
            let mut frame = [0; 6];
            client.read_exact(&mut frame).unwrap();
            got.extend(&frame[2..]);
        }
        assert_eq!(got, if [0, 3, 4].contains(&at) { &b"last"[..] } else { b"somesomelast" }, "{at}");
    }
}
