//! `--nodes N`: one chat on several processes. Each is a server of its own; Redis makes one of them. It prints what a client of
//! one node hears of the others, and what a user may do on all of them together.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{sleep, timeout};
use wsguard::{Event, Options, Server};

use crate::guests;
use crate::say;
use crate::wire::{Claim, Seen, Socket, connect};

/// The program's name for itself as a node.
pub(crate) const NODE: &str = "--node";

const ORIGIN: &str = "http://localhost";
const ROOM: &str = "chat";
/// A user's connections, on all nodes.
const SEATS: usize = 4;
const PER_SECOND: u64 = 10;
const BURST: u64 = 20;
/// Messages that may wait for the rate.
const QUEUE: u64 = 20;
/// How long ann sends as fast as she can.
const SECONDS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(15);

/// A process that ends with this one.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node: its policy comes on standard input, whose end is its own.
pub(crate) fn serve() -> Result<(), Box<dyn Error>> {
    let mut input = BufReader::new(std::io::stdin());
    let mut policy = String::new();
    input.read_line(&mut policy)?;
    let server = Server::start(Options::from_json(&policy)?)?;
    say(server.address());
    let handle = server.handle();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        handle.stop();
    });
    server.run(|event, server| {
        match event {
            Event::Open(open) => _ = server.conn(open.conn).join(ROOM)?,
            Event::Message(message) if message.event == "echo" => _ = server.reply(&message, "echo", &message.data)?,
            Event::Message(message) => _ = server.room(ROOM).emit("said", &message.data)?,
            _ => {}
        }
        Ok(())
    });
    Ok(())
}

/// Starts the nodes and shows what they share.
pub(crate) fn show(count: usize) -> Result<(), Box<dyn Error>> {
    let (redis, _redis) = match std::env::var("REDIS") {
        Ok(url) => (url, None),
        Err(_) => start_redis().map(|(url, process)| (url, Some(process)))?,
    };
    let tokens = [guests::token()?, guests::token()?];
    let policy = json!({
        "listen": "127.0.0.1:0",
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": tokens[0], "user": "ann"}, {"token": tokens[1], "user": "ben"}]},
        "token_sources": ["bearer"],
        "events": {"say": {}, "echo": {}},
        "rate_limit": {"per_second": PER_SECOND, "burst": BURST, "queue": QUEUE},
        "max_connections_per_user": SEATS,
        "cluster": {"url": redis, "name": format!("demo-{}", std::process::id())},
    });
    let nodes = (0..count).map(|_| start_node(&policy.to_string())).collect::<Result<Vec<_>, _>>()?;
    let pids = nodes.iter().map(|(node, _)| node.0.id().to_string()).collect::<Vec<_>>();
    say(&format!("wsguard demo: one chat on {count} processes ({}), over Redis.", pids.join(", ")));
    let nodes = nodes.iter().map(|(_, address)| *address).collect::<Vec<_>>();
    let claim = |token: &String| Claim { path: "/", origin: ORIGIN.to_owned(), token: Some(token.clone()) };
    let (ann, ben) = (claim(&tokens[0]), claim(&tokens[1]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        crossing(&nodes, &ben).await?;
        seats(&nodes, &ann).await?;
        rate(&nodes, &ann).await
    })
}

/// What ben says on one node is heard on every other one.
async fn crossing(nodes: &[SocketAddr], ben: &Claim) -> Result<(), Box<dyn Error>> {
    let mut sockets = Vec::new();
    for node in nodes {
        sockets.push(open(*node, ben).await?);
    }
    // Until each node knows of the others.
    let begun = Instant::now();
    for listener in 1..sockets.len() {
        loop {
            sockets[0].sender.text(r#"{"event":"say","data":"is anybody there?"}"#).await?;
            if timeout(Duration::from_millis(500), sockets[listener].receiver.next()).await.is_ok() {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err("the nodes do not find one another".into());
            }
        }
    }
    for socket in &mut sockets {
        while timeout(Duration::from_millis(300), socket.receiver.next()).await.is_ok() {}
    }
    for speaker in 0..sockets.len() {
        let sent = Instant::now();
        sockets[speaker].sender.text(r#"{"event":"say","data":"hello"}"#).await?;
        for (listener, socket) in sockets.iter_mut().enumerate() {
            if timeout(PATIENCE, socket.receiver.next()).await? != Seen::Message {
                return Err("a message did not arrive".into());
            }
            if listener != speaker {
                let micros = sent.elapsed().as_micros();
                say(&format!(
                    "  ben says hello on node {}: heard on node {} after {micros} us",
                    speaker + 1,
                    listener + 1
                ));
            }
        }
    }
    Ok(())
}

/// Ann's connections are counted on all nodes together.
async fn seats(nodes: &[SocketAddr], ann: &Claim) -> Result<(), Box<dyn Error>> {
    let mut open = Vec::new();
    for number in 0..SEATS {
        open.push(self::open(nodes[number % nodes.len()], ann).await?);
    }
    for (number, node) in nodes.iter().enumerate() {
        let status = connect(*node, ann).await.status;
        if status != Some(429) {
            return Err(format!("connection {} was answered {status:?}", SEATS + 1).into());
        }
        say(&format!("  ann has {SEATS} connections, on all nodes; one more on node {}: HTTP 429", number + 1));
    }
    Ok(())
}

/// Ann sends on every node as fast as she may, and gets through what one server would let through.
async fn rate(nodes: &[SocketAddr], ann: &Claim) -> Result<(), Box<dyn Error>> {
    // Those of before are gone once their places are free.
    let mut sockets = Vec::new();
    let begun = Instant::now();
    while sockets.len() < nodes.len() {
        match open(nodes[sockets.len()], ann).await {
            Ok(socket) => sockets.push(socket),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    let begun = Instant::now();
    let tasks = sockets.into_iter().map(|socket| tokio::spawn(echo(socket, QUEUE / 2 / nodes.len() as u64)));
    let mut passed = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        passed.push(task.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (sum, lease) = (passed.iter().sum::<u64>(), BURST / 4);
    let most = BURST as f64 + PER_SECOND as f64 * seconds;
    let bound = most + (lease * nodes.len() as u64) as f64;
    let each = passed.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
    say(&format!(
        "  ann sends on all {} nodes for {seconds:.1} s: {each} = {sum} messages passed; one server lets {most:.0} pass, \
         several at most {bound:.0}",
        nodes.len()
    ));
    if sum as f64 > bound { Err("too many".into()) } else { Ok(()) }
}

/// Keeps so many echoes under way; how many came back.
async fn echo(socket: Socket, under_way: u64) -> std::io::Result<u64> {
    let Socket { mut sender, mut receiver, .. } = socket;
    let ends = Instant::now() + Duration::from_secs(SECONDS);
    let (mut sent, mut passed) = (0, 0);
    loop {
        while sent - passed < under_way.max(1) && Instant::now() < ends {
            sender.text(r#"{"event":"echo"}"#).await?;
            sent += 1;
        }
        if sent == passed {
            return Ok(passed);
        }
        match receiver.next().await {
            Seen::Message => passed += 1,
            seen => return Err(std::io::Error::other(format!("instead of an echo: {seen:?}"))),
        }
    }
}

async fn open(node: SocketAddr, claim: &Claim) -> Result<Socket, Box<dyn Error>> {
    let handshake = connect(node, claim).await;
    handshake.socket.ok_or_else(|| format!("a handshake was answered {:?}", handshake.status).into())
}

fn start_node(policy: &str) -> Result<(Process, SocketAddr), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let child = command.arg(NODE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut process = Process(child);
    let (Some(input), Some(output)) = (&mut process.0.stdin, process.0.stdout.take()) else {
        return Err("a node has no pipes".into());
    };
    writeln!(input, "{policy}")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse().map_err(|_| format!("a node does not start: {}", line.trim()))?;
    Ok((process, address))
}

/// An empty Redis that keeps nothing and ends with this program.
fn start_redis() -> Result<(String, Process), Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn().map_err(|error| {
        format!("redis-server: {error}; install it (apt-get install redis-server), or name one in REDIS=redis://…")
    })?;
    let process = Process(child);
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > PATIENCE {
            return Err("redis-server does not start".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((format!("redis://127.0.0.1:{port}"), process))
}
