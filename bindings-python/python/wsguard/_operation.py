"""What an operator does with a server that runs: other options, bans."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from . import _checks, _drain, _log, _policy_file
from ._contract import options_text
from ._errors import Error
from ._on_loop import OnLoop
from ._types import Ban

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._options import Options


class Operated(OnLoop):
    """A server whose policy can change while it runs."""

    def __init__(self, base: Options | None = None, /, **options: Unpack[Options]) -> None:
        super().__init__(base, **options)
        #: The file that the options are of, and what was stated beside it.
        self._file: str | None = None
        self._beside: dict[str, Any] = {}
        # A signal handler that reloads may interrupt a reload of the same thread.
        self._reloading = threading.RLock()
        #: How many there were, and the generation that the last one has made.
        self._reloads = self._generation = 0

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], /, **options: Unpack[Options]) -> Self:
        """A server whose options are in a file: a JSON object, or TOML if the name ends in ``.toml`` (Python 3.11).
        :meth:`reload` without arguments reads it again; so does SIGHUP while :meth:`run` runs.

        Args:
            path: the file; it holds options and nothing else.
            options: beside the file, now and at each reload; they take precedence over it.

        Raises:
            ConfigError: the file is not JSON or TOML, or its options are invalid; the error names the option.
            OSError: the file cannot be read.
        """
        path = os.path.abspath(path)
        server = cls(_policy_file.read(path), **options)  # type: ignore[arg-type]
        server._file, server._beside = path, dict(options)
        return server

    def reload(self, base: Options | None = None, /, **options: Unpack[Options]) -> int:
        """Runs by other options from here on, for whoever comes and for what is open, as if the server were started
        with them and the same decorators. All or nothing: after an error the server runs as before. Calling it takes as
        long as compiling the schemas does: beside an event loop call it by ``asyncio.to_thread``. If a signal handler
        calls it in the midst of another call, what it states is in force then.

        An event that the options stated when its handler came, and state no longer, is unknown from then on. One that
        the options did not state then comes with any data again, as at the start: the log warns of it.

        An open connection is closed with 1008 (``session_revoked``) if its static token is gone, or the key that has
        signed its JSON Web Token, or if its path is not served any more; with 1008 (``banned``) if ``deny_ips`` has
        its address.

        Args:
            base: the options as a dictionary, as for the constructor.
            options: the options: a whole set of them, because what is not stated gets its default. Without any
                argument the file of :meth:`from_file` is read again.

        Returns:
            The generation of the policy, which is 1 at the start.

        Raises:
            ConfigError: the options are invalid, or one cannot change while the server runs (``not_reloadable``:
                ``listen``, ``threads``, ``protocol``, …); the error names the option.
            OSError: the file cannot be read.
            TypeError: there are no options, and no file.
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
        self._check_own_process()
        with self._reloading:
            reloads = self._reloads
            if base is not None or options:
                stated: dict[str, Any] = {**(base or {}), **options}
            elif self._file is not None:
                stated = {**_policy_file.read(self._file), **self._beside}
            else:
                raise TypeError("reload needs a whole set of options: only Server.from_file has a file to read again")
            events = self._events.renewed(stated)
            policy = self._policy(events, is_reload=True)
            text, handlers = options_text(policy), self._handlers(events, policy)
            if self._reloads != reloads:
                # A signal handler has reloaded in the midst of this one: what it has said is newer.
                return self._generation
            generation = self._reload(text, handlers)
            if self._reloads != reloads:
                return self._generation
            before, self._events = self._events, events
            self._generation, self._reloads = generation, reloads + 1
        opened = events.opened_since(before)
        if opened:
            names = ", ".join(opened)
            _log.say(logging.WARNING, f"the options do not state {names} any more: any data reaches the handlers")
        return generation

    def _reload_file(self) -> None:
        """Reads the file again; what is wrong with it goes to the log."""
        try:
            self.reload()
        except (Error, OSError, TypeError) as error:
            _log.say(logging.ERROR, f"{self._file} is not in force, the policy stays as it is: {error}")

    def ban(
        self, *, ip: str | None = None, user: str | None = None, for_ms: int | None = None, reason: str = ""
    ) -> None:
        """Keeps an address, a network or a user out: handshakes are refused with 403 (``banned``), and what is open is
        closed with 1008 (``banned``). A ban of the same before does not count any more.

        Args:
            ip: an address or a CIDR; an IPv6 address stands for its /64. Either this or ``user``.
            user: the name of a user.
            for_ms: milliseconds, at least 1; default: until :meth:`unban`.
            reason: for :meth:`bans` and the log, at most 256 bytes; default empty.

        Raises:
            InvalidArgument: one of these is not accepted, or 65 536 bans are in force.
            TypeError: neither ``ip`` nor ``user`` is given, or both are.
            UsageError: the server was not started (``not_started``), has stopped (``stopped``), or belongs to the
                parent process (``forked``).
        """
        _checks.texts(ip=ip, user=user, reason=reason)
        self._ban(ip, user, None if for_ms is None else _drain.milliseconds("for_ms", for_ms), reason)

    def unban(self, *, ip: str | None = None, user: str | None = None) -> bool:
        """Lifts a ban of exactly this address, network or user. Returns whether there was one.

        Raises:
            InvalidArgument: ``ip`` is no address or CIDR, or ``user`` is no name of a user.
            TypeError: neither is given, or both are.
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
        _checks.texts(ip=ip, user=user)
        return self._unban(ip, user)

    def bans(self) -> list[Ban]:
        """The bans in force, in the order of their ends: those of :meth:`ban`, and those of ``auto_ban``.

        Raises:
            UsageError: the server was not started (``not_started``), or belongs to the parent process (``forked``).
        """
        return [Ban(*ban) for ban in self._bans()]
