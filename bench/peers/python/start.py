"""What every peer does around its server, as docs/HOST.md asks of a test host.

Options come on the first line of stdin, one ``listening`` line goes to stdout, and the end of stdin ends the process, so
that a peer never outlives the bench.
"""

import asyncio
import json
import os
import ssl
import sys
import threading

import uvloop


def options():
    """The options, and from now on the end of the process with the end of stdin."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    return given


def announce(port):
    """Tells the bench where the server listens."""
    print(json.dumps({"type": "listening", "addr": f"127.0.0.1:{port}"}), flush=True)


def tls_context(given):
    """The TLS context for the options, or None."""
    if not given.get("tls"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given["tls"]["cert"], given["tls"]["key"])
    return context


def run(listen):
    """Runs ``await listen(options)``, an asyncio server, for ever on uvloop."""

    async def main():
        server = await listen(options())
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()

    uvloop.run(main())


def _exit_at_end_of_stdin():
    sys.stdin.read()
    os._exit(0)
