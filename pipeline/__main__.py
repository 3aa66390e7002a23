"""`shipyard`, or `python -m pipeline`: the command line, with a plain word for Ctrl-C while libraries still load."""

from __future__ import annotations

from features.runtime.interruption import exit_cleanly_on_interrupt


def main() -> None:
    """Entry point of the console script."""
    exit_cleanly_on_interrupt("nothing had begun")
    from pipeline.cli.app import main as run  # noqa: PLC0415 (it takes a second; on a busy machine, several)

    run()


if __name__ == "__main__":
    main()
