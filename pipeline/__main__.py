"""Entry point of `shipyard` and `python -m pipeline`; handles Ctrl-C from the first moment on."""

from __future__ import annotations

from features.runtime.interruption import exit_cleanly_on_interrupt


def main() -> None:
    """Run the console script."""
    exit_cleanly_on_interrupt("nothing was started")
    # The import takes a second, on a busy machine several, so the line above must precede it.
    from pipeline.cli.app import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
