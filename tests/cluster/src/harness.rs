//! Whether the faults are faults: Redis, the network and fail-overs of the tests, without any node.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use wsguard_test_support::ensure;
use wsguard_test_support::outcome::Outcome;

use crate::ground::Ground;
use crate::groups::{Sharded, Watched};
use crate::redis::Redis;
use crate::resp::{Connection, Reply};
use crate::tap::{Manner, Tap};

const SHORT: Duration = Duration::from_millis(200);

/// Reads what comes within a short time.
fn comes(stream: &mut TcpStream) -> Vec<u8> {
    let _ = stream.set_read_timeout(Some(SHORT));
    let mut chunk = [0; 4096];
    let length = stream.read(&mut chunk).unwrap_or(0);
    chunk[..length].to_vec()
}

pub(crate) fn redis_and_tap(_: &Ground) -> Outcome<String> {
    let mut redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let pong = Reply::Text("PONG".into());
    ensure!(Connection::open(tap.port)?.ask(&["PING"])? == pong, "no answer through the tap");
    let mut heard = TcpStream::connect(("127.0.0.1", tap.port))?;
    heard.write_all(b"SUBSCRIBE here\r\n")?;
    ensure!(!comes(&mut heard).is_empty(), "no answer to SUBSCRIBE");
    redis.cli(&["PUBLISH", "here", "a"])?;
    ensure!(comes(&mut heard).ends_with(b"a\r\n"), "a message is not heard");
    tap.set(Manner::Hold);
    redis.cli(&["PUBLISH", "here", "b"])?;
    ensure!(comes(&mut heard).is_empty(), "what is held back comes");
    tap.set(Manner::Delay(SHORT * 2));
    ensure!(
        comes(&mut heard).ends_with(b"b\r\n") || comes(&mut heard).ends_with(b"b\r\n"),
        "what was held back is lost"
    );
    let began = Instant::now();
    ensure!(Connection::open(tap.port)?.ask(&["PING"])? == pong, "no answer through a slow tap");
    ensure!(began.elapsed() >= SHORT * 4, "an answer came after {:?}", began.elapsed());
    tap.set(Manner::Pass);
    tap.deafen();
    redis.cli(&["PUBLISH", "here", "c"])?;
    ensure!(comes(&mut heard).is_empty(), "a message is heard by the deaf");
    heard.write_all(b"PING\r\n")?;
    ensure!(comes(&mut heard).windows(4).any(|four| four == b"pong"), "the deaf get no answer");
    tap.set(Manner::Cut);
    ensure!(matches!(heard.read(&mut [0; 1]), Ok(0) | Err(_)), "what is cut lives on");
    ensure!(Connection::open(tap.port).and_then(|mut cut| cut.ask(&["PING"])).is_err(), "what is cut answers");
    ensure!(tap.accepted() >= 4 && tap.asked() > 40, "{} connections, {} bytes", tap.accepted(), tap.asked());

    redis.ask(&["SET", "key", "value"])?;
    redis.pause()?;
    let mut paused = TcpStream::connect(("127.0.0.1", redis.port))?;
    paused.write_all(b"PING\r\n")?;
    ensure!(comes(&mut paused).is_empty(), "a paused Redis answers");
    redis.go_on()?;
    ensure!(comes(&mut paused) == b"+PONG\r\n", "Redis does not go on");
    ensure!(redis.contents()? == [("key".to_owned(), vec!["value".to_owned()])], "{:?}", redis.contents()?);
    redis.kill();
    ensure!(redis.ask(&["PING"]).is_err(), "a killed Redis answers");
    redis.run()?;
    ensure!(redis.contents()?.is_empty(), "a Redis that starts again is not empty");
    Ok("hold, delay, deafen, cut, pause, kill".into())
}

pub(crate) fn groups(_: &Ground) -> Outcome<String> {
    let mut watched = Watched::start()?;
    watched.ask(&["SET", "key", "value"])?;
    watched.ask(&["WAIT", "1", "5000"])?;
    let elected = watched.fail_over()?;
    ensure!(watched.ask(&["GET", "key"])?.text() == "value", "the new master has nothing");
    let mut sharded = Sharded::start()?;
    let promoted = sharded.kill_master_of("key")?;
    Ok(format!("a new master after {} ms, a new shard after {} ms", elected.as_millis(), promoted.as_millis()))
}
