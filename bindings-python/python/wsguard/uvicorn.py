"""A WebSocket protocol for uvicorn: it hands each upgrade to the core, and the application stays as it is.

::

    WSGUARD_POLICY=policy.json uvicorn app:app --ws wsguard.uvicorn:Protocol --http wsguard.uvicorn:HttpProtocol

    uvicorn.run(app, ws=guard(origins=["https://app.example.com"], auth="none"), http=HttpProtocol)

Without ``HttpProtocol`` uvicorn waits for ever for a request that does not end.

Where the application authenticates its users itself, before it accepts, ``auth`` is ``"none"``.
"""

from __future__ import annotations

import copyreg
import os
from typing import TYPE_CHECKING, Any

from . import _asgi_policy, _policy_file
from ._asgi_http import HttpProtocol
from ._asgi_protocol import WebSocketProtocol
from ._errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import Options

    #: The class by the policy in the file that ``WSGUARD_POLICY`` names.
    Protocol: type[WebSocketProtocol]

__all__ = ["HttpProtocol", "Protocol", "guard"]

#: The environment variable that names the file of the policy.
_VARIABLE = "WSGUARD_POLICY"


def guard(base: Options | None = None, /, **options: Unpack[Options]) -> type[WebSocketProtocol]:
    """The class for uvicorn's ``ws``, with a policy built in.

    Args:
        base: the options as a dictionary, for instance those of a file.
        options: the options; they take precedence over ``base``. ``protocol`` is ``"raw"`` unless stated.
            ``trusted_proxies`` comes from uvicorn's ``forwarded_allow_ips`` unless stated. uvicorn's
            ``ws_max_size`` and ``ws_ping_*`` may only tighten what the policy says, and its
            ``ws_per_message_deflate`` may only turn ``compression`` off.

    Raises:
        ConfigError: the options are invalid, or belong to uvicorn (``listen``, ``tls``); the error names the option.
    """
    policy = _asgi_policy.checked({**(base or {}), **options})
    stated = {"policy": policy, "hides_query": _asgi_policy.takes_query_tokens(policy)}
    made: Any = _Guarded("Protocol", (WebSocketProtocol,), stated)
    return made  # type: ignore[no-any-return]


class _Guarded(type):
    """The kind of such a class. uvicorn starts a worker anew, and sends it the class: as the policy that it is made
    of."""


def _as_policy(made: Any) -> tuple[Any, ...]:
    return guard, (made.policy,)


copyreg.pickle(_Guarded, _as_policy)


def __getattr__(name: str) -> Any:
    if name != "Protocol":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # On access, which is uvicorn's start: a policy that is missing must not wait for the first peer.
    path = os.environ.get(_VARIABLE)
    if not path:
        raise _asgi_policy.missing(_VARIABLE)
    try:
        policy = _policy_file.read(path)
    except OSError as error:
        message = f"{_VARIABLE}: the file cannot be read: {error}"
        raise ConfigError(message, code="invalid_option", option=_VARIABLE) from error
    except ConfigError as error:
        raise ConfigError(f"{_VARIABLE}: {error}", code=error.code, option=error.option) from None
    made = guard(policy)  # type: ignore[arg-type]
    globals()[name] = made
    return made
