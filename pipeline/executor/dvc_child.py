"""`python -m pipeline.executor.dvc_child`: DVC, with a plain end for Ctrl-C while it still imports; later it has its own."""

from __future__ import annotations

import sys

from features.runtime.interruption import exit_cleanly_on_interrupt


def main() -> int:
    """What `dvc` does with these arguments; its exit status."""
    exit_cleanly_on_interrupt("DVC had not begun")
    from dvc.cli import main as dvc

    status: int = dvc(sys.argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
