"""The headers of a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


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
