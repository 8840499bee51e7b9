#!/usr/bin/env python3
"""Runs the parts of `make test` one after another: says which part runs, how long it took, and ends with a summary.

A part that fails does not keep the others from running, but for the build of the hosts, without which nothing runs.
A part that is not done after LIMIT_MINUTES has failed: what of it still ran is named and killed. A part that is silent for
SILENT_SECONDS gets a line that says how long it has run, beside how long it took last time (target/test-times.json).
What a part that failed said of its failures stands once more below the summary, and all that it said in target/test-logs.
Usage: all.py [PART...]; exit 1 when a part failed.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

# Each is a target of the Makefile.
PARTS = {
    "unit": "Rust: unit, property and integration tests of every crate",
    "simulate": "many nodes of a cluster on fake time, and their scripts on a real Redis",
    "hosts": "the test host of each language, in release mode",
    "scenarios": "every attack and every promise, on each host, plain and over TLS",
    "faults": "hostile surroundings: signals, full disks, dead peers, a clock that jumps",
    "openmetrics": "the metrics of a server, as Prometheus' own parser reads them",
    "proxy": "behind real proxies: nginx, HAProxy, Apache, Caddy, Varnish",
    "cluster": "nodes of three languages on real Redis, Sentinel and Cluster, with faults",
    "browser": "a real Chromium and a real Firefox against each host",
    "demo-test": "the demo in a real Chromium",
    "abi": "C and C++: the header, threads, sanitizers, valgrind, installation",
    "python": "Python: types, lints, idiom, examples, the wheel in clean environments",
    "node": "Node: types, idiom, examples, the package in a clean folder",
    "moving": "applications of ws, Socket.IO and ASGI, on the original and on wsguard",
    "audit": "ws, websockets, uvicorn, Bun, Socket.IO and us, examined with wsguard audit",
    "client": "the client for browsers and Node: fake time, types, size, a real Chromium",
}


LIMIT_MINUTES = 25
SILENT_SECONDS = 30
ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
TIMES = TARGET / "test-times.json"
LOGS = TARGET / "test-logs"
# How cargo, pytest, node, our C programs, our runner and make say that something failed.
FAILURE = re.compile(r"FAILED|^FAIL |^not ok |^---- .* ----$|panicked at|: not so: |^error(\[E\d+\])?: |^E  +\S*(Error|Exception)|\*\*\* ")
FAILURES_TOLD = 15


def channel():
    """Two ends of what a part writes to: a terminal where this program writes to one, so that colours and bars stay."""
    if not sys.stdout.isatty():
        return os.pipe()
    ends = pty.openpty()
    fcntl.ioctl(ends[1], termios.TIOCSWINSZ, fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))
    return ends


def pass_on(process, source, log, part, last):
    """Passes on what the part says, and into `log`, until it ends or its time is over; whether it has ended."""
    began = heard = time.monotonic()
    while time.monotonic() - began < LIMIT_MINUTES * 60:
        # Whoever it has left behind may hold the other end: its own end is what counts.
        ended = process.poll() is not None
        if select.select([source], [], [], 0 if ended else 0.5)[0]:
            try:
                said = os.read(source, 1 << 16)
            except OSError:  # a terminal without anybody at its other end
                said = b""
            if said:
                sys.stdout.buffer.write(said)
                sys.stdout.buffer.flush()
                log.write(said)
                heard = time.monotonic()
                continue
            time.sleep(0.1)
        if ended:
            return True
        if time.monotonic() - heard >= SILENT_SECONDS:
            print(f"   {part} has run for {spent(time.monotonic() - began)}{last}", flush=True)
            heard = time.monotonic()
    return False


def run(part, hosts_are_built, last):
    """Whether a part passed."""
    command = ["make", "--no-print-directory", *(["-o", "hosts"] if hosts_are_built else []), part]
    source, sink = channel()
    process = subprocess.Popen(command, start_new_session=True, stdout=sink, stderr=sink)
    os.close(sink)
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        with open(LOGS / f"{part}.log", "wb") as log:
            ended = pass_on(process, source, log, part, last)
        if ended:
            return process.returncode == 0
        print(f"== {part} is not done after {LIMIT_MINUTES} minutes; of it there still run:", flush=True)
        subprocess.run(["ps", "-o", "pid,etime,args", "-g", str(process.pid)])
        return False
    finally:
        # However it ended, and at Ctrl-C too: nothing of it goes on.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        os.close(source)


def failures(part):
    """The first lines of a part's log that say what failed; its last lines where none does: it hung, or died without a word."""
    lines = (LOGS / f"{part}.log").read_text(errors="replace").splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip()[:200] for line in lines]
    return [line for line in plain if FAILURE.search(line)][:FAILURES_TOLD] or plain[-FAILURES_TOLD:]


def last_times():
    """Seconds that each part took when it passed last, as far as that is known."""
    try:
        return json.loads(TIMES.read_text())
    except (OSError, ValueError):
        return {}


def keep_time(part, seconds):
    TIMES.parent.mkdir(parents=True, exist_ok=True)
    TIMES.write_text(json.dumps(last_times() | {part: round(seconds)}, indent=1) + "\n")


def spent(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s" if seconds >= 60 else f"{seconds:.0f} s"


def main():
    # By nohup it is ignored, and would be by the servers that are to read their policy again at it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # As Ctrl-C: the running part ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = sys.argv[1:] or list(PARTS)
    done, hosts_are_built = [], False
    for number, part in enumerate(parts, 1):
        took = last_times().get(part)
        last = f" (last time {spent(took)})" if took else ""
        print(f"\n== {number}/{len(parts)} {part}: {PARTS[part]}{last}", flush=True)
        began = time.monotonic()
        failed = not run(part, hosts_are_built, last)
        hosts_are_built |= part == "hosts" and not failed
        done.append((part, failed, time.monotonic() - began))
        if not failed:
            keep_time(part, done[-1][2])
        print(f"== {part} {'FAILED' if failed else 'passed'} after {spent(done[-1][2])}", flush=True)
        if failed and part == "hosts":
            break
    print("\n== summary")
    for part, failed, seconds in done:
        print(f"   {'FAILED' if failed else 'passed':7} {part:10} {spent(seconds):>12}")
    for part in parts[len(done):]:
        print(f"   not run {part}")
    print(f"   {'':7} {'together':10} {spent(sum(seconds for _, _, seconds in done)):>12}")
    for part in (part for part, failed, _ in done if failed):
        print(f"\n== {part} failed, and said ({LOGS / part}.log has all of it):")
        for line in failures(part):
            print(f"   {line}")
    sys.exit(any(failed for _, failed, _ in done))


main()
