"""An echo on ``websockets`` and uvloop; compression is off, as its documentation advises for speed."""

from start import run, tls_context
from websockets.asyncio.server import serve


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def listen(given):
    return await serve(
        echo, "127.0.0.1", 0, compression=None, max_size=1 << 20, ssl=tls_context(given), backlog=4096
    )


run(listen)
