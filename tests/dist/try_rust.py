"""The crates as others get them, and the program `wsguard` in its archive."""

import os
import pathlib
import platform

import peer
from trying import VERSION, call, clean, one, start, trial, unpacked


def run() -> None:
    @trial("the program wsguard: archive")
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-cli-*-{platform.machine()}-linux-gnu.tar.gz"), folder) as tree:
            said = call(tree / "wsguard", "--version", cwd=folder, env=clean(folder))
            assert said.split() == ["wsguard", VERSION], said


def run_crates() -> None:
    @trial("Rust start: crates (needs Rust, compiles)")
    def _(folder: pathlib.Path) -> None:
        # The registry does not have them yet: cargo is told where they are, as it is told of a fork.
        lines = ["[patch.crates-io]"]
        for name in ("wsguard-proto", "wsguard"):
            with unpacked(one(f"{name}-{VERSION}.crate"), folder) as tree:
                lines.append(f'{name} = {{ path = "{tree}" }}')
        (folder / ".cargo").mkdir()
        (folder / ".cargo/config.toml").write_text("\n".join(lines))
        (folder / "src").mkdir()
        minor = VERSION.rsplit(".", 1)[0]
        (folder / "Cargo.toml").write_text(
            f'[package]\nname = "start"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\nwsguard = "{minor}"\n'
        )
        (folder / "src/main.rs").write_text(start("Rust"))
        env = os.environ | {"CARGO_TARGET_DIR": os.environ["CARGO_TARGET_DIR"]}
        call("cargo", "build", "--quiet", cwd=folder, env=env, limit_s=1800)
        with peer.serving([f"{os.environ['CARGO_TARGET_DIR']}/debug/start"], folder, dict(os.environ)) as address:
            peer.judge(address)
