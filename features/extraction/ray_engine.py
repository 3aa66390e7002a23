"""Compute shards on a Ray cluster: actors hold the encoder, and each computes and writes whole shards.

An actor computes a shard exactly as a local process does (`pipeline.compute`), so the store has the same bytes. An
actor that dies loses its shard, which another actor computes again. The driver alone writes the store.

The images and the project must be at the same path on every node, and so must the folder of finished shards unless they
go to a bucket (`features.extraction.bucket`).

Not `ray.util.ActorPool`: it neither replaces an actor that died nor knows which shard died with it, so a shard that
kills every actor could be neither given up nor named.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from features.encoding.encoder import Encoder
from features.errors import InputError
from features.extraction.decode_worker import Problem
from features.extraction.pipeline import Advance, Extraction, compute
from features.image_store.writer import Shard
from features.index_table import Index
from features.runtime.devices import keep_freed_memory
from features.runtime.ray_cluster import ray_cluster
from features.shards.archives import resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEATHS = 3  # actors that may die over one shard before the shard itself is taken to be the cause


@dataclass(frozen=True)
class OnRay:
    """The engine `ray` of `features.extraction.extract.extract`.

    Attributes:
        load: loads the encoder onto the device of this name; called in each actor.
        device: `compute.device`; with `auto`, each actor gets a GPU if the cluster has any.
    """

    load: Callable[[str], Encoder]
    device: str

    def __call__(self, job: Extraction, todo: Sequence[Shard], shard_folder: Path, advance: Advance) -> list[Problem]:
        """Compute the missing shards into `shard_folder`; see `pipeline.compute`.

        Raises:
            InputError: Ray is not installed or lacks the resources, an actor's weights differ from the driver's, or
                `MAX_DEATHS` actors died over one shard.
        """
        with ray_cluster("extract.engine") as ray:
            cpus, resources = max(1, job.workers), ray.cluster_resources()
            gpus = int(self.device == "cuda" or (self.device == "auto" and resources.get("GPU", 0) >= 1))
            most_actors = _most_actors(resources, cpus, gpus)
            remote = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus)

            # Neither encoder nor index are sent: an actor loads the encoder, and a shard brings its own rows.
            light = replace(job, folder=resolved(job.folder), encoder=None, index=None)  # type: ignore[arg-type]
            node = _NodeSettings(self.load, "cuda" if gpus else "cpu", Path.cwd(), cpus, job.encoder.weights_sha256)
            dispatch = _Dispatch(
                ray, lambda: remote.remote(node, light, shard_folder.resolve()), job.index, advance, deque(todo)
            )
            problems = dispatch.run(min(most_actors, len(todo)))

        if job.bucket:
            job.bucket.fetch(shard_folder, [shard.key for shard in todo])
        return problems


@dataclass(frozen=True)
class _NodeSettings:
    """Settings of an actor.

    Attributes:
        load: loads the encoder onto `device`.
        device: `cpu` or `cuda`.
        root: the project's folder, which relative paths start from.
        cpus: cores to compute on.
        weights_sha256: the driver's weights, which the actor's must equal.
    """

    load: Callable[[str], Encoder]
    device: str
    root: Path
    cpus: int
    weights_sha256: str


class _Actor:
    """A process that holds the encoder."""

    def __init__(self, node: _NodeSettings, job: Extraction, shard_folder: Path) -> None:
        self.node, self.job, self.shard_folder = node, job, shard_folder

    def ready(self) -> list[Problem]:
        """Load the encoder; in a method, because Ray hides what an actor's `__init__` raises.

        Raises:
            InputError: the weights are missing or differ from the driver's, or this node cannot use the bucket.
        """
        os.chdir(self.node.root)
        keep_freed_memory()
        if self.job.bucket:
            self.job.bucket.check_access()

        encoder = self.node.load(self.node.device)
        if encoder.weights_sha256 != self.node.weights_sha256:
            raise InputError(
                f"a Ray node has other weights of {encoder.name} ({encoder.weights_sha256[:12]}) than the driver "
                f"({self.node.weights_sha256[:12]}): give all nodes the same files"
            )
        self.job = replace(self.job, encoder=encoder)
        return []

    def run(self, index: Index, shard: Shard) -> list[Problem]:
        """Write one shard and return its images that failed; `index` holds the images of this shard alone."""
        job = replace(self.job, index=index)
        with TemporaryDirectory() if job.bucket else nullcontext(self.shard_folder) as folder:
            return compute(job, [shard], Path(folder), lambda _: None, cpus=self.node.cpus)


@dataclass
class _Dispatch:
    """The shards in work on actors: a new actor loads the encoder, then gets one shard after the other."""

    ray: Any
    start: Callable[[], Any]
    index: Index
    advance: Advance
    todo: deque[Shard]
    working: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)  # pending result -> actor, its shard
    finished: dict[str, list[Problem]] = field(default_factory=dict)  # key of a shard -> its images that failed
    deaths: dict[str, int] = field(default_factory=dict)  # key of a shard, "" while loading -> actors that died

    def run(self, actors: int) -> list[Problem]:
        """Compute all shards and return the images that failed, in the order of the shards."""
        order = [shard.key for shard in self.todo]
        for _ in range(actors):
            self._add_actor()

        while len(self.finished) < len(order):
            (result, *_), _ = self.ray.wait(list(self.working), num_returns=1)
            actor, shard = self.working.pop(result)
            problems = self._get(result, shard)
            if problems is None:
                self._add_actor()
                continue
            if shard is not None:
                self.finished[shard.key] = problems
                self.advance(len(shard.rows))
            if self.todo:
                self._assign(actor, self.todo.popleft())
        return [problem for key in order for problem in self.finished[key]]

    def _add_actor(self) -> None:
        actor = self.start()
        self.working[actor.ready.remote()] = (actor, None)

    def _assign(self, actor: Any, shard: Shard) -> None:
        # The actor gets the shard's rows of the index alone, so there they are counted from 0.
        local = replace(shard, rows=range(len(shard.rows)))
        self.working[actor.run.remote(self.index.part(shard.rows), local)] = (actor, shard)

    def _get(self, result: Any, shard: Shard | None) -> list[Problem] | None:
        """Return an actor's result; None if the actor died, and then its shard is queued again."""
        errors = self.ray.exceptions
        try:
            problems: list[Problem] = self.ray.get(result)
            return problems
        except errors.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except errors.RayActorError as error:
            key = shard.key if shard else ""
            self.deaths[key] = self.deaths.get(key, 0) + 1
            if self.deaths[key] >= MAX_DEATHS:
                work = f"shard {shard.split} {shard.number}" if shard else "the encoder"
                last = str(error).strip().splitlines()[-1].strip()
                raise InputError(
                    f"{MAX_DEATHS} Ray processes died while they computed {work} ({last}). Finished shards are kept. "
                    "Usual reasons: too little memory (lower compute.batch or compute.workers); the project is not "
                    "installed on a node"
                ) from error
            if shard is not None:
                self.todo.appendleft(shard)
            return None


def _most_actors(resources: Mapping[str, float], cpus: int, gpus: int) -> int:
    """Return how many actors with these CPUs and GPUs fit into the cluster.

    Raises:
        InputError: not a single one fits.
    """
    most = int(resources.get("CPU", 0) // cpus)
    if gpus:
        most = min(most, int(resources.get("GPU", 0) // gpus))
    if most < 1:
        available = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
        raise InputError(
            f"the Ray cluster has {available}, and one process needs {cpus} CPUs (compute.workers) and {gpus} GPUs: "
            "start its nodes first, lower compute.workers, or set compute.device to cpu"
        )
    return most
