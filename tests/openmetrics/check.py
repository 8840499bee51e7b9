"""Does what Prometheus does: scrapes a server over HTTP, and parses strictly what comes.

Usage: check.py SERVER, the program of core/examples/metrics.rs; exit 1 when something is wrong.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

# As a family is called: without the end of its samples.
EXPECTED = {
    "wsguard_connections": ("gauge", ""),
    "wsguard_handshakes": ("counter", ""),
    "wsguard_messages_received": ("counter", ""),
    "wsguard_messages_sent": ("counter", ""),
    "wsguard_received_bytes": ("counter", "bytes"),
    "wsguard_sent_bytes": ("counter", "bytes"),
    "wsguard_messages_received_compressed": ("counter", ""),
    "wsguard_inflated_bytes": ("counter", "bytes"),
    "wsguard_messages_sent_compressed": ("counter", ""),
    "wsguard_messages_left_plain": ("counter", ""),
    "wsguard_compression_saved_bytes": ("counter", "bytes"),
    "wsguard_verdicts": ("counter", ""),
    "wsguard_inbox_bytes": ("gauge", "bytes"),
    "wsguard_inbox_age_seconds": ("gauge", "seconds"),
    "wsguard_outbox_bytes": ("gauge", "bytes"),
    "wsguard_messages_delayed": ("gauge", ""),
    "wsguard_auth_pending": ("gauge", ""),
    "wsguard_handshake_duration_seconds": ("histogram", "seconds"),
    "wsguard_auth_duration_seconds": ("histogram", "seconds"),
    "wsguard_policy_generation": ("gauge", ""),
    "wsguard_reload_failures": ("counter", ""),
    "wsguard_tls_certificate_expiry_seconds": ("gauge", "seconds"),
    "wsguard_bans": ("gauge", ""),
    "wsguard_cluster_up": ("gauge", ""),
    "wsguard_cluster_lag_seconds": ("gauge", "seconds"),
    "wsguard_cluster_dropped": ("counter", ""),
    "wsguard_build": ("info", ""),
}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def connect(address, token):
    """A peer that has sent its opening handshake, and the first line of the answer."""
    host, port = address.rsplit(":", 1)
    client = socket.create_connection((host, int(port)), timeout=30)
    client.sendall(
        (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Origin: https://app.example\r\nX-Auth-Token: {token}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
    )
    reader = client.makefile("rb")
    first = reader.readline()
    while reader.readline() not in (b"\r\n", b""):
        pass
    return client, reader, first


def scrape(address):
    """The metrics, by family."""
    request = urllib.request.Request(
        f"http://{address}/metrics",
        headers={"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families, sample, **labels):
    found = [s.value for family in families.values() for s in family.samples if s.name == sample and s.labels == labels]
    assert len(found) == 1, (sample, labels, found)
    return found[0]


def check(address, admin):
    client, reader, first = connect(address, "good")
    assert first.startswith(b"HTTP/1.1 101"), first
    _, _, refused = connect(address, "bad")
    assert refused.startswith(b"HTTP/1.1 401"), refused
    client.sendall(b"\x81\x82\0\0\0\0hi")
    assert reader.read(4) == b"\x81\x02hi"
    families = scrape(admin)
    assert {name: (family.type, family.unit) for name, family in families.items()} == EXPECTED
    assert all(family.documentation for family in families.values())
    for sample, expected in [
        ("wsguard_connections", 1),
        ("wsguard_handshakes_total", 2),
        ("wsguard_handshake_duration_seconds_count", 2),
        ("wsguard_auth_duration_seconds_count", 2),
        ("wsguard_messages_received_total", 1),
        ("wsguard_messages_sent_total", 1),
        ("wsguard_received_bytes_total", 8),
        ("wsguard_policy_generation", 1),
    ]:
        assert value(families, sample) == expected, (sample, value(families, sample))
    assert value(families, "wsguard_verdicts_total", code="auth_failed") == 1
    for page, status in [("/healthz", 200), ("/readyz", 200), ("/", 404)]:
        try:
            with urllib.request.urlopen(f"http://{admin}{page}", timeout=30) as answer:
                assert answer.status == status, page
        except urllib.error.HTTPError as error:
            assert error.code == status, page
    return families


def check_dashboard(families):
    """Every metric is documented and on the dashboard; dashboard and alerts ask for nothing that is not there."""
    model = json.loads((ROOT / "docs/grafana.json").read_text())
    words = (ROOT / "docs/OPERATING.md").read_text()
    alerts = (ROOT / "docs/alerts.yml").read_text()
    ids = [panel["id"] for panel in model["panels"]]
    assert len(ids) == len(set(ids)) and model["uid"] == "wsguard"
    queries = " ".join(target["expr"] for panel in model["panels"] for target in panel.get("targets", []))
    asked = set(re.findall(r"\bwsguard_\w+", queries))
    alerted = set(re.findall(r"\bwsguard_\w+", alerts))
    ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    known = {name + end for name, family in families.items() for end in ends[family.type]}
    assert asked <= known, asked - known
    assert alerted and alerted <= known, alerted - known
    for name, family in families.items():
        assert any(name + end in asked for end in ends[family.type]), f"{name} is not on the dashboard"
        assert any(f"`{name}{end}" in words for end in ends[family.type] + [""]), f"{name} is not in docs/OPERATING.md"


def main():
    with subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        address, admin = server.stdout.readline().split()
        check_dashboard(check(address, admin))
        server.stdin.close()
        assert server.wait(timeout=30) == 0
    print(f"{len(EXPECTED)} metrics as prometheus_client reads them")


main()
