"""gunicorn's worker, as uvicorn-worker documents it: a subclass that says what uvicorn is started with."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):  # type: ignore[misc]
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "ws": os.environ["WS"],
        "http": "wsguard.uvicorn:HttpProtocol",
    }
