#!/usr/bin/env python3
"""Examines servers as their documentation writes them, and ours, with `wsguard audit`; compares with expected.json.

Usage: run.py WSGUARD HOST [PEER...] [--write] [--table]. HOST is the Rust test host. Peers run beside each other, each examined
once. With --write expected.json is written again, with --table the table of README ("what your server lets through").
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "expected.json"
ORIGIN, TOKEN = "https://app.example", "peers-test-token"
# What a careful application states; every limit is the default.
POLICY = {
    "listen": "127.0.0.1:0",
    "origins": [ORIGIN],
    "hosts": ["127.0.0.1"],
    "auth": {"tokens": [{"token": TOKEN, "user": "alice"}]},
    "events": {"echo": {"schema": {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 100}},
        "required": ["text"],
        "additionalProperties": False,
    }}},
}
MESSAGE = json.dumps({"event": "echo", "data": {"text": "hello"}})
LET_IN = ["--origin", ORIGIN, "--token", "env:AUDIT_TOKEN", "--message", MESSAGE]
NAMES = {
    "ws": "ws", "websockets": "websockets", "uvicorn": "uvicorn", "bun": "Bun", "socketio": "Socket.IO",
    "wsguard": "wsguard", "compressed": "wsguard, compressing",
}
SEVERITIES = ["high", "medium", "low"]


class Server:
    """A server as a process, which ends with its standard input."""

    def __init__(self, name, host):
        self.path, self.options, first = "/", [], ""
        if name in ("wsguard", "compressed"):
            policy = POLICY | ({"compression": {}} if name == "compressed" else {})
            command, first = [host], json.dumps({"options": policy}) + "\n"
            self.options = LET_IN
        elif name in ("websockets", "uvicorn"):
            command = [sys.executable, str(HERE / f"peers/{name}_echo.py")]
        else:
            program = [str(HERE / "node_modules/.bin/bun")] if name == "bun" else ["node"]
            command = [*program, str(HERE / f"peers/{name}.mjs")]
            self.path = "/socket.io/" if name == "socketio" else "/"
        # Peers log every refusal; only their answers are looked at.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE)
        self.process.stdin.write(first)
        self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        self.address = json.loads(line)["addr"] if first else f"127.0.0.1:{line}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def audit(wsguard, host, name):
    """The report of one server."""
    with Server(name, host) as server:
        command = [wsguard, "audit", f"ws://{server.address}{server.path}", "--json", "--patience", "75", "--timeout", "10",
                   "--fail-on", "never", *server.options]
        done = subprocess.run(
            command, env={"AUDIT_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=240)
        if done.returncode != 0:
            raise SystemExit(f"{name}: exit {done.returncode}\n{done.stderr}")
        if TOKEN in done.stdout + done.stderr:
            raise SystemExit(f"{name}: the token was printed")
        return json.loads(done.stdout)


def word(result):
    """A result in one word: a severity, or the verdict."""
    return result.get("severity", result["verdict"])


def table(reports):
    """Markdown: a row for each check that finds something in some server."""
    names = [name for name in NAMES if name in reports and name != "compressed"]
    rows = [["check", *(NAMES[name] for name in names)], ["---"] * (len(names) + 1)]
    words = {name: {result["check"]: word(result) for result in reports[name]["results"]} for name in names}
    for check in words[names[0]]:
        row = [words[name][check] for name in names]
        if set(row) & set(SEVERITIES):
            marks = {"passed": "–", "skipped": "–", "unknown": "?"}
            rows.append([f"`{check}`", *(marks.get(one, f"**{one}**" if one == "high" else one) for one in row)])
    total = [" + ".join(str(reports[name]["summary"][severity]) for severity in SEVERITIES) for name in names]
    rows.append(["high + medium + low", *total])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def differences(expected, reports):
    """What is other than expected, as lines for people."""
    for name, report in reports.items():
        wanted = expected.get(name, {})
        found = {result["check"]: result for result in report["results"]}
        for check in sorted(wanted.keys() | found.keys()):
            want, result = wanted.get(check, "nothing"), found.get(check)
            have = word(result) if result else "nothing"
            if have != want:
                yield f"{name}: {check}: expected {want}, found {have}: {result and result['came']}"


def main():
    flags = {argument for argument in sys.argv[1:] if argument.startswith("--")}
    wsguard, host, *names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    names = names or list(NAMES)
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        reports = dict(zip(names, pool.map(lambda name: audit(wsguard, host, name), names)))
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if "--write" in flags:
        expected |= {name: {result["check"]: word(result) for result in reports[name]["results"]} for name in names}
        EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")
    if "--table" in flags:
        print(table(reports))
    faults = list(differences(expected, reports))
    for name in ("wsguard", "compressed"):
        for result in reports.get(name, {"results": []})["results"]:
            if result["verdict"] in ("finding", "unknown"):
                faults.append(f"{name} must come out clean: {result['check']}: {word(result)}: {result['came']}")
    for name, report in reports.items():
        print(f"{NAMES[name]}: {json.dumps(report['summary'])} in {report['seconds']} s", file=sys.stderr)
    print("\n".join(faults) or "every server lets through what was expected", file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
