#!/usr/bin/env python3
"""Removes one check from the core at a time, and demands that a named scenario fails.

A suite that passes proves nothing until it fails without the protection. Each removal is applied to a copy of the tree
(under target/removals), the Rust host is built from it, and the scenarios of the filter are run; first on the tree as it
is, where all of them must pass. Usage: run.py [NAME…]; `--check` only looks whether the list follows the sources and the
scenarios, which takes no time.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "removals"
COPY = WORK / "tree"

# name, file under core/src or core/proto/src, what stands there, what stands there without the check, filter for the scenarios
REMOVALS = [
    ("origin", "handshake/decide.rs", "    or_report(policy, check_origin(policy, request), reported)?;\n", "", "H1"),
    ("nobody where a handshake is only reported", "handshake/decide.rs",
     "Outcome::Accepted(_) if !reported.is_empty() =>", "Outcome::Accepted(_) if false =>", "reported-handshake"),
    ("host allow-list", "handshake/decide.rs", "if policy.hosts.allows(&request.host) {", "if true {", "H8"),
    ("body on the upgrade", "handshake/request.rs", "if let Some(fault) = &self.body {",
     "if let Some(fault) = self.body.as_ref().filter(|_| false) {", "H14"),
    ("bare LF", "handshake/head.rs",
     '(_, b\'\\n\') => return Err(Refusal::malformed("bare LF in the request head")),',
     "(_, b'\\n') => return self.end_line(at + 1),", "H15"),
    ("digits of the key", "handshake/decide.rs", " && digits.iter().all(alphabet))", ")", "H11"),
    ("duplicate Host", "handshake/request.rs", 'let host = only(headers, "Host")?',
     'let host = values(headers, "Host").next()', "H5"),
    ("token expiry", "auth/jwt.rs", "if now_unix_s >= ends {", "if false {", "jwt-expired-is-told"),
    ("level of the bucket", "rate.rs",
     "if let Some(over) = poured.overflow(rules, now) {", "if let Some(over) = None::<Overflow> {", "R4"),
    ("delayed bytes of a connection", "rate.rs", "if charge.held > rules.max_delayed_bytes {", "if false {", "R9"),
    ("control flood", "connection/heartbeat.rs", "&& self.control.try_pour(rate, 1, turn.now).is_err()", "&& false", "R6"),
    ("fragment count", "codec/decoder.rs", "if message.fragments > limits.max_fragments {", "if false {", "R7"),
    ("fragments that add up", "codec/decoder.rs", "    message.claimed += payload_len;\n", "", "P3"),
    ("masking", "codec/frame.rs", "if second & 0x80 == 0 {", "if false {", "P6"),
    ("shortest length", "codec/frame.rs", "if length < 126 {", "if false {", "P5"),
    ("forbidden close codes", "codec/close.rs", "if !is_sendable(code) {", "if false {", "P8"),
    ("utf-8 of whole frames", "connection/messages.rs",
     "Err(_) => return self.fail(Violation::TextNotUtf8, turn),", 'Err(_) => Message::Text(""),', "P7"),
    ("schema", "connection/messages.rs", "envelope.index.map(|index| contract.check(index, envelope.data))",
     "envelope.index.map(|_| Ok::<(), crate::contract::SchemaMismatch>(()))", "J5"),
    ("outbox bound", "driver/shard/turn.rs", "if session.unsent_bytes() > limit && session.conn.may_send() {", "if false {",
     "S1"),
    ("idle timeout", "connection/mod.rs", "if self.idle_at(turn.policy) <= now {", "if false {", "S2"),
    ("handshake deadline", "driver/opening/request.rs",
     "timeout_at(self.deadline, self.read_head(", "timeout_at(self.deadline + Duration::from_secs(60), self.read_head(", "H10"),
    ("handshake deadline of a route", "driver/opening/request.rs",
     "if judged.is_ok() && Instant::now() >= self.deadline {", "if false {", "slow-for-its-route"),
    ("early bytes that were not seen", "driver/opening/mod.rs", "!opening.may_say_more && ", "", "H24"),
    ("requests that do not parse are counted", "driver/opening/mod.rs", ".map_err(|end| self.opening.count_late(end));", ";", "H22"),
    ("proxies alone", "driver/opening/request.rs", "if self.is_stranger {", "if false {",
     "listen-public-for-proxies-alone"),
    ("revocation", "driver/shard/execute.rs", "is_older(session.granted, number)", "false", "A7"),
    ("missing origin", "handshake/decide.rs", "None if policy.missing_origin == MissingOrigin::Allow => Ok(()),",
     "None => Ok(()),", "H6"),
    ("version of the handshake", "handshake/decide.rs", "Some(b\"13\") => Ok(()),", "Some(_) => Ok(()),", "H12"),
    ("method", "handshake/request.rs", 'if method != "GET" {', "if false {", "H13"),
    ("length of the head", "handshake/head.rs", "if end == max_head_bytes {", "if false {", "H9"),
    ("credential given twice", "auth/credential.rs", "if items.any(|item| Some(item) != first) {",
     "if items.any(|_| false) {", "H21"),
    ("signature of a token", "auth/jwt.rs",
     "Some(false) => return Err(JwtError::BadSignature),", "Some(false) => {}", "A2"),
    ("critical header of a token", "auth/jwt.rs", 'if header.contains_key("crit") {', "if false {", "A2"),
    ("member of a token given twice", "auth/jwt.rs", "Ok(Reading { twice: Some(_), .. }) => Err(JwtError::GivenTwice),\n",
     "Ok(Reading { value: Value::Object(object), twice: Some(_) }) => Ok(object),\n", "jwt-member-given-twice"),
    ("begin of a token", "auth/jwt.rs", "if starts > now_unix_s.saturating_add(self.leeway_s) {", "if false {", "A3"),
    ("issuer", "auth/jwt.rs", "            return Err(JwtError::WrongIssuer);\n", "", "A3"),
    ("audience", "auth/jwt.rs", "if !named {", "if false {", "A3"),
    ("byte bucket", "rate.rs", "Some(rate) if charge.bytes > 0 => {", "Some(rate) if charge.bytes == u64::MAX => {", "R2"),
    ("message timeout", "connection/mod.rs", "if self.message_at(turn.policy) <= now {", "if false {", "R8"),
    ("rate of handshakes", "limits.rs", "&& let Err(at) = addresses.pour_handshake(key, rate, now)",
     "&& let Err(at) = addresses.pour_handshake(key, rate, now)\n            && key != key", "R10"),
    ("payload too long", "codec/frame.rs", "            false if bytes > limit => Err(Violation::TooBig { bytes, limit }),\n", "", "P1"),
    ("control frame too long", "codec/frame.rs", "if opcode.is_control() && short > 125 {", "if false {", "P4"),
    ("end of the envelope", "contract/envelope.rs", "if !scan.is_at_end() {", "if false {", "J1"),
    ("depth", "contract/scan.rs", "if self.scratch.frames.len() + 2 > self.limits.max_depth {", "if false {", "J2"),
    ("number of keys", "contract/scan.rs", "if earlier.len() >= self.limits.max_keys {", "if false {", "J2"),
    ("length of a number", "contract/scan.rs", "if at - start > MAX_NUMBER_LEN {", "if false {", "J2"),
    ("duplicate key", "contract/scan.rs", "if earlier.iter().any(same) {", "if earlier.iter().any(same) && false {", "J3"),
    ("duplicate among many keys", "contract/scan.rs", "if self.scratch.keys.len() - frame.keys > DIRECT_KEYS {",
     "if false {", "J3"),
    ("lone surrogate", "contract/scan.rs", "Some(0xDC00..=0xDFFF) => return Err(Rule::LoneSurrogate),",
     "Some(0xDC00..=0xDFFF) => self.at += 6,", "J3"),
    ("integers beyond 2^53", "contract/scan.rs", "        if too_large {\n", "        if false {\n", "J3"),
    ("forbidden key", "contract/scan.rs", 'b"__proto__" | b"constructor" | b"prototype") {',
     'b"__proto__" | b"constructor" | b"prototype") && false {', "J4"),
    ("unknown event", "connection/messages.rs",
     'None => self.judge(&Report { code: Code::UnknownEvent, event, detail: "event is not in events" }, turn),',
     "None => true,", "J5"),
    ("session that has expired", "connection/mod.rs", "if self.ends_at(turn.policy) > turn.now || !self.delivers() {", "if true {",
     "session-expires"),
    ("path", "config/policy_set.rs", "if self.served.is_empty() {", "if self.served.find(path).is_none() {", "paths-refused"),
    ("roles of an event", "connection/messages.rs", "&& !contract.event(index).is_for(&self.roles)", "&& false",
     "event-for-other-roles"),
    ("denied addresses", "driver/opening/admission.rs", "_ if policy.deny_ips.denies(ip) =>", "_ if false =>", "denied-address"),
    ("upgrade", "handshake/decide.rs", 'if !request.lists("Upgrade", "websocket") {', "if false {", "H12"),
    ("authority of an absolute target", "handshake/request.rs", "if !authority.same_as(host, default_port) {", "if false {", "H17"),
    ("reserved bits", "codec/frame.rs", "if reserved != 0 && !(rsv1 && has_deflate && matches!(first & 0x0f, 1 | 2)) {",
     "if false {", "P6"),
    ("rsv1 without compression", "codec/frame.rs", "!(rsv1 && has_deflate && matches!", "!(rsv1 && matches!", "D2"),
    ("rsv1 on the first frame of a message only", "codec/frame.rs", "has_deflate && matches!(first & 0x0f, 1 | 2)", "has_deflate",
     "D2"),
    ("longer than any honest encoding", "codec/frame.rs",
     "            true if bytes > honest_bound(limit, frames) => Err(Violation::TooBigCompressed { bytes, limit }),\n", "", "D6"),
    ("inflated bytes", "deflate/inflater.rs", "if *len > limit {", "if false {", "D6"),
    ("blocks of a compressed message", "deflate/inflater.rs", "if blocks > FREE_BLOCKS", "if false && blocks > FREE_BLOCKS", "D6"),
    ("room of the rate for what is inflated", "connection/compressed.rs", "limit.min(self.rate_room(turn))", "limit.max(self.rate_room(turn).min(limit))",
     "compressed-no-further-than-the-rate"),
    ("end inside a block", "deflate/inflater.rs", "return Err(Broken::Corrupt(CompressionFault::Truncated)),", "return Ok(()),", "D3"),
    ("behind a final block", "deflate/inflater.rs", "return check_behind(input.rest()),", "return Ok(()),", "D3"),
    ("window that cannot be kept", "deflate/negotiate.rs", "(agreed.server_window_bits != TOO_SMALL).then_some", "true.then_some",
     "D1"),
    ("reserved opcodes", "codec/frame.rs", "reserved => return Err(FrameError::ReservedOpcode(reserved)),", "_ => Opcode::Text,",
     "P6"),
    ("message inside a message", "codec/frame.rs",
     "Opcode::Text | Opcode::Binary if in_message => return Err(FrameError::MessageInsideMessage(opcode as u8)),\n", "", "P6"),
    ("fragmented control frame", "codec/frame.rs",
     "control if control.is_control() && !fin => return Err(FrameError::FragmentedControl),\n", "", "P4"),
    ("shortest length of 64 bits", "codec/frame.rs", "if length <= 0xffff {", "if false {", "P5"),
    ("top bit of a length", "codec/frame.rs", "if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {", "if false {", "P2"),
    ("close payload of one byte", "codec/close.rs", "[_] => Err(FrameError::CloseTooShort.into()),",
     "[_] => Ok(CloseFrame::default()),", "P8"),
    ("utf-8 of a close reason", "codec/close.rs",
     "let reason = core::str::from_utf8(reason).map_err(|_| Violation::ReasonNotUtf8)?;",
     'let reason = core::str::from_utf8(reason).unwrap_or("");', "P7"),
    ("binary in json", "codec/decoder.rs", "if opcode == Opcode::Binary && limits.text_only {", "if false {", "J5"),
    ("type of a token", "auth/jwt.rs", "_ => Err(JwtError::WrongType),", "_ => Ok(()),", "jwt-of-another-type"),
    ("unknown key of a token", "auth/jwt.rs", "keys.get(kid).ok_or(JwtError::KidUnknown)?",
     "keys.get(kid).or_else(|| keys.values().next()).ok_or(JwtError::KidUnknown)?", "jwt-key-id"),
    ("PEM text as a secret", "auth/verifying_key.rs",
     "if secret.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN.as_bytes()) {", "if false {",
     "jwt-key-unusable"),
    ("length of a secret", "auth/verifying_key.rs", "if self.bytes.len() < needed {", "if false {", "jwt-key-unusable"),
    ("length of an RSA key", "auth/verifying_key.rs", "RSA_BITS.contains(&bits)", "bits > 0", "jwt-key-unusable"),
    ("static token", "auth/tokens.rs", "if verify_slices_are_equal(&known.digest, presented.as_ref()).is_ok() {",
     "if verify_slices_are_equal(&known.digest[..0], &presented.as_ref()[..0]).is_ok() {", "A1"),
    ("forwarded headers of strangers", "client_ip.rs", "if !trusted.trusts(peer) {\n        return itself(Some(Doubt::Untrusted));",
     "if false {\n        return itself(Some(Doubt::Untrusted));", "H22"),
    ("disagreement of forwarded headers", "client_ip.rs",
     "(Trail::Client(_), Trail::Client(_)) => itself(Some(Doubt::Disagreement)),",
     "(Trail::Client(one), Trail::Client(_)) => named(one),", "H22"),
    ("connections of an address", "limits.rs", "if entry.connections >= most.saturating_mul(factor) {", "if false {",
     "max-connections-per-ip"),
    ("connections of a user", "limits.rs", "if entry.connections >= most {", "if false {", "max-connections-per-user"),
    ("connections of the server", "limits.rs", "if places.connections >= policy.max_connections {", "if false {",
     "max-connections"),
    ("places in the queue", "rate.rs", "if self.waiting.load(Ordering::Acquire) >= rules.queue {", "if false {",
     "cheap-messages"),
    ("order of what waits", "rate.rs", ".max(bytes_at).max(charge.not_before)", ".max(bytes_at)",
     "what-costs-nothing"),
    ("cost of an invalid message", "connection/messages.rs",
     "key.charge_invalid(rules, turn.now),", "{ let _ = (key, rules); Ok(()) }",
     "invalid-messages-cost"),
    ("member unknown to the envelope", "contract/envelope.rs",
     "return scan.broken_at(key_at, Rule::UnknownKey);\n", "scan.value()?;\n        return Ok(());\n", "J1"),
]


def source(root, file):
    """A file of the driver, or of the pure layer."""
    pure = root / "core" / "proto" / "src" / file
    return pure if pure.is_file() else root / "core" / "src" / file


def run(*command, **options):
    return subprocess.run(command, cwd=COPY, text=True, capture_output=True, check=False, **options)


def copy_tree():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True, capture_output=True,
                           check=True).stdout.splitlines()
    shutil.rmtree(COPY, ignore_errors=True)
    for name in files:
        source, target = ROOT / name, COPY / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def scenarios_of(filter):
    """The names of the scenarios that a filter of the runner selects."""
    scenarios = [one for file in sorted((ROOT / "tests" / "scenarios").rglob("*.toml"))
                 for one in tomllib.loads(file.read_text()).get("scenario", [])]
    return [one["name"] for one in scenarios if filter in one["name"] or filter in one.get("threats", [])]


def check():
    """Whether each check of the list stands in the sources exactly once, and its filter names scenarios."""
    faults = []
    names = [name for name, *_ in REMOVALS]
    for name, file, old, new, filter in REMOVALS:
        path = source(ROOT, file)
        if names.count(name) > 1:
            faults.append(f"{name}: stands twice in the list")
        elif old == new or not path.is_file() or path.read_text().count(old) != 1:
            faults.append(f"{name}: the check was not found; mend this list")
        elif not scenarios_of(filter):
            faults.append(f"{name}: no scenario is called {filter} or about it")
    for fault in faults:
        print(f"MISSED  {fault}")
    print(f"{len(REMOVALS) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


def build_host(environment):
    """Builds the Rust host of the copy; an error in words."""
    built = run("cargo", "build", "--quiet", "--locked", "-p", "wsguard-host-rust", env=environment)
    if built.returncode != 0:
        return "does not build: " + next(iter(built.stderr.strip().splitlines()), "")
    host = COPY / "tests" / "hosts" / "rust" / "wsguard-host"
    host.unlink(missing_ok=True)
    shutil.copy2(pathlib.Path(environment["CARGO_TARGET_DIR"]) / "debug" / "wsguard-host", host)
    return None


def run_suite(runner, environment, filter):
    """Exit code of the scenarios, how many passed and failed, and the first that failed."""
    suite = run(str(runner), "--root", str(COPY / "tests"), "--host", "rust", "--transport", "plain",
                "--filter", filter, env=environment)
    passed, failed = (re.findall(r"(\d+) passed, (\d+) failed", suite.stdout) or [("?", "?")])[-1]
    first = next((line for line in suite.stdout.splitlines() if "FAIL" in line.upper()), "").strip()
    return suite.returncode, f"{passed} passed, {failed} failed", first[:110]


def attempt(runner, environment, file, old, new, filter):
    """Whether the suite notices; a line that says how."""
    path = source(COPY, file)
    text = path.read_text()
    if text.count(old) != 1:
        return False, "the check was not found; mend this list"
    path.write_text(text.replace(old, new))
    try:
        fault = build_host(environment)
        if fault:
            return False, fault
        code, counts, first = run_suite(runner, environment, filter)
        return code == 1, f"{counts}, first: {first}"
    finally:
        path.write_text(text)


def control(runner, environment, filters):
    """A suite that fails with all checks in place would notice anything: filters that do."""
    fault = build_host(environment)
    if fault:
        sys.exit(f"without any removal: {fault}")
    unsound = set()
    for filter in sorted(filters):
        code, counts, first = run_suite(runner, environment, filter)
        # Once more: a scenario about time may have met a busy machine.
        if code != 0 and run_suite(runner, environment, filter)[0] != 0:
            print(f"MISSED  {filter} fails without any removal: {counts}, first: {first}", flush=True)
            unsound.add(filter)
    return unsound


def main():
    wanted = sys.argv[1:]
    if wanted == ["--check"]:
        return check()
    removals = [removal for removal in REMOVALS if not wanted or removal[0] in wanted]
    if not removals:
        sys.exit("no removal has this name")
    copy_tree()
    environment = {**os.environ, "CARGO_TARGET_DIR": os.environ.get("REMOVALS_TARGET_DIR", str(WORK / "target"))}
    subprocess.run(["cargo", "build", "--quiet", "--locked", "-p", "wsguard-runner"], cwd=COPY, env=environment,
                   check=True)
    runner = pathlib.Path(environment["CARGO_TARGET_DIR"]) / "debug" / "wsguard-runner"
    unsound = control(runner, environment, {filter for *_, filter in removals})
    noticed = missed = 0
    for name, file, old, new, filter in removals:
        found, how = attempt(runner, environment, file, old, new, filter)
        found = found and filter not in unsound
        noticed, missed = noticed + found, missed + (not found)
        print(f"{'noticed' if found else 'MISSED '} {name} ({filter}): {how}", flush=True)
    print(f"{noticed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
