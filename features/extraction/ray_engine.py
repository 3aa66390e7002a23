"""Shards on a Ray cluster: actors hold the encoder, each takes whole shards and writes them whole.

An actor computes a shard exactly as a process of one's own does (`pipeline.compute`), so the store has the
same bytes. One that dies costs its shard, which another takes. The driver alone puts the store together.

The images and the project must be at the same path on every node; so must the folder where finished shards wait, if
they do not wait in a bucket (`features.extraction.bucket`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from features.encoding.encoder import Encoder
from features.errors import InputError
from features.extraction.decode_worker import Problem
from features.extraction.pipeline import Advance, Extraction, compute
from features.image_store.writer import Shard
from features.index import Index

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIES = 3  # of a shard, before its actors' deaths are taken for its own doing
INSTALL = "extract.engine is ray, which is not installed: pip install 'shipyard-clip[ray]', or set it to local"


@dataclass(frozen=True)
class OnRay:
    """The engine `ray` of `features.extraction.extract.extract`.

    Attributes:
        load: makes the encoder on the device of this name, in each actor.
        device: `compute.device`; with `auto`, an actor has a GPU if the cluster has any.
    """

    load: Callable[[str], Encoder]
    device: str

    def __call__(self, job: Extraction, todo: Sequence[Shard], kept: Path, advance: Advance) -> list[Problem]:
        """Compute the missing shards into `kept`; see `pipeline.compute`.

        Raises:
            InputError: Ray is not installed or has not the resources, an actor's weights differ from the driver's, or
                a shard's actors died `TRIES` times.
        """
        with _cluster() as ray:
            cpus, resources = max(1, job.workers), ray.cluster_resources()
            gpus = int(self.device == "cuda" or (self.device == "auto" and resources.get("GPU", 0) >= 1))
            room = _room(resources, cpus, gpus)
            remote = ray.remote(_Actor).options(num_cpus=cpus, num_gpus=gpus)
            # The index stays here: a shard takes along its own rows alone.
            plain = replace(job, folder=job.folder.resolve(), encoder=None, index=None)  # type: ignore[arg-type]
            node = _Node(self.load, "cuda" if gpus else "cpu", Path.cwd(), cpus, job.encoder.weights_sha256)
            dispatch = _Dispatch(
                ray, lambda: remote.remote(node, plain, kept.resolve()), job.index, advance, deque(todo)
            )
            problems = dispatch.run(min(room, len(todo)))
        if job.bucket:
            job.bucket.fetch(kept, [shard.key for shard in todo])
        return problems


@dataclass(frozen=True)
class _Node:
    """What an actor is told of where it computes, and of the weights that it must find there."""

    load: Callable[[str], Encoder]
    device: str
    root: Path
    cpus: int
    weights_sha256: str


class _Actor:
    """A process that holds the encoder."""

    def __init__(self, node: _Node, job: Extraction, kept: Path) -> None:
        self.node, self.job, self.kept = node, job, kept

    def ready(self) -> list[Problem]:
        """Load the encoder; here and not before, for Ray tells only of a method what went wrong.

        Raises:
            InputError: the weights are not here, or not the driver's; or the bucket cannot be used from here.
        """
        os.chdir(self.node.root)
        if self.job.bucket:
            self.job.bucket.try_out()
        encoder = self.node.load(self.node.device)
        if encoder.weights_sha256 != self.node.weights_sha256:
            raise InputError(
                f"a Ray node has other weights of {encoder.name} ({encoder.weights_sha256[:12]}) than the driver "
                f"({self.node.weights_sha256[:12]}): give all nodes the same files"
            )
        self.job = replace(self.job, encoder=encoder)
        return []

    def run(self, index: Index, shard: Shard) -> list[Problem]:
        """Write one shard, whose images `index` holds alone; say which of them failed."""
        job = replace(self.job, index=index)
        with TemporaryDirectory() if job.bucket else nullcontext(self.kept) as kept:
            return compute(job, [shard], Path(kept), lambda _: None, cpus=self.node.cpus)


@dataclass
class _Dispatch:
    """Shards to actors: a new actor says that it is ready, then gets one shard after the other."""

    ray: Any
    start: Callable[[], Any]
    index: Index
    advance: Advance
    todo: deque[Shard]
    working: dict[Any, tuple[Any, Shard | None]] = field(default_factory=dict)  # answer to come -> actor, its shard
    found: dict[str, list[Problem]] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)

    def run(self, actors: int) -> list[Problem]:
        """Bring all shards to disk; the problems are in the order of the shards."""
        order = [shard.key for shard in self.todo]
        for _ in range(actors):
            self._add()
        while len(self.found) < len(order):
            (answer, *_), _ = self.ray.wait(list(self.working), num_returns=1)
            actor, shard = self.working.pop(answer)
            problems = self._result(answer, shard)
            if problems is None:
                self._add()
                continue
            if shard is not None:
                self.found[shard.key] = problems
                self.advance(len(shard.rows))
            if self.todo:
                self._hand(actor, self.todo.popleft())
        return [problem for key in order for problem in self.found[key]]

    def _add(self) -> None:
        actor = self.start()
        self.working[actor.ready.remote()] = (actor, None)

    def _hand(self, actor: Any, shard: Shard) -> None:
        own = replace(shard, rows=range(len(shard.rows)))
        self.working[actor.run.remote(_part(self.index, shard.rows), own)] = (actor, shard)

    def _result(self, answer: Any, shard: Shard | None) -> list[Problem] | None:
        """What an actor says, or None where it died: then its shard is to be done again."""
        errors = self.ray.exceptions
        try:
            problems: list[Problem] = self.ray.get(answer)
            return problems
        except errors.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except errors.RayActorError as error:
            key = shard.key if shard else ""
            self.deaths[key] = self.deaths.get(key, 0) + 1
            if self.deaths[key] >= TRIES:
                what = f"shard {shard.split} {shard.number}" if shard else "the encoder"
                last = str(error).strip().splitlines()[-1].strip()
                raise InputError(
                    f"Ray processes died {TRIES} times over {what} ({last}). Finished shards are kept. Usual reasons: "
                    "too little memory (lower compute.batch or compute.workers); the project not installed on a node"
                ) from error
            if shard is not None:
                self.todo.appendleft(shard)
            return None


def _part(index: Index, rows: range) -> Index:
    """The index of some consecutive rows."""
    cut = slice(rows.start, rows.stop)
    return Index(index.paths[cut], index.class_ids[cut], index.splits[cut], index.sizes[cut], index.sha256[cut])


def _room(resources: Mapping[str, float], cpus: int, gpus: int) -> int:
    """How many actors of so many CPUs and GPUs there is room for."""
    room = int(resources.get("CPU", 0) // cpus)
    room = min(room, int(resources.get("GPU", 0) // gpus)) if gpus else room
    if room < 1:
        has = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
        raise InputError(
            f"the Ray cluster has {has}, and one process needs {cpus} CPUs (compute.workers) and {gpus} GPUs: start "
            "its nodes first, lower compute.workers, or set compute.device to cpu"
        )
    return room


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected to the cluster of RAY_ADDRESS, to one that runs here, or to a new one of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError(INSTALL) from None
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        address = os.environ.get("RAY_ADDRESS", "not set")
        raise InputError(
            f"no Ray cluster (RAY_ADDRESS: {address}): {error}; if the lines above speak of a token, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
