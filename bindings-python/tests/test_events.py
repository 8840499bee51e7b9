"""What options and decorators declare together: at a start, after a reload, and when one of them fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
import wsguard
from conftest import options
from wsguard import ConfigError
from wsguard._contract import options_text

NAMES = ("a", "b", "c")
ROUTES = ("/r", "/s")


class Model(pydantic.BaseModel):
    x: int


def handler(conn: wsguard.Connection, data: Any) -> None:
    """Does nothing."""


def on(server: Any, name: str, **stated: Any) -> None:
    server.on(name, **stated)(handler)


def random_events(dice: random.Random) -> dict[str, Any]:
    each: list[Any] = [{}, {"schema": {"type": "string"}}, {"schema": Model}, {"cost": 2}, {"roles": ["admin"]}]
    return {name: dice.choice(each) for name in NAMES if dice.random() < 0.5}


def random_options(dice: random.Random) -> Any:
    stated = options()
    if dice.random() < 0.7:
        stated["events"] = random_events(dice)
    if dice.random() < 0.7:
        stated["routes"] = {
            route: {"events": random_events(dice)} if dice.random() < 0.6 else {}
            for route in ROUTES
            if dice.random() < 0.8
        }
    return stated


def random_decorators(dice: random.Random) -> list[Callable[[wsguard.Server], object]]:
    """What may be written below a server; some of it contradicts some options."""
    each: list[dict[str, Any]] = [{}, {}, {}, {"schema": Model}, {"schema": {}}, {"cost": 3}, {"model": Model}]
    each += [{"raw": True}, {"roles": ["staff"]}, {"on_mismatch": "reply"}]
    found: list[Callable[[wsguard.Server], object]] = []
    for _ in range(dice.randrange(1, 5)):
        name, stated, route = dice.choice(NAMES), dict(dice.choice(each)), dice.choice((None, None, *ROUTES))
        if route is not None:
            stated["route"] = route
        if dice.random() < 0.7:
            found.append(lambda server, name=name, stated=stated: server.on(name, **stated)(handler))  # type: ignore[misc]
        else:
            found.append(lambda server, name=name, stated=stated: server.event(name, **stated))  # type: ignore[misc]
    return found


def dropped(server: wsguard.Server, after: Any) -> bool:
    """Whether a decorator that says no more handles what the options stated when it came, and ``after`` does not."""

    def states(name: str, route: str | None) -> bool:
        routes = after.get("routes", {})
        if route is not None:
            return name in routes.get(route, {}).get("events", {})
        return name in after.get("events", {}) or any(name in own.get("events", {}) for own in routes.values())

    said = [each for each in server._events._said if each.is_bare and not each.declares]
    return any(not states(each.name, each.route) for each in said)


def known(server: wsguard.Server) -> Any:
    """All that a server knows of its events."""
    events = server._events
    # An instance is made by a method that is bound at each access.
    return options_text(server._policy(events)), repr(events.specs(lambda handler, kind, event: handler)), events.names


def test_a_reload_is_as_good_as_a_start() -> None:
    async def main(seed: int) -> str:
        dice = random.Random(seed)
        before, after, decorators = random_options(dice), random_options(dice), random_decorators(dice)
        server = wsguard.Server(before)
        kept = []
        for decorate in decorators:
            try:
                decorate(server)
                kept.append(decorate)
            except ConfigError:
                continue
        async with server:
            was = known(server)
            if dropped(server, after):
                try:
                    server.reload(after)
                except ConfigError:
                    assert known(server) == was, seed
                    return "refused"
                for said in server._events._said:
                    if (
                        said.is_bare
                        and not said.declares
                        and said.route is None
                        and said.name not in after.get("events", {})
                    ):
                        stated = [
                            other for other in server._events._said if other.name == said.name and not other.is_bare
                        ]
                        assert stated or said.name not in server._policy(server._events).get("events", {}), seed
                server.reload(before)
                assert known(server) == was, seed
                return "dropped"
            try:
                started = wsguard.Server(after)
                for decorate in kept:
                    decorate(started)
            except ConfigError as refused:
                with pytest.raises(ConfigError) as again:
                    server.reload(after)
                assert (again.value.option, again.value.code) == (refused.option, refused.code), seed
                assert known(server) == was, seed
                return "refused"
            server.reload(after)
            assert known(server) == known(started), seed
            # And back.
            server.reload(before)
            assert known(server) == was, seed
            return "reloaded" if known(started) != was else "same"

    outcomes = [asyncio.run(main(seed)) for seed in range(400)]
    # Each of them was tried, so that the property is no empty one.
    assert min(map(outcomes.count, ("refused", "reloaded", "same", "dropped"))) >= 5, outcomes


def takes_too_little(conn: wsguard.Connection) -> None:
    """Does nothing."""


def refuse(server: wsguard.Server, **stated: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        on(server, "x", **stated)
    return refused.value


class Wide(pydantic.BaseModel):
    x: int = pydantic.Field(validation_alias=pydantic.AliasChoices("x", "y"))


@pytest.mark.parametrize(
    "stated",
    [
        {"schema": {"type": "nothing"}, "cost": 5, "roles": ["admin"]},
        {"schema": {"type": "string"}, "cost": -1},
        {"cost": 5, "roles": ["a b"]},
        {"cost": 5, "on_mismatch": "perhaps"},
        {"cost": 5, "schema": Wide},
        {"cost": 5, "schema": Model, "model": Model},
        {"cost": 5, "schema": Model, "raw": True},
        {"cost": 5, "model": Model, "raw": True},
        {"cost": 5, "route": "/unknown"},
        {"cost": 5, "model": 3},
    ],
)
@pytest.mark.parametrize("options_state_it", [False, True])
def test_a_decorator_that_raises_declares_nothing(stated: Any, options_state_it: bool) -> None:
    server = wsguard.Server(options(**({"events": {"x": {"schema": True}}} if options_state_it else {})))
    was = known(server)
    refuse(server, **stated)
    assert known(server) == was
    # What it would have said can be said well.
    server.on("x", cost=7)(handler)
    assert server._events.options()["events"]["x"]["cost"] == 7


def test_a_second_handler_changes_nothing() -> None:
    server = wsguard.Server(options())
    server.on("x", cost=2)(handler)
    was = known(server)
    assert refuse(server, roles=["admin"]).code == "contradiction"
    assert known(server) == was
    decorator = server.on("y", cost=2)
    with pytest.raises(TypeError, match="is called with"):
        decorator(takes_too_little)  # type: ignore[type-var]
    assert known(server) == was


def test_what_only_routes_have_is_not_opened_to_every_path() -> None:
    server = wsguard.Server(options(routes={"/r": {}}))
    server.event("x", route="/r", roles=["admin"])
    refused = refuse(server)
    assert (refused.option, refused.code) == ("events.x", "contradiction") and 'route="/r"' in str(refused)
    assert "events" not in server._events.options()
    server.on("x", route="/r")(handler)
    assert server._events.options()["routes"]["/r"]["events"] == {"x": {"roles": ["admin"]}}


@pytest.mark.parametrize("wrong", [{"x": 5}, 5, [], "x", {"x": {"schema": 5}}, {"x": {"cost": "y"}}])
@pytest.mark.parametrize("route", [None, "/r"])
def test_wrong_events_are_no_better_at_a_reload(wrong: Any, route: str | None) -> None:
    async def main() -> None:
        more: Any = {} if route is None else {"route": route}
        right: Any = options(routes={"/r": {}})
        stated: Any = {**right, "events": wrong} if route is None else options(routes={"/r": {"events": wrong}})
        with pytest.raises(ConfigError) as refused:
            wsguard.Server(stated)
        server = wsguard.Server(right)
        on(server, "x", roles=["admin"], **more)
        async with server:
            with pytest.raises(ConfigError) as again:
                server.reload(stated)
            assert (again.value.option, again.value.code) == (refused.value.option, refused.value.code)

    asyncio.run(main())
