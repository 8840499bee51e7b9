# -*- coding: utf-8 -*-
"""Which Autobahn cases are run, and what their report must say. Called by run.sh; Python 2.7.

  cases.py config [--fast] HOST URL OUT [PATTERN...]     writes OUT/config.json for wstest
  cases.py compare [--update] HOST EXPECTED OUT          reads OUT/report; exit 1 on any difference
"""
from __future__ import print_function

import collections
import io
import json
import os
import sys

# 8 and 11 do not exist. 12 and 13 are compression.
GROUPS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*"]

# Left out by --fast: the same with more bytes. 9.1 and 9.2 are messages of 1 to 16 MiB (256 KiB and less stay), 9.3 and 9.4
# are 4 MiB in fragments of 64 bytes to 4 MiB (1 KiB stays), 9.5 and 9.6 are 1 MiB in chops (2 KiB stays), 9.7 and 9.8 are
# 1000 messages (the largest go). 12 and 13 send 1000 messages in each case: of 12.1 to 12.5, which differ in what is sent, and
# of 13.1 to 13.7, which differ in the offer, one of 16 bytes and one of 8192 stay, and one of 32768 in fragments of 256.
COMPRESSED = ["12.%d" % group for group in range(1, 6)] + ["13.%d" % group for group in range(1, 8)]
KEPT = [1, 6, 13]
SLOW = ["9.%d.%d" % (group, case) for group, cases in (
    (1, [3, 4, 5, 6]), (2, [3, 4, 5, 6]),
    (3, [1, 2, 3, 4, 6, 7, 8, 9]), (4, [1, 2, 3, 4, 6, 7, 8, 9]),
    (5, [1, 2, 3, 4, 5]), (6, [1, 2, 3, 4, 5]),
    (7, [6]), (8, [6]),
) for case in cases] + ["%s.%d" % (group, case) for group in COMPRESSED for case in range(1, 19) if case not in KEPT]

# Close codes that an endpoint sends when its peer breaks the protocol (RFC 6455 section 7.4.1).
VIOLATION_CODES = (1002, 1007)


def order(case):
    return [int(part) for part in case.split(".")]


def config(arguments):
    fast = arguments[0] == "--fast"
    host, url, out = arguments[fast:fast + 3]
    write(os.path.join(out, "config.json"), {
        "outdir": os.path.join(out, "report"),
        "servers": [{"agent": host, "url": url}],
        "cases": arguments[fast + 3:] or GROUPS,
        "exclude-cases": SLOW if fast else [],
        "exclude-agent-cases": {},
    })


def compare(arguments):
    update = arguments[0] == "--update"
    host, expected_path, out = arguments[update:]
    actual, faults = read_report(os.path.join(out, "report"), host)
    if update:
        write(expected_path, actual)
    expected = read(expected_path)
    asked = read(os.path.join(out, "config.json"))
    whole = asked["cases"] == GROUPS
    for case in set(actual) | (set(expected) - set(asked["exclude-cases"]) if whole else set()):
        if actual.get(case) != expected.get(case):
            faults[case].append("expected %s, got %s" % (show(expected.get(case)), show(actual.get(case))))
    for case in sorted(faults, key=order):
        for fault in faults[case]:
            print("%s: case %s: %s" % (host, case, fault))
    listed = [case for case in sorted(actual, key=order) if actual[case]["behavior"] != "OK"]
    for case in listed:
        print("%s: case %s is %s" % (host, case, actual[case]["behavior"]))
    print("autobahn %s: %d passed, %d failed" % (host, len(set(actual) - set(faults)), len(faults)))
    return 1 if faults or not actual else 0


def read_report(directory, host):
    """Every case's outcome, and what is wrong with it whatever is expected."""
    actual, faults = collections.OrderedDict(), collections.defaultdict(list)
    index = read(os.path.join(directory, "index.json")).get(host, {})
    for case in sorted(index, key=order):
        report = read(os.path.join(directory, index[case]["reportfile"]))
        outcome = collections.OrderedDict([
            ("behavior", report["behavior"]),
            ("behaviorClose", report["behaviorClose"]),
            ("closeCode", report["remoteCloseCode"]),
        ])
        actual[case] = outcome
        if outcome["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL"):
            faults[case].append("behavior is %s: %s" % (outcome["behavior"], report["result"]))
        if outcome["behaviorClose"] not in ("OK", "INFORMATIONAL"):
            faults[case].append("close is %s: %s" % (outcome["behaviorClose"], report["resultClose"]))
        # The suite waits for us to fail the connection. A dropped socket satisfies it; it does not satisfy us.
        violates = not report["expectedClose"]["closedByMe"]
        if violates and outcome["closeCode"] not in VIOLATION_CODES:
            faults[case].append("the peer broke the protocol and was sent the close code %s" % outcome["closeCode"])
    return actual, faults


def show(outcome):
    if outcome is None:
        return "nothing"
    return "%(behavior)s, close %(behaviorClose)s with code %(closeCode)s" % outcome


def read(path):
    with io.open(path, encoding="utf-8") as file:
        return json.load(file)


def write(path, value):
    """JSON with one line for each member."""
    lines = ",\n".join("  %s: %s" % (json.dumps(key), json.dumps(value[key])) for key in value)
    with io.open(path, "w", encoding="utf-8") as file:
        file.write(u"{\n%s\n}\n" % lines)


if __name__ == "__main__":
    sys.exit({"config": config, "compare": compare}[sys.argv[1]](sys.argv[2:]))
