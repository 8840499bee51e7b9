"""Two workers, and a policy in the program instead of a file."""

from __future__ import annotations

import uvicorn
from wsguard.uvicorn import guard

if __name__ == "__main__":
    protocol = guard(origins=["http://127.0.0.1:*"], auth="none", max_message_bytes=10)
    uvicorn.run("starlette_app:app", port=0, workers=2, ws=protocol)
