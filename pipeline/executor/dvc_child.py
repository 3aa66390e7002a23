"""`python -m pipeline.executor.dvc_child`: the command line of DVC, with a clean exit on Ctrl-C during its imports."""

from __future__ import annotations

import os
import sys

from features.runtime.interruption import exit_cleanly_on_interrupt


def main() -> int:
    """Run `dvc` with the arguments of this process and return its exit status."""
    # The import takes seconds. DVC handles Ctrl-C itself once it runs.
    exit_cleanly_on_interrupt("DVC was not started")
    from dvc.cli import main as dvc

    from features.runtime.watch import end_with_the_run, watched_environment
    from pipeline.executor import lock_writer

    end_with_the_run()
    os.environ.update(watched_environment())  # the stages end with this process, too
    lock_writer.install()

    status: int = dvc(sys.argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
