//! What a node says at its start about a Redis that it cannot use.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wsguard_test_support::certs::Certs;
use wsguard_test_support::client::PATIENCE;
use wsguard_test_support::ensure;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;

use crate::ground::{Ground, client, down, hears_nothing, is_up, member, policy, room_settled, up};
use crate::redis::{Redis, free_port};

const SECRET: &str = "s3cret-of-the-test";

/// Starts a node that must refuse its options; all that it said.
fn refused(ground: &Ground, number: usize, url: &str) -> Outcome<(Value, String)> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(ground.run(number));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let first = json!({"options": policy(url).options()});
    let (mut host, answer) = Host::start(command, &first, |line| serde_json::from_str(line).ok())?;
    ensure!(answer["type"] == "error", "it started: {answer}");
    let code = host.exit_code(PATIENCE)?;
    ensure!(code == 2, "exit code {code}");
    Ok((answer, host.log_so_far().join("\n")))
}

fn says_nothing(secrets: &[&str], answer: &Value, log: &str) -> Outcome {
    for secret in secrets {
        ensure!(!answer.to_string().contains(secret) && !log.contains(secret), "a secret is told: {answer}; {log}");
    }
    Ok(())
}

/// A wrong password or user is an error at start that names the option; the right ones work; no secret is in any log.
pub(crate) fn wrong_password(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start_with(&format!("requirepass {SECRET}\n"), Some(SECRET))?;
    let urls = [
        format!("redis://:not-{SECRET}@127.0.0.1:{}", redis.port),
        format!("redis://nobody:{SECRET}@127.0.0.1:{}", redis.port),
        format!("redis://127.0.0.1:{}", redis.port),
    ];
    for number in 0..ground.hosts.len() {
        for url in &urls {
            let (answer, log) = refused(ground, number, url)?;
            let option = answer["option"].as_str().unwrap_or_default();
            ensure!(option.starts_with("cluster"), "the error names {option}: {answer}");
            says_nothing(&[SECRET], &answer, &log)?;
        }
    }
    let right = format!("redis://:{SECRET}@127.0.0.1:{}", redis.port);
    let mut nodes = ground.nodes(ground.hosts.len(), |_| policy(&right))?;
    let mut members = nodes.iter().map(|node| member(node, "alice", "lobby")).collect::<Outcome<Vec<_>>>()?;
    room_settled(&mut nodes[0], "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
    for node in &nodes {
        says_nothing(&[SECRET], &json!(node.events_so_far()), &node.log_so_far().join("\n"))?;
    }
    Ok("3 wrong URLs on each host, none told".into())
}

/// The user that docs/SCALING.md recommends can do all that a node needs, and nothing outside of `wsguard:`.
pub(crate) fn least_rights(ground: &Ground) -> Outcome<String> {
    let guide = include_str!("../../../docs/SCALING.md");
    let rule = guide.lines().find_map(|line| line.strip_prefix("user wsguard "));
    let Some(rule) = rule else { return Err("docs/SCALING.md has no ACL user wsguard".to_owned().into()) };
    let rule = rule.replace(">PASSWORD", &format!(">{SECRET}"));
    let redis = Redis::start_with(&format!("requirepass other\nuser wsguard {rule}\n"), Some("other"))?;
    let url = format!("redis://wsguard:{SECRET}@127.0.0.1:{}", redis.port);
    let mut nodes = ground.nodes(2, |_| policy(&url).option("max_connections_per_user", 3))?;
    let mut members = Vec::new();
    for node in &nodes {
        members.push(member(node, "alice", "lobby")?);
    }
    for node in &mut nodes {
        room_settled(node, "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
    }
    crate::ground::done(&mut nodes[0], &json!({"do": "ban", "user": "bob", "for_ms": 60_000}))?;
    crate::redis::until("bob is banned", crate::ground::BACK, || {
        Ok(crate::ground::knock(&nodes[1].target, "bob")?.0.status == 403)
    })?;
    crate::ground::done(&mut nodes[0], &json!({"do": "unban", "user": "bob"}))?;
    crate::ground::let_in(&nodes[1], "bob", crate::ground::BACK)?;
    crate::ground::done(&mut nodes[0], &json!({"do": "disconnect_user", "user": "alice"}))?;
    for member in &mut members {
        crate::ground::is_closed(member, 1008, "session revoked")?;
    }
    // Whatever was refused is in the log of the ACL.
    let refused = redis.ask(&["ACL", "LOG"])?.texts();
    ensure!(refused.is_empty(), "Redis refused what a node asked: {refused:?}");
    Ok("room, seats, bans and revocations with the rights of the guide".into())
}

/// One command of those of the guide is missing: the start fails, and says which.
pub(crate) fn few_rights(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let url = format!("redis://few:{SECRET}@127.0.0.1:{}", redis.port);
    let denied = ["hset", "xadd", "time"];
    for (number, command) in denied.iter().enumerate() {
        let (password, rule) = (format!(">{SECRET}"), format!("-{command}"));
        redis.ask(&["ACL", "SETUSER", "few", "reset", "on", &password, "~wsguard:*", "&wsguard:*", "+@all", &rule])?;
        let (answer, log) = refused(ground, number, &url)?;
        let names_it = answer["message"].as_str().is_some_and(|told| told.contains(&format!("denied: {command}")));
        ensure!(answer["option"] == "cluster.url" && names_it, "the error is {answer}");
        says_nothing(&[SECRET], &answer, &log)?;
    }
    Ok(format!("{} commands denied, each named", denied.len()))
}

/// Somebody else's value where nodes keep theirs: a node cannot join, and says why.
pub(crate) fn failures_told(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    redis.ask(&["SET", "wsguard:{default}:nodes", "somebody else's"])?;
    let mut node = policy(&crate::ground::url(&redis)).start(ground.run(0))?;
    let complaint = node.log.take(PATIENCE, |line| line.contains("`beat`"));
    let Some(complaint) = complaint else { return Err("nothing is said of what failed".to_owned().into()) };
    ensure!(complaint.contains("WRONGTYPE") && !is_up(&mut node)?, "it says {complaint}");
    redis.ask(&["DEL", "wsguard:{default}:nodes"])?;
    up(&mut node)?;
    Ok("told, and back once it is mended".into())
}

/// A server below 6.2.
pub(crate) fn old_version(ground: &Ground) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || old_server(&stream));
        }
    });
    let mut told = Value::Null;
    for number in 0..ground.hosts.len() {
        let (answer, _) = refused(ground, number, &format!("redis://127.0.0.1:{port}"))?;
        let option = answer["option"].as_str().unwrap_or_default();
        let names_both = answer["message"].as_str().is_some_and(|told| told.contains("6.2"));
        ensure!(option.starts_with("cluster") && names_both, "the error is {answer}");
        told = answer["message"].clone();
    }
    Ok(told.to_string())
}

/// As much of Redis 6.0 as tells who it is.
fn old_server(stream: &std::net::TcpStream) {
    let info = "# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n";
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let mut reader = BufReader::new(stream);
    while let Some(words) = command(&mut reader) {
        let answer = match words[0].to_ascii_uppercase().as_str() {
            "HELLO" if words.get(1).is_some_and(|version| version == "3") => {
                "%4\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+proto\r\n:3\r\n+role\r\n+master\r\n".to_owned()
            }
            "HELLO" => {
                "*8\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+proto\r\n:2\r\n+role\r\n+master\r\n".to_owned()
            }
            "INFO" => bulk(info),
            "PING" => "+PONG\r\n".to_owned(),
            "AUTH" | "SELECT" => "+OK\r\n".to_owned(),
            other => format!("-ERR unknown command `{other}`\r\n"),
        };
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let number = |kind: char, reader: &mut dyn BufRead| {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.trim().strip_prefix(kind)?.parse::<usize>().ok()
    };
    let words = number('*', reader)?;
    let mut command = Vec::new();
    for _ in 0..words {
        let mut bytes = vec![0; number('$', reader)? + 2];
        reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        command.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    (!command.is_empty()).then_some(command)
}

/// Nodes that start without Redis serve alone, and find one another once it is there.
pub(crate) fn redis_comes_later(ground: &Ground) -> Outcome<String> {
    let port = free_port()?;
    let url = format!("redis://127.0.0.1:{port}");
    let mut nodes = (0..2).map(|number| policy(&url).start(ground.run(number))).collect::<Outcome<Vec<_>>>()?;
    nodes.iter_mut().try_for_each(|node| down(node).map(drop))?;
    let mut members = nodes.iter().map(|node| member(node, "alice", "lobby")).collect::<Outcome<Vec<_>>>()?;
    members.iter_mut().try_for_each(hears_nothing)?;
    let _redis = Redis::start_at(port, "")?;
    nodes.iter_mut().try_for_each(up)?;
    let took = room_settled(&mut nodes[1], "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
    client(&nodes[0], "bob")?;
    Ok(format!("a message crosses {} ms after both have Redis", took.as_millis()))
}

/// `rediss://`: a certificate of an authority that `SSL_CERT_FILE` names; with any other the node goes on alone, and says why.
pub(crate) fn over_tls(ground: &Ground) -> Outcome<String> {
    let directory = tempfile::Builder::new().prefix("wsguard-certs").tempdir()?;
    let certs = Certs::create(directory.path())?;
    let port = free_port()?;
    let configuration = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\nrequirepass {SECRET}\n",
        certs.path("server.pem"),
        certs.path("server.key"),
        certs.path("ca.pem"),
    );
    let _redis = Redis::start_with(&configuration, Some(SECRET))?;
    let url = format!("rediss://:{SECRET}@127.0.0.1:{port}");
    let trusting = |_| policy(&url).environment("SSL_CERT_FILE", certs.path("ca.pem"));
    let mut nodes = ground.nodes(ground.hosts.len(), trusting)?;
    let mut members = nodes.iter().map(|node| member(node, "alice", "lobby")).collect::<Outcome<Vec<_>>>()?;
    for node in &mut nodes {
        room_settled(node, "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
    }
    let mut distrusting = policy(&url).start(ground.run(0))?;
    let complaint = distrusting.log.take(PATIENCE, |line| line.contains("certificate"));
    let Some(complaint) = complaint else { return Err("nothing is said of the certificate".to_owned().into()) };
    ensure!(!is_up(&mut distrusting)?, "a node took a certificate of an unknown authority");
    ensure!(!complaint.contains(SECRET), "the password is in the log");
    let mut alone = client(&distrusting, "bob")?;
    hears_nothing(&mut alone)?;
    Ok(format!("{} nodes over TLS; another authority is refused", nodes.len()))
}
