"""WebSockets for who has signed in with Django: its session cookie, read from Django's own session store.

    pip install ./bindings-python django
    SECRET_KEY=$(openssl rand -hex 32) python examples/python/django_session.py

In a project, put this into a management command (`manage.py sockets`) and drop `settings.configure`. It runs as a
process of its own beside the web workers; both use the same session engine and database.
"""

from __future__ import annotations

import asyncio
import os
import secrets

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(32),
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DB", "django.sqlite3")}},
    )
    django.setup()

from importlib import import_module

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from wsguard import Accept, Connection, Reject, Request, Server

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore

server = Server(
    listen=os.environ.get("LISTEN", "127.0.0.1:8080"),
    origins=[os.environ.get("ORIGIN", "http://127.0.0.1:8000")],
    token_sources=[f"cookie:{settings.SESSION_COOKIE_NAME}"],
)


@sync_to_async
def signed_in(session_key: str) -> tuple[str, object] | None:
    """The user of a session and when it ends. Django's ORM blocks, so not on the loop."""
    session = SessionStore(session_key)
    user = session.get(SESSION_KEY)
    return (user, session.get_expiry_date()) if user else None


@server.authenticate
async def authenticate(request: Request) -> Accept | Reject:
    found = await signed_in(request.token) if request.token else None
    if found is None:
        return Reject(401)
    user, expires_at = found
    if getattr(expires_at, "tzinfo", None) is None:  # USE_TZ = False: local time
        expires_at = expires_at.astimezone()  # type: ignore[attr-defined]
    return Accept(user, expires_at=expires_at)  # type: ignore[arg-type]


@server.on("ping")
def ping(conn: Connection, data: object) -> None:
    conn.reply("pong", {"user": conn.user})


if __name__ == "__main__":
    asyncio.run(server.serve(started=lambda: print(f"listening on {server.address}", flush=True)))
