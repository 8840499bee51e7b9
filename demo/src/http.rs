//! Just enough HTTP to show a page on loopback: GET, one answer per connection, everything bounded.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Requests in work at once; beyond it connections are dropped.
const MAX_CONNECTIONS: usize = 64;
/// A request head over this is not answered.
const MAX_HEAD_BYTES: usize = 8192;
/// From accept to the end of the request head, and once more for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A page or a part of one.
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    /// `Content-Security-Policy`.
    pub(crate) policy: String,
    pub(crate) body: Cow<'static, str>,
}

impl Content {
    /// Plain text that may load nothing.
    fn text(body: impl Into<Cow<'static, str>>) -> Self {
        Self { media_type: "text/plain; charset=utf-8", policy: "default-src 'none'".to_owned(), body: body.into() }
    }
}

/// Counts a connection until it is over.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves on threads of its own until the program ends. `host` is the only `Host` that is answered, so that a name
/// rebound to this address cannot read a token; `content` finds what is at a path.
pub(crate) fn serve(
    listener: TcpListener,
    host: String,
    content: impl Fn(&str) -> Option<Content> + Send + Sync + 'static,
) -> io::Result<()> {
    let (host, content) = (Arc::new(host), Arc::new(content));
    let in_work = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let counted = Counted(Arc::clone(&in_work));
            if in_work.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                continue;
            }
            let (host, content) = (Arc::clone(&host), Arc::clone(&content));
            // A failure is the peer's: it left, or was too slow. There is nobody to tell.
            let work = move || {
                let _counted = counted;
                let _ = converse(stream, &host, &*content);
            };
            let _ = Builder::new().name("page".to_owned()).spawn(work);
        }
    };
    Builder::new().name("pages".to_owned()).spawn(accept).map(drop)
}

fn converse(mut stream: TcpStream, host: &str, content: &dyn Fn(&str) -> Option<Content>) -> io::Result<()> {
    let head = read_head(&mut stream)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, content) = answer(&head, host, content);
    let Content { media_type, policy, body } = content;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn answer(head: &str, host: &str, content: &dyn Fn(&str) -> Option<Content>) -> (&'static str, Content) {
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (request_line.next().unwrap_or_default(), request_line.next().unwrap_or_default());
    let mut hosts = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim());
    if method != "GET" {
        return ("405 Method Not Allowed", Content::text("only GET is answered here\n"));
    }
    if (hosts.next(), hosts.next()) != (Some(host), None) {
        return ("421 Misdirected Request", Content::text(format!("open http://{host}/\n")));
    }
    match content(target.split('?').next().unwrap_or_default()) {
        Some(content) => ("200 OK", content),
        None => ("404 Not Found", Content::text("there is nothing here\n")),
    }
}

/// The request head, within [`PATIENCE`] and [`MAX_HEAD_BYTES`].
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => head.extend_from_slice(&chunk[..len]),
        }
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> &'static str {
        let content = |path: &str| (path == "/").then(|| Content::text("page"));
        answer(head, "127.0.0.1:8000", &content).0
    }

    #[test]
    fn only_get_of_a_known_path_by_the_right_host() {
        let host = "Host: 127.0.0.1:8000\r\n\r\n";
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{host}")), "200 OK");
        assert_eq!(status(&format!("GET /?x HTTP/1.1\r\n{host}")), "200 OK");
        assert_eq!(status(&format!("GET /../etc/passwd HTTP/1.1\r\n{host}")), "404 Not Found");
        assert_eq!(status(&format!("POST / HTTP/1.1\r\n{host}")), "405 Method Not Allowed");
        for host in ["", "Host: rebound.example:8000\r\n", "Host: 127.0.0.1:8000\r\nHost: 127.0.0.1:8000\r\n"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\n{host}\r\n")), "421 Misdirected Request");
        }
    }
}
