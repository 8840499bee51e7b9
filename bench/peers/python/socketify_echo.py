"""An echo on socketify (uWebSockets through cffi), as its README writes it. It needs the system's libuv1."""

import socket

from socketify import App, AppListenOptions, CompressOptions
from start import announce, options


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


options()
app = App()
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        "max_backpressure": 1 << 20,
        "idle_timeout": 120,
        "message": lambda ws, message, opcode: ws.send(message, opcode),
    },
)
app.listen(
    AppListenOptions(port=free_port(), host="127.0.0.1"), lambda config: announce(config.port)
)
app.run()
