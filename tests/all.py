#!/usr/bin/env python3
"""Runs the parts of `make test` one after another: says which part runs, how long it took, and ends with a summary.

A part that fails does not keep the others from running, but for the build of the hosts, without which nothing runs.
A part that is not done after LIMIT_MINUTES has failed: what of it still ran is named and killed.
Usage: all.py [PART...]; exit 1 when a part failed.
"""

import os
import signal
import subprocess
import sys
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
    "client": "the client for browsers and Node: fake time, types, size, a real Chromium",
}


LIMIT_MINUTES = 25


def run(part, hosts_are_built):
    """Whether a part passed."""
    command = ["make", "--no-print-directory", *(["-o", "hosts"] if hosts_are_built else []), part]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(LIMIT_MINUTES * 60) == 0
    except subprocess.TimeoutExpired:
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
        print(f"\n== {number}/{len(parts)} {part}: {PARTS[part]}", flush=True)
        began = time.monotonic()
        failed = not run(part, hosts_are_built)
        hosts_are_built |= part == "hosts" and not failed
        done.append((part, failed, time.monotonic() - began))
        print(f"== {part} {'FAILED' if failed else 'passed'} after {spent(done[-1][2])}", flush=True)
        if failed and part == "hosts":
            break
    print("\n== summary")
    for part, failed, seconds in done:
        print(f"   {'FAILED' if failed else 'passed':7} {part:10} {spent(seconds):>12}")
    for part in parts[len(done):]:
        print(f"   not run {part}")
    print(f"   {'':7} {'together':10} {spent(sum(seconds for _, _, seconds in done)):>12}")
    sys.exit(any(failed for _, failed, _ in done))


main()
