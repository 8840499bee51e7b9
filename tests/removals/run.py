#!/usr/bin/env python3
"""Removes one check from the core at a time, and demands that a named scenario fails.

A suite that passes proves nothing until it fails without the protection. Each removal is applied to a copy of the tree
(under target/removals), the Rust host is built from it, and the scenarios of the filter are run. Usage: run.py [NAME…];
`--check` only looks whether the list follows the sources, which takes no time.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "removals"
COPY = WORK / "tree"

# name, file under core/src or core/proto/src, what stands there, what stands there without the check, filter for the scenarios
REMOVALS = [
    ("origin", "handshake/decide.rs", "    check_origin(policy, request)?;\n", "", "H1"),
    ("host allow-list", "handshake/decide.rs", "if !policy.hosts.allows(&request.host) {", "if false {", "H8"),
    ("body on the upgrade", "handshake/request.rs", "if let Some(fault) = &self.body {",
     "if let Some(fault) = self.body.as_ref().filter(|_| false) {", "H14"),
    ("bare LF", "handshake/head.rs",
     '(_, b\'\\n\') => return Err(Refusal::malformed("bare LF in the request head")),',
     "(_, b'\\n') => return self.end_line(at + 1),", "H15"),
    ("digits of the key", "handshake/decide.rs", '|| !digits.iter().all(alphabet) {', "{", "H11"),
    ("duplicate Host", "handshake/request.rs", 'let host = only(headers, "Host")?',
     'let host = values(headers, "Host").next()', "H5"),
    ("token expiry", "auth/jwt.rs", "if now_unix_s >= ends {", "if false {", "A3"),
    ("level of the bucket", "rate.rs",
     "if let Some(over) = poured.overflow(rules, now) {", "if let Some(over) = None::<Overflow> {", "R4"),
    ("delayed bytes of a connection", "rate.rs", "if charge.held > rules.max_delayed_bytes {", "if false {", "R9"),
    ("control flood", "connection/mod.rs", "&& self.control.try_pour(rate, 1, turn.now).is_err()", "&& false", "R6"),
    ("fragment count", "codec/decoder.rs", "if message.fragments > limits.max_fragments {", "if false {", "R7"),
    ("fragments that add up", "codec/decoder.rs", "    message.claimed += payload_len;\n", "", "P3"),
    ("masking", "codec/frame.rs", "if second & 0x80 == 0 {", "if false {", "P6"),
    ("shortest length", "codec/frame.rs", "if length < 126 {", "if false {", "P5"),
    ("forbidden close codes", "codec/close.rs", "if !is_sendable(code) {", "if false {", "P8"),
    ("utf-8 of whole frames", "connection/messages.rs",
     "Err(_) => return self.fail(Violation::TextNotUtf8, turn),", 'Err(_) => Some(""),', "P7"),
    ("schema", "connection/messages.rs", "envelope.index.map(|index| contract.check(index, envelope.data))",
     "envelope.index.map(|_| Ok::<(), crate::contract::SchemaMismatch>(()))", "J5"),
    ("outbox bound", "driver/shard/turn.rs", "if session.unsent_bytes() > limit && session.conn.may_send() {", "if false {",
     "S1"),
    ("idle timeout", "connection/mod.rs", "if self.idle_at(turn.policy) <= now {", "if false {", "S2"),
    ("handshake deadline", "driver/opening.rs",
     "let decided = timeout_at(self.deadline, self.decide(judged, &mut stream, &mut received, &mut ticket)).await;",
     "let decided = timeout_at(self.deadline + Duration::from_secs(60), "
     "self.decide(judged, &mut stream, &mut received, &mut ticket)).await;", "H10"),
    ("requests that do not parse are counted", "driver/opening.rs", "        let end = self.count_late(end);\n", "", "H22"),
    ("proxies alone", "driver/opening.rs", "if self.is_stranger {", "if false {",
     "listen-public-for-proxies-alone"),
    ("order of a revocation", "driver/shard/carry.rs", " && is_older(session.granted, number)", "", "disconnect-user-spares"),
    ("revocation", "driver/shard/carry.rs", "is_older(session.granted, number)", "false", "A7"),
    ("session that has expired", "connection/mod.rs", "if self.expires_at <= turn.now && self.delivers() {", "if false {",
     "session-expires"),
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


def attempt(runner, environment, name, file, old, new, scenarios):
    """Whether the suite notices; a line that says how."""
    path = source(COPY, file)
    text = path.read_text()
    if text.count(old) != 1:
        return False, "the check was not found; mend this list"
    path.write_text(text.replace(old, new))
    try:
        built = run("cargo", "build", "--quiet", "--locked", "-p", "wsguard-host-rust", env=environment)
        if built.returncode != 0:
            return False, "does not build: " + built.stderr.strip().splitlines()[0]
        host = COPY / "tests" / "hosts" / "rust" / "wsguard-host"
        host.unlink(missing_ok=True)
        shutil.copy2(pathlib.Path(environment["CARGO_TARGET_DIR"]) / "debug" / "wsguard-host", host)
        suite = run(str(runner), "--root", str(COPY / "tests"), "--host", "rust", "--transport", "plain",
                    "--filter", scenarios, env=environment)
        failed = re.findall(r"(\d+) passed, (\d+) failed", suite.stdout)
        first = next((line for line in suite.stdout.splitlines() if "FAIL" in line.upper()), "").strip()
        return suite.returncode == 1, f"{failed[-1][1] if failed else '?'} failed, first: {first[:110]}"
    finally:
        path.write_text(text)


def check():
    """Whether each check of the list stands in the sources exactly once."""
    stale = [name for name, file, old, _, _ in REMOVALS if source(ROOT, file).read_text().count(old) != 1]
    for name in stale:
        print(f"MISSED  {name}: the check was not found; mend this list")
    print(f"{len(REMOVALS) - len(stale)} passed, {len(stale)} failed")
    return 1 if stale else 0


def main():
    wanted = sys.argv[1:]
    if wanted == ["--check"]:
        return check()
    copy_tree()
    environment = {**os.environ, "CARGO_TARGET_DIR": str(WORK / "target")}
    subprocess.run(["cargo", "build", "--quiet", "--locked", "-p", "wsguard-runner"], cwd=COPY, env=environment,
                   check=True)
    runner = WORK / "target" / "debug" / "wsguard-runner"
    noticed = missed = 0
    for name, file, old, new, scenarios in REMOVALS:
        if wanted and name not in wanted:
            continue
        found, how = attempt(runner, environment, name, file, old, new, scenarios)
        noticed, missed = noticed + found, missed + (not found)
        print(f"{'noticed' if found else 'MISSED '} {name} ({scenarios}): {how}", flush=True)
    print(f"{noticed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
