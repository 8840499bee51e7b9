"""A registry of npm on loopback: it has the archives of `dist/`; for others it asks the registry that npm is set to.

So package managers install `wsguard` by its name, as users do, before anything is published.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import subprocess
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

# Package managers let new versions wait: what is tried here is to be old enough.
PUBLISHED = "2020-01-01T00:00:00.000Z"


def archives(dist: pathlib.Path) -> dict[str, tuple[dict, bytes]]:
    """Name of package -> its manifest and its archive."""
    found = {}
    for path in sorted(dist.glob("*.tgz")):
        with tarfile.open(path) as tar:
            manifest = json.load(tar.extractfile("package/package.json"))
        found[manifest["name"]] = (manifest, path.read_bytes())
    return found


def document(manifest: dict, archive: bytes, at: str) -> bytes:
    """What a registry says of a package."""
    version = manifest["version"]
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {
        "tarball": f"{at}/-/archive/{manifest['name']}.tgz",
        "integrity": f"sha512-{digest}",
        "shasum": hashlib.sha1(archive).hexdigest(),
    }
    known = {
        "_id": manifest["name"],
        "name": manifest["name"],
        "dist-tags": {"latest": version},
        "time": {"created": PUBLISHED, "modified": PUBLISHED, version: PUBLISHED},
        "versions": {version: manifest | {"dist": dist}},
    }
    return json.dumps(known).encode()


def handler(packages: dict[str, tuple[dict, bytes]], upstream: str) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urllib.parse.unquote(self.path.split("?")[0]).lstrip("/")
            name = path.removeprefix("-/archive/").removesuffix(".tgz")
            if path.startswith("-/archive/") and name in packages:
                self.answer(200, packages[name][1], "application/octet-stream")
            elif path in packages:
                at = f"http://127.0.0.1:{self.server.server_address[1]}"
                self.answer(200, document(*packages[path], at), "application/json")
            elif path == "wsguard" or path.startswith("@wsguard/"):
                self.answer(404, b'{"error":"not found"}', "application/json")
            else:
                self.ask()

        def do_POST(self) -> None:
            # Of an audit: there is none.
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, b"{}", "application/json")

        def ask(self) -> None:
            request = urllib.request.Request(
                upstream.rstrip("/") + self.path, headers={"Accept": self.headers.get("Accept", "*/*")}
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as got:
                    self.answer(200, got.read(), got.headers.get("Content-Type", "application/json"))
            except urllib.error.HTTPError as error:
                self.answer(error.code, b"{}", "application/json")
            except OSError:
                self.answer(502, b"{}", "application/json")

        def answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def running(dist: pathlib.Path) -> Iterator[str]:
    """Its address, until the end of the block."""
    upstream = subprocess.run(
        ["npm", "config", "get", "registry"], capture_output=True, text=True, check=True
    ).stdout.strip()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(archives(dist), upstream))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
