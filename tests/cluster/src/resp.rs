//! As much of Redis' protocol as the tests need: commands out, answers in, and where a reply ends in a stream of them
//! (RESP2 and RESP3). It shares no code with the driver of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::{ensure, fail};

/// How long a server may take to answer the test itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(String),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    /// Every text in it, however deep, and every number as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Nil | Self::Error(_) => Vec::new(),
            Self::Int(number) => vec![number.to_string()],
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
        }
    }

    /// The first text, or nothing.
    pub(crate) fn text(&self) -> String {
        self.texts().into_iter().next().unwrap_or_default()
    }
}

/// Asks the server at a port one thing after another, on one connection.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Outcome<Self> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and reads its answer; an error is an answer, too.
    pub(crate) fn ask(&mut self, command: &[&str]) -> Outcome<Reply> {
        let words = command.iter().map(|word| word.as_bytes()).collect::<Vec<_>>();
        self.ask_bytes(&words)
    }

    /// The same, with words that need not be UTF-8.
    pub(crate) fn ask_bytes(&mut self, command: &[&[u8]]) -> Outcome<Reply> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)?;
        self.reply()
    }

    fn reply(&mut self) -> Outcome<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end_matches("\r\n");
        ensure!(!line.is_empty(), "the server closed the connection");
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| Failure(format!("not a number in a reply: {rest}")));
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "$" | "*" if number()? < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => Reply::List((0..number()?).map(|_| self.reply()).collect::<Outcome<_>>()?),
            _ => return fail!("not a reply: {line}"),
        })
    }
}

/// The first reply of a stream: how many bytes it has, and whether it is a message of a subscription. `None`: it is not
/// whole yet.
pub(crate) fn first(bytes: &[u8]) -> Option<(usize, bool)> {
    let end = whole(bytes)?;
    let is_array = matches!(bytes[0], b'*' | b'>');
    let kinds: [&[u8]; 3] = [b"$7\r\nmessage\r\n", b"$8\r\nsmessage\r\n", b"$8\r\npmessage\r\n"];
    let first_item = bytes.iter().position(|byte| *byte == b'\n').map_or(&[][..], |at| &bytes[at + 1..end]);
    Some((end, is_array && kinds.iter().any(|kind| first_item.starts_with(kind))))
}

fn whole(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let head = line + 2;
    let number = || std::str::from_utf8(&bytes[1..line]).ok()?.parse::<i64>().ok();
    let items = match bytes[0] {
        // Bulk and verbatim strings, bulk errors.
        b'$' | b'=' | b'!' => {
            let length = usize::try_from(number()?).map_or(0, |length| length + 2);
            return (bytes.len() >= head + length).then_some(head + length);
        }
        b'*' | b'>' | b'~' => number()?.max(0),
        b'%' => number()? * 2,
        // Attributes stand in front of what they are of.
        b'|' => number()? * 2 + 1,
        _ => 0,
    };
    let mut end = head;
    for _ in 0..items {
        end += whole(bytes.get(end..).filter(|rest| !rest.is_empty())?)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_reply_is_found() {
        let replies: [(&[u8], bool); 9] = [
            (b"+OK\r\n", false),
            (b"$3\r\nab\n\r\n", false),
            (b"$-1\r\n", false),
            (b"*-1\r\n", false),
            (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$0\r\n\r\n", true),
            (b">3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\nb\r\n", true),
            (b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", false),
            (b"%1\r\n+a\r\n*2\r\n:1\r\n_\r\n", false),
            (b"*2\r\n*0\r\n$7\r\nmessage\r\n", false),
        ];
        for (reply, is_message) in replies {
            let longer = [reply, b"+next\r\n"].concat();
            assert_eq!(first(&longer), Some((reply.len(), is_message)), "{}", reply.escape_ascii());
            for cut in 0..reply.len() {
                assert_eq!(first(&reply[..cut]), None, "{}", reply[..cut].escape_ascii());
            }
        }
    }
}
