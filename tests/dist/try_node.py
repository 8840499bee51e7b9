"""The npm packages: every Node, every package manager, every bundler; and what is said where the addon is not there."""

import json
import os
import pathlib
import shutil
import socket

import peer
import registry
import targets
from trying import DIST, LIMIT_S, ROOT, VERSION, call, clean, one, start, trial

HERE = ROOT / "tests/dist"
OWN = targets.own().npm
NODES = (18, 20, 22, 24)
BOTH = """
import { Server } from 'wsguard';
import { connect } from '@wsguard/client';
const server = new Server({
  listen: '127.0.0.1:0', origins: ['https://a.example'], missingOrigin: 'allow',
  auth: { tokens: [{ token: 'change-me', user: 'alice' }] }, tokenSources: ['subprotocol'], events: { say: {} },
});
server.on('say', (conn, data, meta) => conn.reply(meta, 'said', `${data} of ${conn.user}`));
const client = connect(`ws://${await server.listen()}/`, { token: 'change-me' });
console.log(await client.request('say', 'hello', { timeoutMs: 10000 }));
client.close();
await server.drain();
"""
MANAGERS = pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "dist/managers"


def install_managers() -> None:
    """Nodes and package managers, as they come from the registry; kept in the target directory."""
    MANAGERS.mkdir(parents=True, exist_ok=True)
    lock = MANAGERS / "package-lock.json"
    wanted = (HERE / "managers/package-lock.json").read_text()
    if lock.is_file() and lock.read_text() == wanted and (MANAGERS / "node_modules/pnpm").is_dir():
        return
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / "managers" / name, MANAGERS)
    call("npm", "ci", "--ignore-scripts", cwd=MANAGERS, env=dict(os.environ))


def folder_of(*parts: str) -> pathlib.Path:
    return MANAGERS.joinpath("node_modules", *parts).resolve()


def environment(folder: pathlib.Path, at: str, node: pathlib.Path | None = None) -> dict[str, str]:
    """Every manager's way to be told of the registry on loopback."""
    (folder / "package.json").write_text('{"private": true}')
    first = [node] if node else []
    env = clean(
        folder,
        *first,
        npm_config_registry=at,
        YARN_NPM_REGISTRY_SERVER=at,
        YARN_UNSAFE_HTTP_WHITELIST="127.0.0.1",
        YARN_ENABLE_TELEMETRY="0",
        YARN_ENABLE_GLOBAL_CACHE="0",
        YARN_PNP_ENABLE_ESM_LOADER="1",
        YARN_ENABLE_IMMUTABLE_INSTALLS="0",
        BUN_CONFIG_REGISTRY=at,
        npm_config_update_notifier="false",
    )
    (pathlib.Path(env["HOME"]) / ".npmrc").write_text(f"registry={at}\naudit=false\nfund=false\n")
    return env


def managers() -> dict[str, tuple[list[str], list[str]]]:
    """Name -> how a package is added, and how a program is run."""
    node = ["node"]
    berry = ["node", str(folder_of("@yarnpkg/cli-dist", "bin", "yarn.js"))]
    pnpm = json.loads((folder_of("pnpm") / "package.json").read_text())["bin"]
    return {
        "npm": (["npm", "install"], node),
        "pnpm": (["node", str(folder_of("pnpm") / (pnpm if isinstance(pnpm, str) else pnpm["pnpm"])), "add"], node),
        "Yarn 1": (["node", str(folder_of("yarn", "bin", "yarn.js")), "add"], node),
        "Yarn 4, Plug'n'Play": ([*berry, "add"], [*berry, "node"]),
        "Bun": ([str(folder_of("@oven/bun-linux-x64", "bin", "bun")), "add"], node),
    }


def judge(folder: pathlib.Path, env: dict[str, str], *command: str | pathlib.Path) -> None:
    with peer.serving([str(word) for word in command], folder, env) as address:
        peer.judge(address)


def run() -> None:
    install_managers()
    with registry.running(DIST) as at:
        starts(at)
        missing(at)
        client(at)
    files()


def starts(at: str) -> None:
    for version in NODES:

        @trial(f"Node start: npm install on Node {version}", LIMIT_S)
        def _(folder: pathlib.Path) -> None:
            one(f"wsguard-{OWN}-{VERSION}.tgz")
            node = folder_of(f"node{version}", "bin")
            env = environment(folder, at, node)
            # The machine's npm may want a later Node than the one that the program runs on.
            call("npm", "install", "wsguard", cwd=folder, env=environment(folder, at))
            (folder / "server.mjs").write_text(start("Node"))
            assert call("node", "--version", cwd=folder, env=env).startswith(f"v{version}.")
            judge(folder, env, "node", "server.mjs")
            (folder / "required.cjs").write_text(
                "require('wsguard/ws'); require('wsguard/testing'); console.log(typeof require('wsguard').Server)"
            )
            assert call("node", "required.cjs", cwd=folder, env=env) == "function\n"
            said = call("node", "node_modules/.bin/wsguard", "--version", cwd=folder, env=env)
            assert said.split() == ["wsguard", VERSION], said

    for name, (add, execute) in managers().items():

        @trial(f"Node start: {name}", LIMIT_S)
        def _(folder: pathlib.Path) -> None:
            env = environment(folder, at, folder_of("node24", "bin") if name != "npm" else None)
            call(*add, "wsguard", cwd=folder, env=env)
            (folder / "server.mjs").write_text(start("Node"))
            judge(folder, env, *execute, "server.mjs")


def missing(at: str) -> None:
    def refusal(folder: pathlib.Path, env: dict[str, str], program: str) -> str:
        return call(
            "node",
            "-e",
            f"try {{ {program} }} catch (error) {{ console.log(error.code, error.message) }}",
            cwd=folder,
            env=env,
        )

    @trial("Node: without optional dependencies the error names the package")
    def _(folder: pathlib.Path) -> None:
        env = environment(folder, at)
        call("npm", "install", "--omit=optional", "wsguard", cwd=folder, env=env)
        said = refusal(folder, env, "require('wsguard')")
        assert said.startswith("addon_missing") and f"npm install @wsguard/{OWN}@{VERSION}" in said, said

    @trial("Node: on a platform without a package the error names those that have one")
    def _(folder: pathlib.Path) -> None:
        env = environment(folder, at)
        call("npm", "install", "wsguard", cwd=folder, env=env)
        said = refusal(folder, env, "Object.defineProperty(process, 'arch', {value: 's390x'}); require('wsguard')")
        assert "no addon for linux-s390x-gnu" in said and f"@wsguard/{OWN}" in said, said


def client(at: str) -> None:
    @trial("Node: @wsguard/client talks to a server")
    def _(folder: pathlib.Path) -> None:
        env = environment(folder, at, folder_of("node24", "bin"))
        call("npm", "install", "wsguard", "@wsguard/client", cwd=folder, env=environment(folder, at))
        (folder / "both.mjs").write_text(BOTH)
        assert call("node", "both.mjs", cwd=folder, env=env) == "hello of alice\n"


def files() -> None:
    @trial("Node start: npm install of the files, as README has it", LIMIT_S)
    def _(folder: pathlib.Path) -> None:
        # A registry that has nothing of ours yet, not even the addons of other platforms.
        (folder / "nothing").mkdir()
        packages = [one(f"wsguard-{VERSION}.tgz"), one(f"wsguard-{OWN}-{VERSION}.tgz")]
        with registry.running(folder / "nothing") as at:
            env = environment(folder, at)
            call("npm", "install", *packages, cwd=folder, env=env)
        (folder / "server.mjs").write_text(start("Node"))
        judge(folder, env, "node", "server.mjs")


# Bundler -> how it is run, and what then runs.
BUNDLERS = {
    "esbuild": (
        [
            "esbuild",
            "server.mjs",
            "--bundle",
            "--platform=node",
            "--format=esm",
            "--external:wsguard",
            "--outfile=out/esbuild.mjs",
        ],
        "out/esbuild.mjs",
    ),
    "webpack": (["webpack", "--config", "webpack.config.cjs"], "out/webpack.cjs"),
    "rollup": (["rollup", "--config", "rollup.config.mjs"], "out/rollup.mjs"),
    "vite, for a server": (["vite", "build", "--config", "vite.config.mjs"], "out/server.mjs"),
}


def run_bundlers() -> None:
    kept = MANAGERS.parent / "bundlers"
    shutil.copytree(HERE / "bundlers", kept, dirs_exist_ok=True)
    call("npm", "ci", "--ignore-scripts", cwd=kept, env=dict(os.environ))
    with registry.running(DIST) as at:
        env = environment(kept, at, kept / "node_modules/.bin")
        shutil.copy(HERE / "bundlers/package.json", kept)
        call("npm", "install", "--no-save", "--ignore-scripts", "wsguard", cwd=kept, env=env)
    (kept / "server.mjs").write_text(start("Node"))
    shutil.rmtree(kept / "out", ignore_errors=True)
    for name, (command, made) in BUNDLERS.items():

        @trial(f"bundler: {name}")
        def _(_: pathlib.Path) -> None:
            call(*command, cwd=kept, env=env)
            judge(kept, env, "node", made)

    @trial("bundler: what was taken into a bundle says what to do")
    def _(_: pathlib.Path) -> None:
        (kept / "bare.cjs").write_text("try { require('wsguard') } catch (error) { console.log(error.message) }")
        call("esbuild", "bare.cjs", "--bundle", "--platform=node", "--outfile=out/bare.cjs", cwd=kept, env=env)
        alone = MANAGERS.parent / "alone"
        alone.mkdir(exist_ok=True)
        shutil.copy(kept / "out/bare.cjs", alone)
        said = call("node", "bare.cjs", cwd=alone, env=env)
        assert "esbuild --external:wsguard" in said, said

    @trial("bundler: Next.js, standalone")
    def _(_: pathlib.Path) -> None:
        app = kept / "next"
        for name in ("node_modules", ".next"):
            shutil.rmtree(app / name, ignore_errors=True)
        shutil.copytree(kept / "node_modules", app / "node_modules", symlinks=True)
        (app / "package.json").write_text('{"private": true}')
        shutil.copy(kept / "server.mjs", app)
        call(
            "next",
            "build",
            cwd=app,
            env=env | {"NEXT_TELEMETRY_DISABLED": "1", "PATH": f"{app}/node_modules/.bin:{env['PATH']}"},
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        # Away from the folder that it was built in: what it needs is in the copy.
        with_all = MANAGERS.parent / "standalone"
        shutil.rmtree(with_all, ignore_errors=True)
        shutil.move(app / ".next/standalone", with_all)
        judge(with_all, env | {"PORT": port, "HOSTNAME": "127.0.0.1"}, "node", "server.js")
