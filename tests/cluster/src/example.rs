//! `examples/cluster` as it is: nginx in front of three nodes, nothing sticky.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use serde_json::json;
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::debian::{is_root, provide};
use wsguard_test_support::ensure;
use wsguard_test_support::lines::Lines;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::{Group, Signal, mortal};
use wsguard_test_support::wire::{Dial, Target};

use crate::ground::{BACK, Ground, hears, settled, url};
use crate::redis::{Redis, free_port, until};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/cluster");
const CONFIGURATION: &str = include_str!("../../../examples/cluster/nginx.conf");

/// A process that ends with the test.
struct Process {
    child: Child,
    /// Read to its end, so that nobody waits for it.
    lines: Option<Lines<String>>,
}

impl Process {
    fn kill(&mut self) {
        let _ = Group::of(self.child.id()).signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        self.lines = None;
    }
}

/// One node, and its address.
fn node(redis: &Redis) -> Outcome<(Process, String)> {
    let mut command = mortal("KILL", "node");
    command.arg("chat.mjs").current_dir(EXAMPLE).env("LISTEN", "127.0.0.1:0").env("REDIS", url(redis));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    let Some(output) = child.stdout.take() else { return Err(Failure("no output".into())) };
    let lines = Lines::of(output, |line| Some(line.to_owned()));
    let line = lines.take(PATIENCE, |line| line.starts_with("listening on "));
    let process = Process { child, lines: Some(lines) };
    let line = line.ok_or_else(|| Failure("the example does not listen: is it installed (npm ci)?".into()))?;
    Ok((process, line.replace("listening on ", "")))
}

/// nginx with the example's file, before these nodes.
fn nginx(nodes: &[String]) -> Outcome<(Process, Target, tempfile::TempDir)> {
    let directory = tempfile::Builder::new().prefix("wsguard-nginx").tempdir()?;
    let place = directory.path().display().to_string();
    let port = free_port()?;
    let mut site = CONFIGURATION.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
    for (number, node) in nodes.iter().enumerate() {
        let stated = format!("127.0.0.1:{}", 8081 + number);
        ensure!(site.contains(&stated), "the example's nginx.conf has no {stated}");
        site = site.replace(&stated, node);
    }
    let user = if is_root() { "user root;" } else { "" };
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {place}/{kind};"));
    let text = format!(
        "daemon off; {user} worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off; {}\n{site}}}\n",
        paths.join(" ")
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, text)?;
    let program = provide(&["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"], "nginx")?;
    let mut command = mortal("TERM", program);
    command.arg("-p").arg(&place).arg("-c").arg(&file).arg("-e").arg(format!("{place}/error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let process = Process { child: command.spawn()?, lines: None };
    let target = Target::plain(format!("127.0.0.1:{port}"));
    until("nginx listens", PATIENCE, || Ok(target.tcp(Dial::default()).is_ok())).map_err(|failure| {
        Failure(format!("{failure}: {}", fs::read_to_string(format!("{place}/error.log")).unwrap_or_default()))
    })?;
    Ok((process, target, directory))
}

fn connect(target: &Target) -> Outcome<Client> {
    let opening = Opening::bare()
        .header("Origin", "https://chat.example.com")
        .header("Sec-WebSocket-Protocol", "bearer, change-me");
    Client::open(target, Dial::default(), &opening)
}

pub(crate) fn nginx_in_front(_: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let nodes = (0..3).map(|_| node(&redis)).collect::<Outcome<Vec<_>>>()?;
    let (mut nodes, addresses): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
    let (_nginx, target, _directory) = nginx(&addresses)?;
    let mut clients = (0..6).map(|_| connect(&target)).collect::<Outcome<Vec<_>>>()?;
    all_hear(&redis, &mut clients)?;
    for sender in 0..clients.len() {
        clients[sender].emit("say", &json!({"text": sender.to_string()}))?;
        for client in &mut clients {
            hears(client, "said", &json!({"from": "alice", "text": sender.to_string()}))?;
        }
    }
    // Two more seats are left of eight, on whatever node.
    let mut more = (0..2).map(|_| connect(&target)).collect::<Outcome<Vec<_>>>()?;
    ensure!(connect(&target).is_err(), "a ninth connection of a user was let in");
    more.drain(..).try_for_each(Client::leave)?;
    nodes[0].kill();
    let before = clients.len();
    clients.retain_mut(|client| client.emit("say", &json!({"text": "still here"})).is_ok() && stays(client));
    let lost = before - clients.len();
    ensure!(lost == 2, "{lost} of {before} connections were on one of three nodes");
    for _ in 0..lost {
        let mut again = None;
        until("a client is let in again", BACK, || {
            again = connect(&target).ok();
            Ok(again.is_some())
        })?;
        clients.extend(again);
    }
    all_hear(&redis, &mut clients)?;
    Ok(format!("6 clients on 3 nodes, {lost} of them moved when one was killed"))
}

/// What comes first is a message, and not the end.
fn stays(client: &mut Client) -> bool {
    client.event(PATIENCE).is_ok()
}

/// By a message from outside, which any node passes on.
fn all_hear(redis: &Redis, clients: &mut [Client]) -> Outcome {
    // What is still under way of earlier messages is passed over.
    for client in clients.iter_mut() {
        while client.event(std::time::Duration::from_millis(100)).is_ok() {}
    }
    let publish = |event: &str, number: u64| {
        let text = json!({"event": event, "data": number}).to_string();
        redis.cli(&["PUBLISH", "wsguard:chat:room:lobby", &text]).map(drop)
    };
    settled(&mut clients.iter_mut().collect::<Vec<_>>(), publish).map(drop)
}
