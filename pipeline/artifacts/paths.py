"""Where every artifact lies; `dvc.yaml` names the same paths, and a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("artifacts")
CODE = ROOT / "code"  # digests of the source that each stage runs (stage `code`)
SCRATCH = ROOT / ".scratch"  # what interrupted stages resume from; never an output
TIMES = ROOT / ".times.csv"  # how long each stage took on this machine; never an output


def index(dataset: str) -> Path:
    """Images of a data set, a row each (Parquet)."""
    return ROOT / "index" / f"{dataset}.parquet"


def names(dataset: str) -> Path:
    """Class names and templates of a data set (JSON)."""
    return ROOT / "index" / f"{dataset}.json"


@dataclass(frozen=True)
class TaskPaths:
    """Artifacts of one task on one data set, by one encoder."""

    artifacts: Path
    dataset: str
    task: str

    def _at(self, kind: str, *rest: str) -> Path:
        return self.artifacts.joinpath(kind, self.dataset, self.task, *rest)

    @property
    def train(self) -> Path:
        """The seen classes, and every seed's training images (HDF5)."""
        return self._at("tasks", "train.h5")

    @property
    def unseen(self) -> Path:
        """The classes that are only named (HDF5)."""
        return self._at("tasks", "unseen.h5")

    @property
    def validation(self) -> Path:
        """The seen classes, and every seed's validation images (HDF5)."""
        return self._at("tasks", "validation.h5")

    @property
    def test(self) -> Path:
        """All that judging needs (HDF5)."""
        return self._at("tasks", "test.h5")

    def generator(self, generator: str) -> Path:
        """Folder of fitted generators: `seed=<s>.safetensors` and `log.csv`."""
        return self._at("generators", generator)

    def synthetic(self, generator: str) -> Path:
        """Folder of synthetic features: `seed=<s>/part-*.parquet`."""
        return self._at("synthetic", generator)

    def generator_diagnostics(self, generator: str) -> Path:
        """Folder of what a generator looks like: `projection.csv`, `training.csv`."""
        return self._at("diagnostics", f"generator={generator}")

    def fitted(self, run: str) -> Path:
        """Folder of fitted classifiers: `seed=<s>.safetensors`."""
        return self._at("fitted", run)

    @property
    def proxy(self) -> TaskPaths:
        """Artifacts of the task's rehearsal."""
        return TaskPaths(self.artifacts, self.dataset, proxy_task(self.task))

    @property
    def selection(self) -> Path:
        """Which run to use, and how sure that is (JSON)."""
        return self.artifacts / "selection" / self.dataset / f"{self.task}.json"

    def scores(self, run: str) -> Path:
        """Scores of every seed (JSON)."""
        return self._at("scores", f"{run}.json")

    def quality(self, generator: str) -> Path:
        """What a generator's features are like, every seed (JSON)."""
        return self._at("scores", f"{generator}.quality.json")

    def logits(self, run: str) -> Path:
        """Logits of every seed and eval_split, with the labels (HDF5)."""
        return self._at("logits", f"{run}.h5")

    def diagnostics(self, run: str) -> Path:
        """Folder of what a run looks like: `confusion.csv`, `reliability.csv`, and `training.csv` if it has epochs."""
        return self._at("diagnostics", run)


def run_name(method: str, generator: str | None) -> str:
    """What a row of a table is about: `coop`, or `coop+ship` for a method given a generator's features."""
    return f"{method}+{generator}" if generator else method


def method_of(run: str) -> str:
    """The method of a run: `coop` of `coop+ship`."""
    return run.partition("+")[0]


def proxy_task(task: str) -> str:
    """What the task is called whose validation images choose the run of `task` (`pipeline/protocols/validation_proxy.py`)."""
    return f"{task}_proxy"


def run_label(folder: Path) -> str:
    """What a folder of fitted things is called in a line of progress: `fitted/twemoji/base_to_new/coop`."""
    return "/".join(folder.parts[-4:])


def weights(folder: Path, seed: int) -> Path:
    """One seed's tensors in a folder of fitted generators or classifiers."""
    return folder / f"seed={seed}.safetensors"


@dataclass(frozen=True)
class EncoderPaths:
    """Artifacts that one encoder made, whatever the task."""

    artifacts: Path

    @property
    def text_tower(self) -> Path:
        """The encoder's text tower (safetensors)."""
        return self.artifacts / "text_tower.safetensors"

    def features(self, dataset: str) -> Path:
        """Image features of a data set (Zarr)."""
        return self.artifacts / "features" / f"{dataset}.zarr"

    def classes(self, dataset: str) -> Path:
        """Class texts of a data set (HDF5)."""
        return self.artifacts / "classes" / f"{dataset}.h5"

    @property
    def report(self) -> Path:
        """Folder of tables, plots and the page."""
        return self.artifacts / "report"

    def cell(self, dataset: str, task: str) -> TaskPaths:
        """Artifacts of one task on one data set."""
        return TaskPaths(self.artifacts, dataset, task)
