"""The command ``wsguard``: ``python -m wsguard --help``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from . import _wsguard


def main() -> int:
    """Runs the command with the arguments of this process; returns its exit code."""
    # Python only notes a signal, and looks at its notes between instructions of its own: here there are none.
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    return _wsguard.command(sys.argv, is_module=Path(sys.argv[0]).name == "__main__.py")


if __name__ == "__main__":
    sys.exit(main())
