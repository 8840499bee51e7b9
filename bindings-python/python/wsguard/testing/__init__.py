"""Tests of an application: a client that speaks to a server on this machine, and what handlers get without a server.

::

    async def test_say():
        async with serving(server), connect(server, user="alice") as alice:
            await alice.emit("say", {"text": "hello"})
            said = await alice.expect("said")
            assert said.data["user"] == "alice"

Nothing but the standard library is needed. For functions instead of coroutines there are :func:`running` and
:func:`connect_sync`, and for pytest the fixture ``wsguard_connect``.
"""

from ._client import Client, connect
from ._credentials import token_of
from ._fake import FakeConnection
from ._records import close, message, request, violation
from ._serving import running, serving
from ._sync import SyncClient, connect_sync
from ._wire import Ended, Received, Refused

__all__ = [
    "Client",
    "Ended",
    "FakeConnection",
    "Received",
    "Refused",
    "SyncClient",
    "close",
    "connect",
    "connect_sync",
    "message",
    "request",
    "running",
    "serving",
    "token_of",
    "violation",
]
