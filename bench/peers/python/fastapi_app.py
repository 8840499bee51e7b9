"""An echo as FastAPI's documentation writes it, under uvicorn.

With a policy uvicorn hands the upgrades to ``wsguard.uvicorn``; else it does with them what it does by default. Nothing else
differs.
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from start import announce, options

app = FastAPI()


@app.websocket("/")
async def echo(websocket: WebSocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass


class Server(uvicorn.Server):
    """Tells where it listens."""

    async def startup(self, sockets=None):
        await super().startup(sockets)
        announce(self.servers[0].sockets[0].getsockname()[1])


def protocol(policy):
    """What uvicorn's option ``ws`` is."""
    if policy is None:
        return "auto"
    # The package of this repository, as its build leaves it.
    repository = Path(__file__).resolve().parents[3]
    sys.path.extend(map(str, repository.glob("bindings-python/.venv/lib/python*/site-packages")))
    from wsguard.uvicorn import guard

    return guard(**policy)


def main():
    given = options()
    tls = given.get("tls") or {}
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        ws=protocol(given.get("policy")),
        log_level="warning",
        ssl_certfile=tls.get("cert"),
        ssl_keyfile=tls.get("key"),
    )
    Server(config).run()


main()
