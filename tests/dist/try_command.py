"""The program `wsguard` in its archive: it judges a policy, makes a token, and serves what the policy lets in."""

import json
import pathlib
import platform
import re
import subprocess
from collections.abc import Callable

import peer
from trying import LIMIT_S, VERSION, call, clean, one, start, trial, unpacked

# How a program with its arguments is run: as it is, or on another machine.
Run = Callable[..., list[str]]


def policy() -> dict:
    """README's, which its start in Rust has as JSON."""
    return json.loads(re.search(r'r#"(\{.*?\})"#', start("Rust"), re.S)[1])


def exit_code(command: list[str], folder: pathlib.Path, env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def judge(tree: pathlib.Path, folder: pathlib.Path, run: Run) -> None:
    """The three subcommands that need no other server; their exit codes are those that docs/COMMAND.md promises."""
    env = clean(folder)

    def wsguard(*words: str) -> list[str]:
        return run(tree / "wsguard", *words)

    assert call(*wsguard("--version"), cwd=folder, env=env).split() == ["wsguard", VERSION]
    weak = policy()
    (folder / "weak.json").write_text(json.dumps(weak))
    code, said = exit_code(wsguard("check", "weak.json"), folder, env)
    assert code == 1 and "the token is shorter than 16 bytes" in said, (code, said)
    made = subprocess.run(wsguard("token", "make", "--opaque"), cwd=folder, env=env, capture_output=True, text=True)
    token, kept = made.stdout.strip(), re.search(r'"sha256": "(\w+)"', made.stderr)[1]
    sound = weak | {"auth": {"tokens": [{"sha256": kept, "user": "alice"}]}}
    (folder / "sound.json").write_text(json.dumps(sound))
    code, said = exit_code(wsguard("check", "sound.json"), folder, env)
    assert code == 0, (code, said)
    (folder / "wrong.json").write_text(json.dumps({"orgins" if key == "origins" else key: sound[key] for key in sound}))
    code, said = exit_code(wsguard("check", "wrong.json"), folder, env)
    assert code == 2 and "did you mean `origins`?" in said, (code, said)
    with peer.serving(wsguard("serve", "sound.json"), folder, env) as address:
        peer.judge(address, token, answer="say")


def run() -> None:
    @trial("the program wsguard: archive", LIMIT_S)
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-cli-*-{platform.machine()}-linux-gnu.tar.gz"), folder) as tree:
            judge(tree, folder, lambda *words: [str(word) for word in words])
