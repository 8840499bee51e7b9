"""The Python test host: what an application writes, and nothing else. See docs/HOST.md for the contract.

WSGUARD_LOOP chooses what it runs on: native, asyncio, uvloop; by default what `Server.run` chooses.
"""

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time

import wsguard

QUIET = "--quiet" in sys.argv
LINES = threading.Lock()


def print_line(line):
    with LINES:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def make_server(options, script):
    server = wsguard.Server(**options)
    stated = policies(options)
    handlers = {**HANDLERS, "say": functools.partial(say, server)}
    for name, handler in handlers.items():
        if any(name in each.get("events", {}) for each in stated):
            server.on(name)(handler if QUIET else told(handler))
    if options.get("protocol") == "raw" and len(stated) == 1:
        server.on_message(echo_raw)
    else:
        server.on_message(functools.partial(rest, handlers))
    if asks(options):
        server.authenticate(functools.partial(authenticate, script))
    if not QUIET:
        server.on_open(tell_open)
        server.on_close(tell_close)
        server.on_violation(tell_violation)
    return server


def policies(options):
    """Where the options state something: the top, and its routes."""
    return [options, *(options.get("routes") or {}).values()]


def asks(options):
    return any(each.get("auth") == "callback" for each in policies(options))


# --- messages ---------------------------------------------------------------------------------------------------------


def echo_raw(conn, message):
    if not QUIET:
        kind = "text" if isinstance(message, str) else "binary"
        size = len(message.encode() if isinstance(message, str) else message)
        print_line({"type": "message", "conn": conn.id, "kind": kind, "bytes": size})
    conn.send_nowait(message)


def rest(handlers, conn, message):
    """Messages of raw routes, events that only a reload has stated, and those that this application does not know."""
    if not isinstance(message, wsguard.Message):
        return echo_raw(conn, message)
    if not QUIET:
        tell_message(conn, message)
    if message.event in handlers:
        handlers[message.event](conn, message.data)


def echo(conn, data):
    conn.reply("echo", data)


def join(conn, data):
    conn.join(data["room"])
    conn.reply("joined", data)


def leave(conn, data):
    conn.leave(data["room"])
    conn.reply("left", data)


def say(server, conn, data):
    server.to(data["room"]).emit("said", data)


def throw(conn, data):
    raise RuntimeError("the handler of `throw` fails, as it was asked to")


def block(conn, data):
    time.sleep((data or {}).get("ms", 0) / 1000)
    conn.reply("unblocked", data)


def close(conn, data):
    data = data or {}
    conn.close(data.get("code", 1000), data.get("reason", ""))


def whoami(conn, data):
    who = {"user": conn.user, "roles": conn.roles, "ip": conn.ip, "path": conn.path, "subprotocol": conn.subprotocol}
    conn.reply("whoami", who)


HANDLERS = {
    "echo": echo,
    "join": join,
    "leave": leave,
    "throw": throw,
    "block": block,
    "close": close,
    "whoami": whoami,
}


# --- authentication ---------------------------------------------------------------------------------------------------


async def authenticate(script, request):
    """As `app.authenticate` scripts it."""
    token = request.headers.get("X-Auth-Token")
    if token == "boom":
        raise RuntimeError("the authentication callback fails, as it was asked to")
    if token == "hang":
        await asyncio.get_running_loop().create_future()
    if token == "teapot":
        return wsguard.Reject(418, headers={"X-Reason": "teapot"}, body="short and stout")
    if token == "inject":
        return wsguard.Accept("alice", headers={"X-Two": "a\r\nX-Three: b"})
    if token == "oversize":
        return wsguard.Reject(403, body="x" * 65_537)
    if token == "cookie":
        return let_in(script, headers={"Set-Cookie": "sid=1"})
    if token == "admin":
        return wsguard.Accept("root", roles=["admin"])
    if token == "proto":
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        return let_in(script, subprotocol=offered[1].strip() if offered[1:] else None)
    if token == "twice":
        # What is returned is the one answer: there is no second.
        return let_in(script)
    if token is None or token != script.get("token"):
        return wsguard.Reject()
    await asyncio.sleep(script.get("delay_ms", 0) / 1000)
    lifetime = script.get("expires_in_ms")
    expires_at_ms = None if lifetime is None else int(time.time() * 1000) + lifetime
    return let_in(script, expires_at_ms=expires_at_ms)


def let_in(script, **more):
    """The user of the script, or, where it names nobody, anybody."""
    user = script.get("user")
    return wsguard.Accept.anonymous(**more) if user is None else wsguard.Accept(user, **more)


# --- what it tells ----------------------------------------------------------------------------------------------------


def told(handler):
    def tells(conn, data):
        tell_message(conn, conn.message)
        handler(conn, data)

    return tells


def tell_message(conn, message):
    print_line({"type": "message", "conn": conn.id, "event": message.event, "bytes": message.size_bytes})


def tell_open(conn):
    line = {"conn": conn.id, "ip": conn.ip, "user": conn.user, "path": conn.path, "subprotocol": conn.subprotocol}
    print_line({"type": "open", **line, "roles": conn.roles, "compressed": conn.compressed})


def tell_close(conn, close):
    line = {"conn": conn.id, "code": close.code, "reason": close.reason, "clean": close.clean}
    print_line({"type": "close", **line})


def tell_pong(conn, ms):
    print_line({"type": "pong", "conn": conn.id})


def tell_violation(violation):
    line = {"code": violation.code, "ip": violation.ip, "user": violation.user, "event": violation.event}
    print_line({"type": "violation", "conn": violation.conn_id, **line})


# --- standard input, signals ------------------------------------------------------------------------------------------


def read_commands(server, script, drain_asked):
    """Standard input after the first line; its end drains the server, which ends the program."""
    try:
        for line in sys.stdin:
            done = answer(server, script, line, drain_asked)
            if done is not None:
                print_line(done)
    finally:
        server.drain()


def answer(server, script, line, drain_asked):
    name = None
    try:
        command = json.loads(line)
        name = command["do"]
        if name == "drain":
            drain_asked.set()
        return carry_out(server, script, name, command)
    except (wsguard.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        code, option = getattr(error, "code", None), getattr(error, "option", None)
        return {
            "type": "done",
            "do": name,
            "ok": False,
            "code": code,
            "option": option,
            "message": message,
            "error": message,
        }


def reload(server, script, options):
    if asks(options):
        with contextlib.suppress(wsguard.UsageError):  # it is there already
            server.authenticate(functools.partial(authenticate, script))
    return server.reload(options)


def carry_out(server, script, name, command):
    if name == "stats":
        return {"type": "stats", **server.stats()}
    if name == "metrics":
        return {"type": "metrics", "text": server.metrics()}
    if name == "reload":
        return {"type": "done", "do": name, "ok": True, "generation": reload(server, script, command["options"])}
    if name == "drain":
        server.drain(command.get("timeout_ms", 5000), command.get("jitter_ms", 0))
        return None  # answered when it is over, just before the program ends
    if name == "disconnect_user":
        server.disconnect_user(command["user"])
    elif name == "broadcast":
        server.to(command["room"]).emit(command["event"], command.get("data"))
    elif name == "to_user":
        server.to_user(command["user"]).emit(command["event"], command.get("data"))
    elif name == "ban":
        server.ban(
            ip=command.get("ip"),
            user=command.get("user"),
            for_ms=command.get("for_ms"),
            reason=command.get("reason", ""),
        )
    elif name == "unban":
        server.unban(ip=command.get("ip"), user=command.get("user"))
    elif name == "ping":
        conn = server.get(command["conn"])
        if conn is None or conn.ping_nowait(tell_pong) == "closed":
            raise ValueError("the connection is closed")
    elif name == "reload_tls":
        server.reload_tls()
    else:
        raise ValueError("unknown command")
    return {"type": "done", "do": name, "ok": True}


def read_first():
    """The options, and how the application authenticates."""
    first = json.loads(sys.stdin.readline())
    options = first.get("options") if isinstance(first, dict) else None
    if not isinstance(options, dict):
        raise ValueError("the first line needs options, an object")
    return options, (first.get("app") or {}).get("authenticate") or {}


def main():
    drain_asked = threading.Event()
    try:
        options, script = read_first()
        server = make_server(options, script)

        def listening():
            print_line({"type": "listening", "addr": server.address})
            threading.Thread(target=read_commands, args=(server, script, drain_asked), daemon=True).start()

        # The coroutine that authenticates may come by a reload. SIGTERM and SIGINT drain, as an orchestrator expects.
        loop = os.environ.get("WSGUARD_LOOP", "asyncio" if script and not asks(options) else "auto")
        server.run(loop, started=listening)
    except (wsguard.ConfigError, wsguard.StartError) as error:
        print_line({"type": "error", "code": error.code, "option": error.option, "message": str(error)})
        return 2
    except ValueError as error:
        print_line({"type": "error", "code": "invalid_option", "option": "options", "message": str(error)})
        return 2
    # One that comes now must not change what the program ends with.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if drain_asked.is_set():
        print_line({"type": "done", "do": "drain", "ok": True})
    return 0


if __name__ == "__main__":
    sys.exit(main())
