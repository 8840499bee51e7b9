//! A Redis of the test's own, on a Unix socket, and RESP spoken to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use wsguard_proto::cluster::store::{Command, SCRIPTS, Value};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wsguard-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut child = Process::new(std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into()))
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "socket", "--dir"])
            .arg(&folder)
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is not installed: tests/packages.sh redis-server");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "redis-server ended");
        }
        Self { child, folder }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.folder.join("socket")).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Client {
    /// Sends commands at once, and reads as many answers.
    pub(crate) fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Value> {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
            for word in words {
                bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                bytes.extend(word);
                bytes.extend(b"\r\n");
            }
        }
        self.stream.write_all(&bytes).unwrap();
        commands.iter().map(|_| self.value()).collect()
    }

    pub(crate) fn call(&mut self, words: &[&[u8]]) -> Value {
        let words = words.iter().map(|word| word.to_vec()).collect();
        self.pipeline(&[words]).remove(0)
    }

    pub(crate) fn load_all(&mut self) {
        for script in SCRIPTS {
            let sha1 = self.call(&[b"SCRIPT", b"LOAD", script.text.as_bytes()]);
            assert_eq!(sha1, Value::Bytes(script.sha1().into()), "{script:?}");
        }
    }

    /// As a driver does.
    pub(crate) fn run(&mut self, commands: &[Command]) -> Vec<Value> {
        let words = |command: &Command| command.words().map(std::borrow::Cow::into_owned).collect();
        self.pipeline(&commands.iter().map(words).collect::<Vec<_>>())
    }

    fn value(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Value::Bytes(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(rest.parse().unwrap()),
            "$" | "*" if rest == "-1" => Value::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Value::Bytes(bytes)
            }
            "*" => Value::Array((0..rest.parse::<usize>().unwrap()).map(|_| self.value()).collect()),
            _ => panic!("no RESP: {line}"),
        }
    }
}
