"""Stage `code`: the project's sources -> a digest of the code that each stage runs."""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts import paths
from pipeline.config.params import load
from pipeline.steps.code import write_digests


def main() -> None:
    """Write `artifacts/code/`."""
    write_digests(load(), paths.CODE)


if __name__ == "__main__":
    run(main)
