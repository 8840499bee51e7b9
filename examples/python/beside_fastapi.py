"""A WebSocket server beside FastAPI, in one process and on one loop: who has signed in there may connect here.

    pip install ./bindings-python fastapi uvicorn itsdangerous
    SESSION_SECRET=$(openssl rand -hex 32) python examples/python/beside_fastapi.py

FastAPI answers http://127.0.0.1:8000, wsguard ws://127.0.0.1:8080. Cookies do not know ports: the browser sends the
session of one to the other. Behind a proxy both get the same name and port instead (see behind_nginx.py).

Several workers share both ports; limits and rooms are those of one worker:

    SESSION_SECRET=... WEB_CONCURRENCY=4 uvicorn --app-dir examples/python beside_fastapi:app
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from itsdangerous import BadSignature, TimestampSigner
from starlette.middleware.sessions import SessionMiddleware
from wsguard import Accept, Connection, Reject, Request, Server

SECRET = os.environ.get("SESSION_SECRET") or secrets.token_hex(32)
SESSION_S = 14 * 24 * 3600
SITE = os.environ.get("SITE", "127.0.0.1:8000")

sockets = Server(
    listen=os.environ.get("LISTEN", "127.0.0.1:8080"),
    # Uvicorn's own word for several workers. Without, a second server on the port is an error, as it should be.
    reuse_port=int(os.environ.get("WEB_CONCURRENCY", "1")) > 1,
    origins=[f"http://{SITE}"],
    token_sources=["cookie:session"],
)


def session(cookie: str) -> dict[str, Any]:
    """What Starlette's SessionMiddleware put into its cookie; it signs it with the same secret."""
    import base64
    import json

    signed = TimestampSigner(SECRET).unsign(cookie.encode(), max_age=SESSION_S)
    content: dict[str, Any] = json.loads(base64.b64decode(signed))
    return content


@sockets.authenticate
def authenticate(request: Request) -> Accept | Reject:
    if request.token is None:
        return Reject(401)
    try:
        user = session(request.token).get("user")
    except (BadSignature, ValueError):
        return Reject(401)
    return Accept(user) if user else Reject(403)


@sockets.on("note", schema={"type": "string", "maxLength": 200})
def note(conn: Connection, text: str) -> None:
    sockets.to_all().emit("note", {"user": conn.user, "text": text})


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    # It lives as long as the application does, and drains with it.
    async with sockets:
        print(f"listening on {sockets.address}", flush=True)
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=SECRET, max_age=SESSION_S, same_site="lax")


@app.post("/sign-in/{name}")
async def sign_in(name: str, request: HttpRequest) -> dict[str, str]:
    request.session["user"] = name  # after checking a password
    return {"user": name}


@app.post("/sign-out")
async def sign_out(request: HttpRequest) -> None:
    user = request.session.pop("user", None)
    if user:
        # A session that has ended ends everywhere.
        sockets.disconnect_user(user)


@app.post("/notes")
async def publish(text: str) -> None:
    sockets.to_all().emit("note", {"user": None, "text": text})


if __name__ == "__main__":
    host, port = SITE.rsplit(":", 1)
    uvicorn.run(app, host=host, port=int(port), log_level="warning")
