"""Behind nginx, with several processes as gunicorn starts them: one server each, started after the fork.

    pip install ./bindings-python
    python examples/python/behind_nginx.py 4        # /tmp/wsguard-0.sock to -3.sock

nginx ends TLS and spreads connections over the sockets:

    upstream sockets {
        least_conn;
        server unix:/tmp/wsguard-0.sock;
        server unix:/tmp/wsguard-1.sock;
        server unix:/tmp/wsguard-2.sock;
        server unix:/tmp/wsguard-3.sock;
    }
    server {
        listen 443 ssl;
        server_name app.example.com;
        location /ws {
            proxy_pass http://sockets;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header Forwarded "";
            proxy_read_timeout 60s;
        }
    }

Rooms and limits are those of one process: what all of them must know goes through a broker of your own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

from wsguard import Connection, Server

SOCKETS = os.environ.get("SOCKETS", "/tmp")


def work(index: int) -> None:
    server = Server(
        listen=f"unix:{SOCKETS}/wsguard-{index}.sock",
        threads=1,
        paths=["/ws"],
        origins=["https://app.example.com"],
        hosts=["app.example.com"],
        # Whoever reaches the socket is the proxy: its X-Forwarded-For is believed, and limits are per client.
        trusted_proxies=["unix"],
        auth={"tokens": [{"token": "change-me", "user": "alice"}]},
        token_sources=["cookie:token"],
    )

    @server.on("where")
    def where(conn: Connection, data: object) -> None:
        conn.reply("here", {"worker": index, "you": conn.ip})

    # `run` would drain at SIGTERM by itself; the jitter keeps clients from all coming back in one moment.
    signal.signal(signal.SIGTERM, lambda *_: server.drain(timeout_ms=10_000, jitter_ms=5_000))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to hear
    # In one write, so that two workers' lines do not run into one.
    server.run(started=lambda: print(f"worker {index} listens on {server.address}\n", end="", flush=True))


def main() -> None:
    workers = [multiprocessing.Process(target=work, args=(index,)) for index in range(int(sys.argv[1]))]
    for worker in workers:
        worker.start()

    def end(*_: object) -> None:
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
