//! How long a connection lives behind a proxy: its timeout against our ping, and the end of the host.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::frame;
use wsguard_test_support::honest::TOKEN;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Signal;
use wsguard_test_support::suite::Ground;
use wsguard_test_support::wire::{Dial, Target};

use crate::front::{Front, MINUTE, Proxy, policy};
use crate::proxies::{Apache, Caddy, Haproxy, Varnish};

/// A thirtieth of the 60 s that nginx has by itself; the ping's 20 s become 667 ms.
const SILENCE: Duration = Duration::from_secs(2);

fn honest() -> Opening {
    Opening::with_token(TOKEN)
}

/// An idle connection outlives the proxy's timeout thrice because of our pings. Without them the proxy cuts it off, which
/// shows that the test can fail.
pub(crate) fn ping<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let note = Idling::begin::<P>(ground)?.finish()?;
    Ok(format!("idle for {} s: {note}", 3 * SILENCE.as_secs()))
}

/// The same with every proxy but nginx, at the same time.
pub(crate) fn pings(ground: &Ground) -> Outcome<String> {
    let idling = [
        ("haproxy", Idling::begin::<Haproxy>(ground)?),
        ("apache", Idling::begin::<Apache>(ground)?),
        ("caddy", Idling::begin::<Caddy>(ground)?),
        ("varnish", Idling::begin::<Varnish>(ground)?),
    ];
    let mut notes = Vec::new();
    for (name, idling) in idling {
        let note = idling.finish().map_err(|failure| failure.during(name))?;
        notes.push(format!("{name} {note}"));
    }
    Ok(notes.join("; "))
}

/// Clients that are idle behind one kind of proxy; hosts and proxies end with it.
struct Idling {
    _hosts: [Host; 2],
    _proxies: [Front; 2],
    /// Behind a host that pings: how many pings came.
    pinged: Vec<JoinHandle<Outcome<u32>>>,
    /// Behind a host that does not: how long the proxy let it live.
    silent: Option<JoinHandle<Outcome<Duration>>>,
}

impl Idling {
    fn begin<P: Proxy>(ground: &Ground) -> Outcome<Self> {
        let pinging = policy().option("ping_interval_ms", 667).start(&ground.run)?;
        let silent = policy().option("ping_interval_ms", 0).option("idle_timeout_ms", 0).start(&ground.run)?;
        let before_pinging = P::start(ground, &pinging, SILENCE)?;
        let before_silent = P::start(ground, &silent, SILENCE)?;
        let target = before_silent.plain.clone();
        let cut = P::CUTS_SILENCE.then(|| std::thread::spawn(move || cut_off(&target)));
        let idle = before_pinging.targets().cloned().map(|target| std::thread::spawn(move || idle(&target)));
        let pinged = idle.collect();
        Ok(Self { _hosts: [pinging, silent], _proxies: [before_pinging, before_silent], pinged, silent: cut })
    }

    fn finish(self) -> Outcome<String> {
        let panicked = |_| Failure("a client panicked".into());
        let mut notes = Vec::new();
        for client in self.pinged {
            notes.push(format!("{} pings", client.join().map_err(panicked)??));
        }
        if let Some(client) = self.silent {
            let lived = client.join().map_err(panicked)??;
            notes.push(format!("without pings cut off after {} ms", lived.as_millis()));
        }
        Ok(notes.join(", "))
    }
}

/// Sends nothing but pongs for three read timeouts; an echo comes back then. How many pings came.
fn idle(target: &Target) -> Outcome<u32> {
    let mut client = Client::open(target, Dial::default(), &honest())?;
    let began = Instant::now();
    let mut pings = 0;
    while began.elapsed() < 3 * SILENCE {
        let frame = client.frame(PATIENCE)?;
        ensure!(frame.opcode == frame::PING, "an idle client got {:?}", frame.close_code());
        client.send(&frame::encode(frame::PONG, &frame.payload))?;
        pings += 1;
    }
    client.emit("echo", &Value::Null)?;
    client.event(PATIENCE)?;
    client.leave()?;
    Ok(pings)
}

/// How long the proxy lets a silent connection live.
fn cut_off(target: &Target) -> Outcome<Duration> {
    let mut client = Client::open(target, Dial::default(), &honest())?;
    let began = Instant::now();
    client.gone(PATIENCE)?;
    let lived = began.elapsed();
    ensure!(lived > SILENCE.mul_f64(0.95), "cut off after {} ms", lived.as_millis());
    Ok(lived)
}

/// SIGTERM at the host: clients behind the proxy see 1012, newcomers a gateway's error, and a new host is found again.
pub(crate) fn drain<P: Proxy>(ground: &Ground) -> Outcome<String> {
    let mut host = policy().start(&ground.run)?;
    let address = host.target.address.clone();
    let proxy = P::start(ground, &host, MINUTE)?;
    let mut clients = Vec::new();
    for number in 0..20 {
        let target = if number % 2 == 0 { &proxy.plain } else { proxy.last() };
        clients.push(Client::open(target, Dial::default(), &honest())?);
    }
    host.group.signal(Signal::SIGTERM)?;
    for client in &mut clients {
        let (code, _) = client.closed(PATIENCE)?;
        ensure!(code == 1012, "closed with {code}");
    }
    drop(clients);
    let code = host.exit_code(PATIENCE)?;
    ensure!(code == 0, "exit code {code}");
    let mut newcomer = Client::over(proxy.plain.connect(Dial::default())?);
    let status = newcomer.upgrade(&honest()).ok().map(|answer| answer.status);
    ensure!(status == P::WITHOUT_A_HOST, "a newcomer was answered {status:?} without a host");
    let fresh = policy().option("listen", address).start(&ground.run)?;
    let mut client = found_again(&proxy.plain)?;
    client.emit("echo", &Value::Null)?;
    client.event(PATIENCE)?;
    client.leave()?;
    drop(fresh);
    let meanwhile = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    Ok(format!("20 told 1012, exit 0, {meanwhile} meanwhile, 101 from the next host"))
}

/// Behind the proxy once a new host listens. Varnish waits a quarter of a second after a refused connection.
fn found_again(target: &Target) -> Outcome<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::open(target, Dial::default(), &honest()) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened,
        }
    }
}
