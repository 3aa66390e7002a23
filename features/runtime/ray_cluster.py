"""Connect to a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from features.errors import InputError


@contextmanager
def ray_cluster(setting: str) -> Iterator[Any]:
    """Yield Ray, connected to the cluster of RAY_ADDRESS, to one that runs on this machine, or to a new local one.

    Args:
        setting: what asks for Ray and can be local instead, for the message: `extract.engine`.

    Raises:
        InputError: Ray is not installed, or no cluster answers or starts.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError(
            f"{setting} is ray, which is not installed: pip install -e '.[ray]', or set it to local"
        ) from None
    if ray.is_initialized():
        yield ray
        return

    try:
        ray.init(include_dashboard=False, log_to_driver=False)
    except Exception as error:  # also a bare Exception: "The current node timed out during startup"
        address = os.environ.get("RAY_ADDRESS", "not set")
        raise InputError(
            f"cannot connect to a Ray cluster or start one (RAY_ADDRESS: {address}): {error or type(error).__name__}. "
            "If the lines above mention a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's"
        ) from error

    try:
        yield ray
    finally:
        ray.shutdown()
