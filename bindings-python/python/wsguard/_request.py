"""What a handshake has told: headers, query, TLS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl


class Headers(Mapping[str, str]):
    """Request headers by name, in any case. A header that came more than once gives its first value; ``getall`` gives
    every one."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        lower = name.lower()
        for known, value in self._pairs:
            if known == lower:
                return value
        raise KeyError(name)

    def getall(self, name: str) -> list[str]:
        """Every value of a header, in the order received."""
        lower = name.lower()
        return [value for known, value in self._pairs if known == lower]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})

    def __repr__(self) -> str:
        # Names only: values are credentials.
        return f"<Headers {list(self)}>"


class Query(Mapping[str, str]):
    """The parameters of a query by name. One that came more than once gives its first value; ``getall`` gives every
    one."""

    __slots__ = ("_pairs",)

    def __init__(self, query: str | None) -> None:
        self._pairs = parse_qsl(query or "", keep_blank_values=True)

    def __getitem__(self, name: str) -> str:
        for known, value in self._pairs:
            if known == name:
                return value
        raise KeyError(name)

    def getall(self, name: str) -> list[str]:
        """Every value of a parameter, in the order received."""
        return [value for known, value in self._pairs if known == name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})

    def __repr__(self) -> str:
        # Names only: a value may be a credential.
        return f"<Query {list(self)}>"


class Tls(NamedTuple):
    """What TLS has agreed upon."""

    #: ``"TLSv1.3"``.
    version: str
    #: The cipher suite by its name at IANA: ``"TLS_AES_128_GCM_SHA256"``.
    cipher: str
    #: The name that the client asked for; ``None`` if it asked for none.
    server_name: str | None
    #: The SHA-256 of the client's certificate (DER) in hexadecimal; ``None`` unless ``tls.client_ca`` asks for one.
    client_certificate_sha256: str | None
