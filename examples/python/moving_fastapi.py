"""A FastAPI chat that moves in: the application stays as it is, uvicorn gets another class for WebSockets.

    pip install ./bindings-python fastapi uvicorn
    python examples/python/moving_fastapi.py

or, where uvicorn is started by its own command, with the policy in a file:

    WSGUARD_POLICY=moving_policy.json uvicorn moving_fastapi:app --ws wsguard.uvicorn:Protocol --workers 4

What has changed is between the two marks below. docs/moving/python.md says what is refused now that was not before.
"""

from __future__ import annotations

import os
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException, status
from pydantic import BaseModel, Field, ValidationError

app = FastAPI()
here: set[WebSocket] = set()


class Said(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=500)]


async def get_user(token: Annotated[str | None, Query()] = None) -> str:
    user = {"change-me": "alice", "change-me-too": "bob"}.get(token or "")
    if user is None:
        # Before accept: the peer gets a 403, and no WebSocket.
        raise WebSocketException(code=status.WS_1008_POLICY_VIOLATION)
    return user


async def to_all(message: dict[str, str]) -> None:
    for websocket in list(here):
        await websocket.send_json(message)


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: Annotated[str, Depends(get_user)]) -> None:
    await websocket.accept()
    here.add(websocket)
    try:
        while True:
            said = Said.model_validate_json(await websocket.receive_text())
            await to_all({"user": user, "text": said.text})
    except WebSocketDisconnect:
        here.discard(websocket)
        await to_all({"left": user})
    except ValidationError:
        here.discard(websocket)
        await websocket.close(status.WS_1003_UNSUPPORTED_DATA)


if __name__ == "__main__":
    host, _, port = os.environ.get("SITE", "127.0.0.1:8000").rpartition(":")
    # --- moved in: from here ---
    from wsguard.uvicorn import HttpProtocol, guard

    protocol = guard(
        origins=["http://localhost:*"],
        auth="none",  # get_user decides
        max_message_bytes=4096,
        rate_limit={"per_second": 5, "burst": 10},
    )
    # --- to here; and `ws=protocol, http=HttpProtocol` ---
    uvicorn.run(app, host=host, port=int(port), ws=protocol, http=HttpProtocol)
