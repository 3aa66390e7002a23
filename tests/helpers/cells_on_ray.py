"""Run `shipyard run --engine ray` on a cluster of two nodes, and kill one of them while each fits a method.

It runs in a process of its own because Ray leaves ResourceWarnings behind, which are errors in the tests.

Usage: `python cells_on_ray.py <repository> <method> <method>`. The output of the run is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from features.formats.files import part_path

SECONDS = 300  # for both fits to begin, on a busy machine


def main(repo: Path, methods: list[str]) -> int:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**node)

    command = [sys.executable, "-m", "pipeline", "run", "--engine", "ray"]
    env = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=repo, env=env) as run:
        parts = [part_path(repo / "artifacts/tiny/fitted/mine/base_to_new" / method) for method in methods]
        limit = time.monotonic() + SECONDS
        while not all(part.exists() for part in parts):
            assert run.poll() is None, "the run ended before both nodes were at work"
            assert time.monotonic() < limit
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
