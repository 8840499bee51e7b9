"""An echo on picows' core API (its fastest) and uvloop, as its README writes it."""

from picows import WSListener, WSMsgType, ws_create_server
from start import run, tls_context


class Echo(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def listen(given):
    return await ws_create_server(
        lambda request: Echo(), "127.0.0.1", 0, ssl=tls_context(given), backlog=4096
    )


run(listen)
