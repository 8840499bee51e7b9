//! Servers that answer with anything: the audit ends, soon, and says that it could not tell.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::careless::{head, pong, serve, upgrade};
use super::{audit, report, soon};

/// A short audit: a check of each kind.
const SHORT: [&str; 10] = [
    "--only",
    "origin-foreign,banner,head-size,utf8,close-codes,declared-size,ping-rate,unfinished-handshake,alive",
    "--patience",
    "5",
    "--timeout",
    "1",
    "--rate",
    "50",
    "--fail-on",
    "never",
];

/// Against a server whose opening handshake leads nowhere: exit 2, and nothing is found that needs a way in.
fn leads_nowhere(each: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> String {
    let url = serve(each);
    let output = soon(|| audit(&[&[url.as_str()], &SHORT[..]].concat()));
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{out}{errors}");
    assert!(errors.contains("no way in"), "{errors}");
    assert!(!out.contains("HIGH"), "{out}");
    assert!(!out.contains('\x1b') && !errors.contains('\x1b'), "{out}{errors}");
    format!("{out}{errors}")
}

#[test]
fn it_closes_at_once() {
    leads_nowhere(drop);
}

#[test]
fn it_never_answers() {
    leads_nowhere(|_stream| thread::sleep(Duration::from_secs(30)));
}

#[test]
fn it_speaks_something_else() {
    leads_nowhere(|mut stream| _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\x1b[2J"));
}

#[test]
fn its_head_never_ends() {
    leads_nowhere(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-Endless: \x1b[31mred\r\n").is_ok() {}
    });
}

#[test]
fn its_head_drips() {
    leads_nowhere(|mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a')) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
}

/// Answers once, and waits for the client to leave: an early end would reset what was written.
fn answer(mut stream: TcpStream, bytes: &[u8]) {
    if head(&mut stream).is_some() && stream.write_all(bytes).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

#[test]
fn it_sends_elsewhere() {
    let said =
        leads_nowhere(|stream| answer(stream, b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\n\r\n"));
    assert!(said.contains("not followed"), "{said}");
}

#[test]
fn it_is_of_http_1_0() {
    leads_nowhere(|stream| answer(stream, b"HTTP/1.0 200 OK\r\n\r\nhello"));
}

#[test]
fn its_101_is_none() {
    leads_nowhere(|stream| answer(stream, b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n"));
}

#[test]
fn its_frames_are_none() {
    leads_nowhere(|mut stream| {
        if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_some() {
            let _ = stream.write_all(&[0xff; 4096]);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
}

#[test]
fn it_sends_without_end() {
    leads_nowhere(|mut stream| {
        if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_some() {
            let frame = [&[0x82, 126, 0xff, 0xff][..], &vec![7; 65535]].concat();
            while stream.write_all(&frame).is_ok() {}
        }
    });
}

/// It answers the control, and reads no more: what is sent then fills the buffers between the two.
#[test]
fn it_stops_reading() {
    let url = serve(|mut stream| {
        if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_some() && control(&mut stream).is_some() {
            thread::sleep(Duration::from_secs(50));
        }
    });
    let checks = ["--only", "message-size,utf8", "--timeout", "1", "--rate", "50"];
    let (code, report) = soon(|| report(&[&[url.as_str()], &checks[..]].concat()));
    for check in ["message-size", "utf8"] {
        assert_eq!((code, super::word(&report, check)), (0, "unknown"), "{report}");
    }
}

#[test]
fn its_tls_is_none() {
    // Another protocol; silence; a record of TLS that never ends.
    let all: [fn(TcpStream); 3] = [
        |mut stream| _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        |_stream| thread::sleep(Duration::from_secs(20)),
        |mut stream| {
            let _ = stream.write_all(&[22, 3, 3, 0x40, 0]);
            while stream.write_all(&[2]).is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        },
    ];
    for each in all {
        let began = Instant::now();
        let url = serve(each).replace("ws://", "wss://");
        let output = soon(|| audit(&[&[url.as_str()], &SHORT[..]].concat()));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("cannot be reached"), "{errors}");
        assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    }
}

/// Answers the first ping.
fn control(stream: &mut TcpStream) -> Option<()> {
    let mut ping = [0; 27];
    stream.read_exact(&mut ping).ok()?;
    let payload: Vec<u8> = ping[6..].iter().zip(ping[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    stream.write_all(&pong(&payload)).ok()
}

/// It dies in the middle: what came before stands, what came after could not be told, and that is a finding.
#[test]
fn it_dies_in_the_middle() {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let url = serve(|mut stream| {
        // The way in, the check of origins, and then no more.
        if TAKEN.fetch_add(1, Ordering::SeqCst) >= 2 || head(&mut stream).and_then(|_| upgrade(&mut stream)).is_none() {
            return;
        }
        if control(&mut stream).is_some() {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let checks = ["--only", "origin-foreign,utf8,alive", "--timeout", "1", "--rate", "50"];
    let (code, report) = soon(|| report(&[&[url.as_str()], &checks[..]].concat()));
    let words: Vec<_> = ["origin-foreign", "utf8", "alive"].iter().map(|check| super::word(&report, check)).collect();
    assert_eq!((code, words.as_slice()), (1, ["high", "unknown", "high"].as_slice()), "{report}");
}

/// It says what it was asked for, as a redirect does: no credential of that reaches the terminal, however it is written.
#[test]
fn it_repeats_the_url() {
    let url = serve(|mut stream| {
        let Some(asked) = head(&mut stream) else { return };
        let target = asked.split(' ').nth(1).unwrap_or_default();
        let moved = format!("HTTP/1.1 302 Found\r\nLocation: https://a{target}\r\nServer: a/1 {target}\r\n\r\n");
        let _ = stream.write_all(moved.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("{url}ws?key=of-the-url-itself");
    let output = soon(|| audit(&[&url, "--query", "token=a+b/c=0123456789", "--only", "banner", "--json"]));
    let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(all.contains("[credential]") && all.contains("not followed"), "{all}");
    assert!(!all.contains("of-the-url") && !all.contains("a%2Bb"), "{all}");
}

/// A server that sends more than is read has ended nothing.
#[test]
fn it_floods_half_a_handshake() {
    let url = serve(|mut stream| {
        if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_some() && control(&mut stream).is_some() {
            let frame = [&[0x82, 126, 0xff, 0xff][..], &vec![7; 65535]].concat();
            while stream.write_all(&frame).is_ok() {}
        }
    });
    let checks = ["--only", "silent-peer,unfinished-handshake", "--patience", "60", "--timeout", "1", "--rate", "50"];
    let (_, report) = soon(|| report(&[&[url.as_str()], &checks[..]].concat()));
    for check in ["silent-peer", "unfinished-handshake"] {
        assert_eq!(super::word(&report, check), "unknown", "{report}");
    }
}

/// A proxy answers for a server that died in the middle: that is no sign of life.
#[test]
fn a_proxy_speaks_for_it() {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let url = serve(|mut stream| {
        if TAKEN.fetch_add(1, Ordering::SeqCst) >= 1 {
            answer(stream, b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: 1\r\n\r\n");
        } else if head(&mut stream).and_then(|_| upgrade(&mut stream)).is_some() {
            let _ = control(&mut stream);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let (code, report) =
        soon(|| report(&[url.as_str(), "--only", "alive", "--timeout", "1", "--rate", "50", "--strict"]));
    assert_eq!((code, super::word(&report, "alive")), (1, "unknown"), "{report}");
}
