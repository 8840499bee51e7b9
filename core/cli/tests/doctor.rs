//! `wsguard doctor`: what it writes, and that the real proxies pass a front end's messages with it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, golden, run, run_with};
use serde_json::{Value, json};
use wsguard_test_support::certs::Certs;
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::debian;
use wsguard_test_support::wire::{Dial, Target};

const PROXIES: [&str; 4] = ["nginx", "haproxy", "caddy", "apache"];

#[test]
fn configurations_are_those_of_the_policy() {
    for proxy in PROXIES {
        let good = run_with(&["doctor", "-", "--for", proxy], include_bytes!("golden/good.json"));
        assert_eq!((good.code, good.err.as_str()), (Some(0), ""), "{good:?}");
        golden(&format!("doctor-good-{proxy}.txt"), &good.out);
        let weak = [
            "doctor",
            "-",
            "--for",
            proxy,
            "--plain",
            "--bind",
            "127.0.0.1:8000",
            "--set",
            "trusted_proxies=[\"192.0.2.1\"]",
        ];
        let weak = run_with(&weak, include_bytes!("golden/weak.json"));
        assert_eq!((weak.code, weak.err.as_str()), (Some(1), ""), "{weak:?}");
        assert!(weak.out.contains(r#"MUST SAY: "trusted_proxies": ["127.0.0.1"]"#), "{}", weak.out);
        golden(&format!("doctor-weak-{proxy}.txt"), &weak.out);
    }
}

/// nginx drops headers with such letters.
#[test]
fn nginx_lets_the_headers_of_credentials_pass() {
    let told = |source: &str| {
        let policy = json!({"origins": ["https://app.example"], "hosts": ["app.example"], "trusted_proxies": ["127.0.0.1"],
            "auth": {"tokens": [{"token": "0123456789abcdefQQ", "user": "a"}]}, "token_sources": [source], "events": {}});
        let ran = run_with(&["doctor", "-", "--for", "nginx", "--plain"], policy.to_string().as_bytes());
        (ran.out.contains("underscores_in_headers on;"), ran.out.contains("ignore_invalid_headers off;"))
    };
    assert_eq!(told("header:x-auth-token"), (false, false));
    assert_eq!(told("header:x_auth_token"), (true, false));
    assert_eq!(told("header:api.key"), (false, true));
}

#[test]
fn what_cannot_be_written_is_said() {
    let good = include_bytes!("golden/good.json");
    for (arguments, words) in [
        (&["--for", "caddy", "--set", "proxy_protocol=true"][..], "proxy_protocol: Caddy does not send it"),
        (&["--for", "apache", "--set", "proxy_protocol=true"], "proxy_protocol: Apache does not send it"),
        (
            &["--for", "apache", "--set", "listen=\"unix:/run/w.sock\"", "--set", "trusted_proxies=[\"unix\"]"],
            "listen: Apache passes no upgrade",
        ),
        (&["--set", "listen=\"127.0.0.1:0\""], "--upstream HOST:PORT"),
        (&["--bind", "443; include /etc/passwd"], "--bind: expected PORT"),
        (&["--bind", "70000"], "--bind: expected PORT"),
        (&["--certificate", "a b"], "cannot be written into a configuration"),
        (&["--for", "varnish"], "possible values: nginx, haproxy, caddy, apache"),
    ] {
        let ran = run_with(&[&["doctor", "-"], arguments].concat(), good);
        assert!(ran.code == Some(2) && ran.err.contains(words) && ran.out.is_empty(), "{words}: {ran:?}");
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // With what it has started: it leads a group of its own.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `wsguard serve` behind a proxy that `wsguard doctor` has configured.
struct Behind {
    _server: Running,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    _proxy: Running,
    plain: Target,
    secure: Target,
    _scratch: Scratch,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Behind {
    fn start(proxy: &str, more: &Value) -> Self {
        let scratch = Scratch::new(&format!("doctor-{proxy}-{}", free_port()));
        let certs = Certs::create(&scratch.path("")).unwrap();
        let mut policy = json!({
            "listen": format!("127.0.0.1:{}", free_port()),
            "paths": ["/", "/room/{name}"],
            "origins": [ORIGIN],
            "auth": {"tokens": [{"token": "9f86d081884c7d659a2feaa0c55ad015", "user": "alice"}]},
            "trusted_proxies": ["127.0.0.1", "unix"],
            "events": {"say": {}},
        });
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if policy["tls"] == true {
            policy["tls"] = json!({"cert": certs.path("server.pem"), "key": certs.path("server.key")});
        }
        let policy = scratch.file("policy.json", policy.to_string());
        let mut server =
            common::wsguard(&["serve", &policy, "--json"]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let server = Running(server);
        assert!(lines.next().unwrap().unwrap().contains("listens"));
        let (plain, secure) = (free_port(), free_port());
        let proxy = start_proxy(proxy, &policy, plain, secure, &scratch, &certs);
        let secure = Target { address: format!("127.0.0.1:{secure}"), tls: Some(certs.client.clone()) };
        Self {
            _server: server,
            lines,
            _proxy: proxy,
            plain: Target::plain(format!("127.0.0.1:{plain}")),
            secure,
            _scratch: scratch,
        }
    }

    fn line(&mut self, kind: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if line["type"] == kind {
                return line;
            }
        }
    }
}

/// Starts the proxy with what the doctor writes for a plain port and for one with TLS.
fn start_proxy(proxy: &str, policy: &str, plain: u16, secure: u16, scratch: &Scratch, certs: &Certs) -> Running {
    let (certificate, key) = (certs.path("server.pem"), certs.path("server.key"));
    let bundle = scratch.file("bundle.pem", [fs::read(&certificate).unwrap(), fs::read(&key).unwrap()].concat());
    let certificate = if proxy == "haproxy" { bundle } else { certificate };
    let written = |arguments: &[&str]| {
        let ran = run(&[&["doctor", policy, "--for", proxy], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    };
    let bind = |port: u16| format!("127.0.0.1:{port}");
    let texts = [
        written(&["--plain", "--bind", &bind(plain)]),
        written(&["--bind", &bind(secure), "--certificate", &certificate, "--key", &key]),
    ];
    let place = scratch.path("proxy");
    fs::create_dir_all(&place).unwrap();
    let (program, arguments, configuration) = wrapped(proxy, &place, &texts);
    let file = place.join("configuration");
    fs::write(&file, configuration).unwrap();
    let arguments = arguments.iter().map(|argument| {
        argument.replace("DIRECTORY", &place.display().to_string()).replace("FILE", &file.display().to_string())
    });
    let log = fs::File::create(place.join("log")).unwrap();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&place)
        .env("HOME", &place)
        .env("XDG_CONFIG_HOME", &place)
        .env("XDG_DATA_HOME", &place);
    let child =
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap();
    let mut running = Running(child);
    let deadline = Instant::now() + PATIENCE;
    while [plain, secure].iter().any(|port| std::net::TcpStream::connect(bind(*port)).is_err()) {
        let log = || {
            format!(
                "{} {}",
                fs::read_to_string(place.join("log")).unwrap_or_default(),
                fs::read_to_string(place.join("error.log")).unwrap_or_default()
            )
        };
        assert!(
            Instant::now() < deadline && running.0.try_wait().unwrap().is_none(),
            "{proxy}: {}\n{}",
            log(),
            fs::read_to_string(&file).unwrap()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

/// The program, its arguments, and the configuration with what stands around it on a machine of somebody's.
fn wrapped(proxy: &str, place: &Path, texts: &[String; 2]) -> (&'static Path, &'static [&'static str], String) {
    let (plain, secure) = (&texts[0], &texts[1]);
    let place = place.display();
    match proxy {
        "nginx" => {
            let user = if debian::is_root() { "user root;" } else { "" };
            // Names of `map` and `upstream` are one for all of nginx: the second text has its own.
            let second = secure
                .replace("upstream wsguard_", "upstream wsguard_secure_")
                .replace("://wsguard_", "://wsguard_secure_");
            let (around, plain) = if plain.contains("stream {") {
                let module =
                    debian::provide(&["/usr/lib/nginx/modules/ngx_stream_module.so"], "libnginx-mod-stream").unwrap();
                let second = second.replace("stream {", "").rsplit_once('}').unwrap().0.to_owned();
                (
                    format!("load_module {};\n", module.display()),
                    format!("{}{second}}}", plain.trim_end().strip_suffix('}').unwrap()),
                )
            } else {
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .iter()
                    .map(|name| format!("{name}_temp_path {place}/{name};\n"))
                    .collect();
                (String::new(), format!("http {{\naccess_log off;\n{temporary}{plain}{second}}}"))
            };
            let text = format!(
                "{around}daemon off;\n{user}\nworker_processes 1;\npid {place}/nginx.pid;\nerror_log {place}/error.log notice;\nevents {{ worker_connections 256; }}\n{plain}\n"
            );
            (
                debian::provide(&["/usr/sbin/nginx"], "nginx").unwrap(),
                &["-p", "DIRECTORY", "-c", "FILE", "-e", "DIRECTORY/error.log"],
                text,
            )
        }
        "haproxy" => {
            // One frontend with both ports.
            let bind = secure.lines().find(|line| line.trim().starts_with("bind ")).unwrap();
            let text = plain.replacen("frontend clients\n", &format!("frontend clients\n{bind}\n"), 1);
            (debian::provide(&["/usr/sbin/haproxy"], "haproxy").unwrap(), &["-db", "-f", "FILE"], text)
        }
        "caddy" => {
            let text = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{plain}{secure}");
            (
                debian::provide(&["/usr/bin/caddy", "/usr/local/bin/caddy"], "caddy").unwrap(),
                &["run", "--adapter", "caddyfile", "--config", "FILE"],
                text,
            )
        }
        _ => {
            let user = if debian::is_root() { "User www-data\nGroup www-data\n" } else { "" };
            let modules: String = ["mpm_event", "authz_core", "headers", "proxy", "proxy_http", "ssl"]
                .iter()
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .collect();
            let listen: String = [plain, secure]
                .iter()
                .map(|text| text.split("<VirtualHost ").nth(1).unwrap().split('>').next().unwrap())
                .map(|address| format!("Listen {address}\n"))
                .collect();
            let text = format!(
                "ServerRoot {place}\nDefaultRuntimeDir {place}\nPidFile {place}/apache.pid\nErrorLog {place}/error.log\nServerName localhost\n{user}{modules}StartServers 1\n{listen}{plain}{secure}"
            );
            (debian::provide(&["/usr/sbin/apache2"], "apache2-bin").unwrap(), &["-DFOREGROUND", "-f", "FILE"], text)
        }
    }
}

fn opening(path: &str) -> Opening {
    Opening { target: path.into(), ..Opening::with_token("9f86d081884c7d659a2feaa0c55ad015") }
}

/// A front end's way through the proxy, in plain text and by TLS: messages, the origin, the path, the address, a large head.
fn passes(proxy: &str, more: &Value, client: &str) {
    let mut behind = Behind::start(proxy, more);
    for target in [behind.plain.clone(), behind.secure.clone()] {
        let spoofed = opening("/room/7").header("X-Forwarded-For", "6.6.6.6").header("Forwarded", "for=6.6.6.6");
        let large = spoofed.header("X-Large", &"x".repeat(7000));
        let mut one = Client::open(&target, Dial::default(), &large).unwrap_or_else(|error| panic!("{proxy}: {error}"));
        let open = behind.line("open");
        assert_eq!(
            (&open["ip"], &open["origin"], &open["path"]),
            (&json!(client), &json!(ORIGIN), &json!("/room/7")),
            "{proxy}: {open}"
        );
        one.emit("say", &json!("x".repeat(40_000))).unwrap();
        assert_eq!(one.event(PATIENCE).unwrap()["data"], "x".repeat(40_000), "{proxy}");
        one.emit("unknown", &json!(1)).unwrap();
        assert_eq!(behind.line("close")["code"], 1008, "{proxy}");
        let refused =
            |opening: &Opening| Client::over(target.connect(Dial::default()).unwrap()).upgrade(opening).unwrap().status;
        let evil = Opening {
            target: "/".into(),
            ..Opening::bare()
                .header("Origin", "https://evil.example")
                .header("X-Auth-Token", "9f86d081884c7d659a2feaa0c55ad015")
        };
        assert_eq!(refused(&evil), 403, "{proxy}");
        assert_eq!(refused(&opening("/nowhere")), 404, "{proxy}");
        assert_eq!(refused(&opening("/room/7/more")), 404, "{proxy}");
    }
}

macro_rules! with_real_proxies {
    ($($name:ident: $proxy:literal $more:expr;)+) => { $(
        #[test]
        #[ignore = "runs the real proxy: make proxy"]
        fn $name() {
            passes($proxy, &$more, "127.0.0.1");
        }
    )+ };
}

with_real_proxies! {
    nginx_passes: "nginx" json!({});
    haproxy_passes: "haproxy" json!({});
    caddy_passes: "caddy" json!({});
    apache_passes: "apache" json!({});
    nginx_passes_with_the_proxy_protocol: "nginx" json!({"proxy_protocol": true});
    haproxy_passes_with_the_proxy_protocol: "haproxy" json!({"proxy_protocol": true});
    nginx_passes_to_tls: "nginx" json!({"tls": true});
    haproxy_passes_to_tls: "haproxy" json!({"tls": true});
    caddy_passes_to_tls: "caddy" json!({"tls": true});
    apache_passes_to_tls: "apache" json!({"tls": true});
}

/// The policy of `Behind`, on a port that is free.
fn policy_file(scratch: &Scratch, port: u16, trusted: &Value) -> String {
    let policy = json!({
        "listen": format!("127.0.0.1:{port}"),
        "paths": ["/", "/room/{name}"],
        "origins": [ORIGIN],
        "auth": {"tokens": [{"token": "9f86d081884c7d659a2feaa0c55ad015", "user": "alice"}]},
        "trusted_proxies": trusted,
        "events": {"say": {}},
    });
    scratch.file("policy.json", policy.to_string())
}

/// A place for files, a port that is free, and a policy for it.
fn free_ground(name: &str, trusted: &Value) -> (Scratch, u16, String) {
    let (scratch, port) = (Scratch::new(name), free_port());
    let policy = policy_file(&scratch, port, trusted);
    (scratch, port, policy)
}

/// What the doctor says of the way, as `mark about words`.
fn way(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let ran = run(&[&["doctor"], arguments].concat());
    assert!(ran.code != Some(2), "{ran:?}");
    let lines = ran.out.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (ran.code, lines.collect())
}

#[track_caller]
fn says(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}: {lines:#?}");
}

const ABOUT: [&str; 10] =
    ["upgrade", "path", "host", "origin", "credential", "address", "subprotocol", "compression", "messages", "ping"];

#[test]
fn without_a_proxy_the_way_is_good() {
    let (_scratch, port, policy) = free_ground("direct", &json!([]));
    let (code, lines) = way(&[&policy, "--url", &format!("ws://127.0.0.1:{port}/room/7?x=y"), "--silence", "1"]);
    for about in ABOUT.iter().chain(&["close"]) {
        says(&lines, &format!("good {about} "));
    }
    says(&lines, "note silence a silent connection lives for 1 s, which says little");
    assert_eq!((code, lines.len()), (Some(0), 12), "{lines:#?}");
}

/// A policy that asks clients for certificates asks the doctor for one, too.
#[test]
fn a_certificate_is_shown_where_one_is_asked_for() {
    let (scratch, port, policy) = free_ground("client-certificate", &json!([]));
    let certs = Certs::create(&scratch.path("")).unwrap();
    let url = format!("wss://localhost:{port}/");
    let tls =
        json!({"cert": certs.path("server.pem"), "key": certs.path("server.key"), "client_ca": certs.path("ca.pem")});
    let (tls, ca) = (format!("tls={tls}"), certs.path("ca.pem"));
    let arguments = [policy.as_str(), "--set", &tls, "--url", &url, "--ca", &ca];
    let none = run(&[&["doctor"], &arguments[..]].concat());
    assert!(none.code == Some(2) && none.err.contains("asks for a certificate of the client"), "{none:?}");
    let (certificate, key) = (certs.path("client.pem"), certs.path("client.key"));
    let alone = run(&[&["doctor"], &arguments[..], &["--client-certificate", &certificate]].concat());
    assert!(alone.code == Some(2) && alone.err.contains("--client-key"), "{alone:?}");
    let (code, lines) = way(&[&arguments[..], &["--client-certificate", &certificate, "--client-key", &key]].concat());
    says(&lines, "good upgrade passes");
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_machine_that_is_believed_is_no_fault_of_a_proxy() {
    let (_scratch, port, policy) = free_ground("believed", &json!(["127.0.0.1"]));
    let (code, lines) = way(&[&policy, "--url", &format!("ws://127.0.0.1:{port}/")]);
    says(&lines, "note address nothing is in between, and this machine (127.0.0.1) is one of trusted_proxies");
    assert_eq!(code, Some(0), "{lines:#?}");
}

/// The stand-in lets all in, so that it can tell: what the server would refuse of it has to be said.
#[test]
fn what_the_policy_would_refuse_is_said() {
    let (_scratch, port, policy) = free_ground("refuse", &json!([]));
    let url = |path: &str| format!("ws://127.0.0.1:{port}{path}");
    let (code, lines) = way(&[&policy, "--url", &url("/nowhere?x=y")]);
    says(&lines, "mend path /nowhere is none of the policy's paths and routes: the server would answer 404");
    assert_eq!(code, Some(1));
    let (code, lines) = way(&[&policy, "--url", &url("/"), "--set", "hosts=[\"app.example\"]"]);
    says(&lines, &format!("mend host 127.0.0.1:{port} is none of the policy's hosts: the server would answer 421"));
    assert_eq!(code, Some(1));
    // The origin is one of the route's own, or one that a wildcard stands for.
    let routes = "routes={\"/r\": {\"origins\": [\"https://*.r.example\"]}}";
    let (code, lines) = way(&[&policy, "--url", &url("/r"), "--set", routes]);
    says(&lines, "good origin passes as it was sent: https://www.r.example");
    assert!(code == Some(0) && !lines.iter().any(|line| line.starts_with("note origin")), "{lines:#?}");
}

/// A doctor that stands in for the server and waits through a silence of so many seconds, and where it listens.
fn standing_in(scratch: &Scratch, silence: &str) -> (Child, Target) {
    let port = free_port();
    let policy = policy_file(scratch, port, &json!([]));
    let url = format!("ws://127.0.0.1:{port}/");
    let mut doctor = common::wsguard(&["doctor", &policy, "--url", &url, "--silence", silence])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(doctor.stderr.as_mut().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().contains("stands in"));
    (doctor, Target::plain(format!("127.0.0.1:{port}")))
}

/// Clients of the real server come back meanwhile: by a proxy that is not believed they all have one address.
#[test]
fn a_crowd_does_not_keep_the_doctor_out() {
    let scratch = Scratch::new("crowd");
    let (mut doctor, target) = standing_in(&scratch, "4");
    let statuses: Vec<u16> = (0..80)
        .map(|_| Client::over(target.connect(Dial::default()).unwrap()).upgrade(&opening("/")).unwrap().status)
        .collect();
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(doctor.wait().unwrap().code(), Some(0));
}

#[test]
fn a_url_that_leads_elsewhere_is_not_connected_to() {
    let scratch = Scratch::new("elsewhere");
    let policy = policy_file(&scratch, free_port(), &json!([]));
    let ran = run(&["doctor", &policy, "--url", "ws://192.0.2.1/"]);
    assert!(
        ran.code == Some(2) && ran.err.contains("--i-am-responsible-for 192.0.2.1") && ran.out.is_empty(),
        "{ran:?}"
    );
    // Nobody is there, and nothing hangs.
    let ran = run(&["doctor", &policy, "--url", &format!("ws://127.0.0.1:{}/", free_port())]);
    assert!(ran.code == Some(2) && ran.err.contains("refused"), "{ran:?}");
}

#[test]
fn a_listener_that_is_taken_is_said() {
    let scratch = Scratch::new("taken");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let policy = policy_file(&scratch, port, &json!([]));
    let ran = run(&["doctor", &policy, "--url", &format!("ws://127.0.0.1:{port}/")]);
    assert!(ran.code == Some(2) && ran.err.contains("stop it meanwhile, or give --listen"), "{ran:?}");
}

/// Who does not know the number is not let in, though the stand-in asks nobody for a credential.
#[test]
fn the_stand_in_lets_in_nobody_else() {
    let scratch = Scratch::new("nobody");
    let (mut doctor, target) = standing_in(&scratch, "3");
    for path in ["/", "/?wsguard-doctor=", "/?wsguard-doctor=00000000000000000000000000000000"] {
        assert_eq!(
            Client::over(target.connect(Dial::default()).unwrap()).upgrade(&opening(path)).unwrap().status,
            401,
            "{path}"
        );
    }
    assert_eq!(doctor.wait().unwrap().code(), Some(0));
}

#[test]
#[ignore = "runs the real proxy: make proxy"]
fn the_way_through_each_proxy_is_good() {
    for proxy in PROXIES {
        let scratch = Scratch::new(&format!("way-{proxy}"));
        let certs = Certs::create(&scratch.path("")).unwrap();
        let policy = policy_file(&scratch, free_port(), &json!(["127.0.0.1"]));
        let (plain, secure) = (free_port(), free_port());
        let _running = start_proxy(proxy, &policy, plain, secure, &scratch, &certs);
        for url in [format!("ws://127.0.0.1:{plain}/"), format!("wss://localhost:{secure}/room/7")] {
            let (code, lines) = way(&[&policy, "--url", &url, "--ca", &certs.path("ca.pem")]);
            for about in ABOUT.iter().chain(&["close"]) {
                says(&lines, &format!("good {about} "));
            }
            assert_eq!(code, Some(0), "{proxy}: {lines:#?}");
        }
    }
}

#[test]
#[ignore = "runs the real proxy: make proxy"]
fn the_way_by_the_proxy_protocol_is_good() {
    for proxy in ["nginx", "haproxy"] {
        let scratch = Scratch::new(&format!("way-protocol-{proxy}"));
        let certs = Certs::create(&scratch.path("")).unwrap();
        let policy = policy_file(&scratch, free_port(), &json!(["127.0.0.1"]));
        let mut stated: Value = serde_json::from_slice(&fs::read(&policy).unwrap()).unwrap();
        stated["proxy_protocol"] = true.into();
        let policy = scratch.file("protocol.json", stated.to_string());
        let (plain, secure) = (free_port(), free_port());
        let _running = start_proxy(proxy, &policy, plain, secure, &scratch, &certs);
        let (code, lines) = way(&[&policy, "--url", &format!("ws://127.0.0.1:{plain}/")]);
        // No header of such a proxy's counts, so none has to be set or removed.
        says(&lines, "good address the server sees this client as 127.0.0.1");
        assert_eq!(code, Some(0), "{proxy}: {lines:#?}");
    }
}

#[test]
#[ignore = "runs the real proxy: make proxy"]
fn what_a_proxy_does_wrong_is_found() {
    let scratch = Scratch::new("wrong");
    let certs = Certs::create(&scratch.path("")).unwrap();
    let (server, plain) = (free_port(), free_port());
    let policy = policy_file(&scratch, server, &json!(["127.0.0.1"]));
    let place = scratch.path("proxy");
    fs::create_dir_all(&place).unwrap();
    let spoiled = |old: &str, new: &str| {
        let ran = run(&["doctor", &policy, "--plain", "--bind", &format!("127.0.0.1:{plain}")]);
        assert!(ran.out.contains(old), "{}", ran.out);
        let text = ran.out.replace(old, new);
        let (program, arguments, text) = wrapped("nginx", &place, &[text, String::new()]);
        let file = place.join("configuration");
        fs::write(&file, text).unwrap();
        let arguments = arguments.iter().map(|argument| {
            argument.replace("DIRECTORY", &place.display().to_string()).replace("FILE", &file.display().to_string())
        });
        let running =
            Running(Command::new(program).args(arguments).stderr(Stdio::null()).process_group(0).spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", plain)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (code, lines) = way(&[&policy, "--url", &format!("ws://127.0.0.1:{plain}/"), "--silence", "4"]);
        drop(running);
        assert_eq!(code, Some(1), "{old}: {lines:#?}");
        lines
    };
    says(&spoiled("Host $http_host", "Host internal"), "mend host was sent as 127.0.0.1:");
    says(
        &spoiled("proxy_buffering off;", "proxy_buffering off;\n    proxy_set_header Origin \"\";"),
        "mend origin was sent as",
    );
    says(
        &spoiled("X-Forwarded-For $remote_addr", "X-Forwarded-For $http_x_forwarded_for"),
        "mend address a client's own X-Forwarded-For is believed",
    );
    says(&spoiled("proxy_set_header Forwarded \"\";", ""), "mend address a client's own");
    // It appends, as many do: beside that, the client's own Forwarded is no matter of where the doctor runs.
    let appends = "X-Forwarded-For $proxy_add_x_forwarded_for;\n    #";
    says(
        &spoiled("X-Forwarded-For $remote_addr;\n    proxy_set_header Forwarded", appends),
        "mend address a client's own Forwarded passes",
    );
    says(
        &spoiled("proxy_buffering off;", "proxy_buffering off;\n    proxy_set_header Authorization \"\";"),
        "mend credential bearer does not come: the proxy has to keep",
    );
    says(
        &spoiled("proxy_buffering off;", "proxy_buffering off;\n    proxy_set_header X-Auth-Token hidden;"),
        "mend credential header:x-auth-token comes with another value: the proxy has to keep",
    );
    says(&spoiled("proxy_set_header Upgrade $http_upgrade;", ""), "mend upgrade was answered 426");
    says(
        &spoiled("proxy_read_timeout 60s;", "proxy_read_timeout 1s;"),
        "mend silence a silent connection is cut after 1 s",
    );
    says(
        &spoiled("proxy_buffering off;", "proxy_buffering off;\n    set $args \"\";"),
        "mend upgrade was answered 401 by nginx/",
    );
    says(&spoiled("proxy_buffering off;", "return 302 /elsewhere;"), "mend upgrade was answered 302 by nginx/");
    // Nobody is believed yet: what trust alone would do is said beside it.
    let believed = policy_file(&scratch, server, &json!([]));
    assert_eq!(believed, policy);
    says(
        &spoiled("proxy_set_header X-Forwarded-For $remote_addr;", "proxy_set_header X-Forwarded-For \"\";"),
        "mend address the server sees the proxy (127.0.0.1) as the client: \"trusted_proxies\": [\"127.0.0.1\"], and the proxy \
         has to set X-Forwarded-For, which it does not",
    );
    says(
        &spoiled("X-Forwarded-For $remote_addr", "X-Forwarded-For $http_x_forwarded_for"),
        "mend address the server sees the proxy (127.0.0.1) as the client: \"trusted_proxies\": [\"127.0.0.1\"], but first",
    );
    drop(certs);
}
