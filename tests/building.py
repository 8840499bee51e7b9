#!/usr/bin/env python3
"""Runs a build by cargo so that a person sees how far it is: crates done of all, the time, and what is compiled now.

On a terminal cargo's own bar shows that. In a pipe cargo is silent or floods: here a line each EACH_SECONDS takes its place,
and what cargo has to say (warnings, errors) passes as it is. A build that has nothing to do says nothing.
Usage: building.py WHAT cargo build …; the exit code is cargo's.
"""

import os
import re
import subprocess
import sys
import threading
import time

EACH_SECONDS = 15
# "    Building [=====>      ] 45/230: aws-lc-sys(build), syn" and "   Downloading [=>   ] 3/12, remaining bytes: 2.1MiB".
BAR = re.compile(r"(Building|Downloading|Updating)\b[^\[]*\[[=> ]*\] *(?:(\d+)/(\d+))?[:,]? *(.*)")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A line each crate; the progress says the same in fewer.
EACH_CRATE = re.compile(r"\s*(Compiling|Checking|Documenting|Downloaded|Fresh|Executable|Finished) ")


def spent(seconds):
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s" if seconds >= 60 else f"{seconds:.0f} s"


class Progress:
    """What the last bar of cargo said, told from time to time."""

    def __init__(self, what):
        self.what, self.began, self.bar, self.told = what, time.monotonic(), None, False
        self.ended = threading.Event()

    def line(self):
        verb, done, total, now = self.bar
        count = f"{done} of {total} {'crates' if verb == 'Building' else 'files'}" if total else ""
        parts = [verb.lower(), count, spent(time.monotonic() - self.began), f"now {now.strip()}" if now.strip() else ""]
        return f"   {self.what}: " + ", ".join(part for part in parts if part)

    def tell(self):
        while not self.ended.wait(EACH_SECONDS):
            if self.bar:
                print(self.line(), flush=True)
                self.told = True

    def end(self, code):
        self.ended.set()
        if self.told:
            print(f"   {self.what}: {'built' if code == 0 else 'FAILED'} after {spent(time.monotonic() - self.began)}",
                  flush=True)


def pieces(stream):
    """The texts between line feeds and carriage returns, as they come."""
    rest = ""
    while chunk := os.read(stream.fileno(), 1 << 16):
        *whole, rest = re.split(r"[\r\n]", rest + chunk.decode(errors="replace"))
        yield from whole
    yield rest


def main():
    what, command = sys.argv[1], sys.argv[2:]
    if sys.stderr.isatty():
        sys.exit(subprocess.run(command).returncode)
    environment = os.environ | {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "160"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    progress = Progress(what)
    threading.Thread(target=progress.tell, daemon=True).start()
    for piece in pieces(process.stderr):
        plain = COLOURS.sub("", piece)
        if bar := BAR.search(plain):
            progress.bar = bar.groups()
        elif plain.strip() and not EACH_CRATE.match(plain):
            print(piece, file=sys.stderr, flush=True)
    code = process.wait()
    progress.end(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
