"""The crates as others get them: README's start, and the program as `cargo install` makes it."""

import pathlib

import peer
import try_command
from trying import VERSION, call, clean, one, start, trial, unpacked, with_rust

MANIFEST = '[package]\nname = "start"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\nwsguard = "{}"\n'


def crates(folder: pathlib.Path, *names: str) -> list[pathlib.Path]:
    """Unpacks crates, and tells cargo where they are, as it is told of a fork: the registry does not have them yet."""
    trees = []
    for name in names:
        with unpacked(one(f"{name}-{VERSION}.crate"), folder) as tree:
            trees.append(tree)
    # What is installed is no dependency of itself.
    lines = [
        f'{name} = {{ path = "{tree}" }}' for name, tree in zip(names, trees, strict=True) if name != "wsguard-cli"
    ]
    (folder / ".cargo").mkdir()
    (folder / ".cargo/config.toml").write_text("\n".join(["[patch.crates-io]", *lines]))
    return trees


def run_crates() -> None:
    @trial("Rust start: crates (needs Rust, compiles)")
    def _(folder: pathlib.Path) -> None:
        crates(folder, "wsguard-proto", "wsguard")
        (folder / "src").mkdir()
        (folder / "Cargo.toml").write_text(MANIFEST.format(VERSION.rsplit(".", 1)[0]))
        (folder / "src/main.rs").write_text(start("Rust"))
        call("cargo", "build", "--quiet", cwd=folder, env=with_rust(folder), limit_s=1800)
        with peer.serving([str(folder / "target/debug/start")], folder, clean(folder)) as address:
            peer.judge(address)

    @trial("the program wsguard: cargo install (needs Rust, compiles)")
    def _(folder: pathlib.Path) -> None:
        *_, tree = crates(folder, "wsguard-proto", "wsguard", "wsguard-cli")
        made = folder / "made"
        words = ["--quiet", "--debug", "--path", tree, "--root", made, "--target-dir", folder / "target"]
        call("cargo", "install", *words, cwd=folder, env=with_rust(folder), limit_s=1800)
        try_command.judge(made / "bin", folder, lambda *words: [str(word) for word in words])
