"""The chat of FastAPI's own chapter on WebSockets: a manager of connections, a credential by Depends, messages by
Pydantic. Nothing here knows wsguard."""

from __future__ import annotations

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException, status
from pydantic import BaseModel, Field, ValidationError

app = FastAPI()


class Said(BaseModel):
    text: Annotated[str, Field(min_length=1, max_length=500)]


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: dict[str, str]) -> None:
        for connection in self.active_connections:
            await connection.send_json(message)


manager = ConnectionManager()


async def get_user(
    session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
) -> str:
    user = {"session-of-alice": "alice", "token-of-bob": "bob"}.get(session or token or "")
    if user is None:
        raise WebSocketException(code=status.WS_1008_POLICY_VIOLATION)
    return user


@app.get("/")
async def home() -> dict[str, int]:
    return {"here": len(manager.active_connections)}


@app.websocket("/chat/{room}")
async def chat(websocket: WebSocket, room: str, user: Annotated[str, Depends(get_user)]) -> None:
    await manager.connect(websocket)
    await websocket.send_json({"welcome": user, "room": room})
    try:
        while True:
            said = Said.model_validate(await websocket.receive_json())
            await manager.broadcast({"user": user, "text": said.text})
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast({"left": user})
    except ValidationError as error:
        manager.disconnect(websocket)
        await websocket.close(status.WS_1003_UNSUPPORTED_DATA, error.errors()[0]["type"])
