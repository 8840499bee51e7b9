"""Pydantic models as the contract, and a coroutine for each connection.

pip install "./bindings-python[pydantic]"
python examples/python/models.py
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from pydantic import BaseModel, Field
from wsguard import Accept, Connection, Reject, Request, Server


class Bid(BaseModel, extra="forbid"):
    """What a bidder may send: checked natively by the schema, then an instance for the handler."""

    lot: Annotated[int, Field(ge=1)]
    amount: Annotated[int, Field(gt=0, le=1_000_000)]


server = Server(listen=os.environ.get("LISTEN", "127.0.0.1:8080"), origins=["http://localhost:3000"])
server.event("bid", schema=Bid)


@server.authenticate
async def authenticate(request: Request) -> Accept | Reject:
    # Here one would ask a database; whoever is not accepted never gets a WebSocket.
    await asyncio.sleep(0)
    if request.token != "change-me":
        return Reject(401)
    return Accept(user="alice", data={"limit": 5000})


@server.on_open
async def auction(conn: Connection) -> None:
    highest: dict[int, int] = {}
    async for message in conn:
        bid: Bid = message.data
        if bid.amount > conn.data["limit"]:
            await conn.reply("refused", {"lot": bid.lot, "reason": "over your limit"})
        elif bid.amount <= highest.get(bid.lot, 0):
            await conn.reply("refused", {"lot": bid.lot, "reason": "too low"})
        else:
            highest[bid.lot] = bid.amount
            await conn.reply("accepted", bid)


async def main() -> None:
    async with server:
        print(f"listening on {server.address}", flush=True)
        await server.wait_stopped()


if __name__ == "__main__":
    asyncio.run(main())
