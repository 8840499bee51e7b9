"""The policy of a server that runs inside of an ASGI server: what the two of them say together."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _wsguard
from ._contract import options_text
from ._errors import ConfigError

if TYPE_CHECKING:
    from typing import TypeGuard

    from uvicorn.config import Config

#: What the server that accepts connections does itself.
_NOT_OURS = {
    "listen": "uvicorn listens",
    "unix_mode": "uvicorn listens",
    "tls": "uvicorn does TLS (--ssl-certfile)",
    "proxy_protocol": "uvicorn reads the first bytes of a connection",
}

#: What ``idle_timeout_ms`` must exceed ``ping_interval_ms`` by, for the core.
_LEAST_SILENCE_MS = 1000

#: Nobody is pinged, and whoever says nothing stays.
_NO_KEEP_ALIVE = {"ping_interval_ms": 0, "idle_timeout_ms": 0}

#: Defaults of the core, for what uvicorn may tighten.
_DEFAULTS = {"max_message_bytes": 65_536, "ping_interval_ms": 20_000, "idle_timeout_ms": 45_000}


def missing(variable: str) -> ConfigError:
    return ConfigError(
        f"origins: there is no policy: set {variable} to the path of a JSON file with at least origins and auth, or "
        'give uvicorn.run the class: ws=wsguard.uvicorn.guard(origins=["https://app.example.com"], auth="none")',
        code="missing_option",
        option="origins",
    )


def checked(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The options as stated, with ``protocol`` and ``threads``. Raises ``ConfigError`` for what is no policy here."""
    # A worker has one event loop, and one thread feeds it: more workers use more processors.
    options: dict[str, Any] = {"protocol": "raw", "threads": 1, **stated}
    for name, whose in _NOT_OURS.items():
        if options.get(name):
            raise ConfigError(f"{name}: does not belong here: {whose}", code="contradiction", option=name)
    for path, auth in _auths(options):
        if auth == "callback":
            raise ConfigError(
                f'{path}: "callback" has no callback here: the application decides before it accepts, and "none" '
                "says so",
                code="contradiction",
                option=path,
            )
    _wsguard.policy_in_force(options_text(options))
    return options


def _auths(options: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    yield "auth", options.get("auth")
    for path, route in _routes(options).items():
        yield f"routes.{path}.auth", route.get("auth")


def _routes(options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    routes = options.get("routes")
    if not isinstance(routes, Mapping):
        return {}
    return {path: route for path, route in routes.items() if isinstance(route, Mapping)}


def without_keep_alive(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The same where the server keeps connections alive, on every route."""
    routes = {path: {**route, **_NO_KEEP_ALIVE} for path, route in _routes(policy).items()}
    return {**policy, **_NO_KEEP_ALIVE, **({"routes": routes} if routes else {})}


def takes_query_tokens(policy: Mapping[str, Any]) -> bool:
    """Whether a token may stand in the query, of any route."""
    stated = [policy, *_routes(policy).values()]
    return any(str(source).startswith("query:") for some in stated for source in some.get("token_sources") or ())


def of_worker(policy: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The policy of one worker: as it was stated, and as uvicorn's own options tighten it."""
    options = dict(policy)
    admin = options.get("admin_listen")
    if config.workers > 1 and isinstance(admin, str) and not admin.endswith(":0"):
        raise ConfigError(
            f"admin_listen: uvicorn runs {config.workers} workers, and only one of them could listen on {admin}: leave "
            "it out, or run one worker",
            code="contradiction",
            option="admin_listen",
        )
    if "trusted_proxies" not in options and config.proxy_headers:
        options["trusted_proxies"] = trusted(config.forwarded_allow_ips)
    tightened = _tightenings(config)
    _tighten(options, tightened, _DEFAULTS.get)
    routes = {path: _tightened_route(route, tightened) for path, route in _routes(options).items()}
    if routes:
        options["routes"] = routes
    if not config.ws_per_message_deflate:
        for stated in (options, *routes.values()):
            stated.pop("compression", None)
    return options


def trusted(stated: list[str] | str) -> list[str]:
    """uvicorn's ``forwarded_allow_ips`` as ``trusted_proxies``."""
    named = [name.strip() for name in stated.split(",")] if isinstance(stated, str) else list(stated)
    if "*" in named:
        raise ConfigError(
            "trusted_proxies: uvicorn's forwarded_allow_ips is \"*\", so anybody could forge a client's address: list "
            'the proxies, as in forwarded_allow_ips="10.0.0.0/8", or state trusted_proxies in the policy',
            code="invalid_option",
            option="trusted_proxies",
        )
    return [name for name in named if _is_network(name)]


def _is_network(name: str) -> bool:
    """uvicorn takes names as well, for sockets without an address."""
    try:
        ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
    return True


def _tightenings(config: Config) -> dict[str, int]:
    tightened: dict[str, int] = {}
    if config.ws_max_size is not None:
        # 0 is the least for uvicorn as well, and not "no limit".
        tightened["max_message_bytes"] = max(1, int(config.ws_max_size))
    if _is_time(config.ws_ping_interval):
        interval_ms = max(1, round(config.ws_ping_interval * 1000))
        tightened["ping_interval_ms"] = interval_ms
        if _is_time(config.ws_ping_timeout):
            silence_ms = max(_LEAST_SILENCE_MS, round(config.ws_ping_timeout * 1000))
            tightened["idle_timeout_ms"] = interval_ms + silence_ms
    return tightened


def _is_time(seconds: float | None) -> TypeGuard[float]:
    """Whether it bounds anything: uvicorn takes any number, and ``inf`` is never."""
    return seconds is not None and 0 < seconds < math.inf


def _tightened_route(route: Mapping[str, Any], tightened: Mapping[str, int]) -> dict[str, Any]:
    options = dict(route)
    _tighten(options, {name: value for name, value in tightened.items() if name in options}, lambda _: None)
    return options


def _tighten(options: dict[str, Any], tightened: Mapping[str, int], default: Callable[[str], int | None]) -> None:
    for name, most in tightened.items():
        stated = options.get(name, default(name))
        # 0: off, which is looser than any number. What is no number is the core's to refuse.
        if isinstance(stated, int) and (stated == 0 or most < stated):
            options[name] = most
    pings, silence = options.get("ping_interval_ms"), options.get("idle_timeout_ms")
    if isinstance(pings, int) and isinstance(silence, int) and silence and pings:
        options["idle_timeout_ms"] = max(silence, pings + _LEAST_SILENCE_MS)
