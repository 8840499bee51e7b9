"""The policy of a worker of uvicorn: what is stated, what uvicorn's own options make of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from conftest import ORIGIN
from wsguard import ConfigError, _asgi_policy
from wsguard import uvicorn as wsguard_uvicorn
from wsguard.uvicorn import guard


async def application(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no peer comes")


def test_uvicorns_options_only_tighten() -> None:
    def worker(stated: Any, **config: Any) -> Any:
        return _asgi_policy.of_worker(stated, uvicorn.Config(application, log_config=None, **config))

    assert worker({}, ws_max_size=1000)["max_message_bytes"] == 1000
    assert worker({"max_message_bytes": 100}, ws_max_size=1000)["max_message_bytes"] == 100
    assert "max_message_bytes" not in worker({}, ws_max_size=1 << 24)
    # 0 is the least for uvicorn, too, and not "no limit".
    assert worker({}, ws_max_size=0)["max_message_bytes"] == 1
    assert "max_message_bytes" not in worker({}, ws_max_size=None)
    routes = worker({"routes": {"/a": {"max_message_bytes": 5000}, "/b": {}}}, ws_max_size=1000)["routes"]
    assert routes == {"/a": {"max_message_bytes": 1000}, "/b": {}}
    pings = worker({"ping_interval_ms": 0, "idle_timeout_ms": 0}, ws_ping_interval=5, ws_ping_timeout=3)
    assert (pings["ping_interval_ms"], pings["idle_timeout_ms"]) == (5000, 8000)
    assert "ping_interval_ms" not in worker({}, ws_ping_interval=None)
    quick = worker({}, ws_ping_interval=0.5, ws_ping_timeout=0.1)
    assert (quick["ping_interval_ms"], quick["idle_timeout_ms"]) == (500, 1500)
    for never in (0, -1, float("inf"), float("nan")):
        unbounded = worker({}, ws_ping_interval=never, ws_ping_timeout=never)
        assert "ping_interval_ms" not in unbounded and "idle_timeout_ms" not in unbounded
        assert "idle_timeout_ms" not in worker({}, ws_ping_interval=5, ws_ping_timeout=never)
    assert worker({}, forwarded_allow_ips="10.0.0.0/8, ::1,unix:")["trusted_proxies"] == ["10.0.0.0/8", "::1"]
    assert "trusted_proxies" not in worker({}, proxy_headers=False)


def test_workers_cannot_share_the_port_of_the_metrics() -> None:
    stated: Any = {"admin_listen": "127.0.0.1:9100"}
    _asgi_policy.of_worker(stated, uvicorn.Config(application, log_config=None))
    with pytest.raises(ConfigError, match="admin_listen: uvicorn runs 2 workers"):
        _asgi_policy.of_worker(stated, uvicorn.Config(application, log_config=None, workers=2))


def test_uvicorns_switch_only_turns_compression_off() -> None:
    def worker(stated: Any, **config: Any) -> Any:
        return _asgi_policy.of_worker(stated, uvicorn.Config(application, log_config=None, **config))

    stated = {"compression": {"level": 9}, "routes": {"/a": {"compression": {}}, "/b": {}}}
    on = worker(stated)
    assert (on["compression"], on["routes"]) == (stated["compression"], stated["routes"])
    assert "compression" not in worker({})
    off = worker(stated, ws_per_message_deflate=False)
    assert "compression" not in off and off["routes"] == {"/a": {}, "/b": {}}
    # The next worker begins with the policy as it was stated.
    assert stated["compression"] == {"level": 9} and worker(stated) == on


@pytest.mark.parametrize(
    "stated, option",
    [
        ({"listen": "127.0.0.1:1"}, "listen"),
        ({"tls": {"certificate": "a", "key": "b"}}, "tls"),
        ({"auth": "callback"}, "auth"),
        ({"routes": {"/a": {"auth": "callback"}}}, "routes./a.auth"),
        ({"origins": []}, "origins"),
        ({"no_option": 1}, "no_option"),
    ],
)
def test_what_is_no_policy_here_is_an_error_at_once(stated: Any, option: str) -> None:
    with pytest.raises(ConfigError) as error:
        guard(cast(Any, {"threads": 1, "origins": [ORIGIN], "auth": "none", **stated}))
    assert error.value.option == option


def test_the_policy_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(vars(wsguard_uvicorn), "Protocol", raising=False)
    monkeypatch.delenv("WSGUARD_POLICY", raising=False)
    config = uvicorn.Config(application, ws="wsguard.uvicorn:Protocol", log_config=None)
    with pytest.raises(ConfigError, match=r"WSGUARD_POLICY.*origins and auth"):
        config.load()
    file = tmp_path / "policy.json"
    monkeypatch.setenv("WSGUARD_POLICY", str(file))
    with pytest.raises(ConfigError, match=r"WSGUARD_POLICY: the file cannot be read: .*policy\.json"):
        config.load()
    file.write_text("origins")
    with pytest.raises(ConfigError, match=r"WSGUARD_POLICY: options: the file policy\.json is not JSON"):
        config.load()
    file.write_text('{"origins": ["https://app.example"]}')
    with pytest.raises(ConfigError, match="auth"):
        config.load()
    file.write_text('{"origins": ["https://app.example"], "auth": "none"}')
    config.load()
    assert config.ws_protocol_class is wsguard_uvicorn.Protocol
    assert wsguard_uvicorn.Protocol.policy["protocol"] == "raw"
    monkeypatch.delitem(vars(wsguard_uvicorn), "Protocol")
