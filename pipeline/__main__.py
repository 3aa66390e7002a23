"""`shipyard`, or `python -m pipeline`: the command line, with a plain word for Ctrl-C while libraries still load."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from pipeline import cli  # noqa: PLC0415 (it takes a second; on a busy machine, several)
    except KeyboardInterrupt:
        print("interrupted: nothing had begun", file=sys.stderr)
        sys.exit(130)  # as features.commandline has it, which would have to be imported
    cli.main()


if __name__ == "__main__":
    main()
