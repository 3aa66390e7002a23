"""Paths of all artifacts. `dvc.yaml` contains the same paths; a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("artifacts")
CODE = ROOT / "code"  # digests of the source that each stage runs (stage `code`)
SCRATCH = ROOT / ".scratch"  # state from which interrupted stages resume; never an output
TIMES = ROOT / ".times.csv"  # how long each stage took on this machine; never an output
FIX_HINT = (
    "run `dvc repro` to create it, or `dvc pull` to download it"  # for errors about a missing or damaged artifact
)


def index(dataset: str) -> Path:
    """Return the index of a data set, one row per image (Parquet)."""
    return ROOT / "index" / f"{dataset}.parquet"


def digests(dataset: str) -> Path:
    """Return the cache of the sizes, times and digests of a data set's files (JSON)."""
    return SCRATCH / f"digests-{dataset}.json"


def names(dataset: str) -> Path:
    """Return the file with the class names and prompt templates of a data set (JSON)."""
    return ROOT / "index" / f"{dataset}.json"


@dataclass(frozen=True)
class TaskPaths:
    """Paths of the artifacts of one task on one data set with one encoder."""

    artifacts: Path
    dataset: str
    task: str

    def _path(self, kind: str, *parts: str) -> Path:
        return self.artifacts.joinpath(kind, self.dataset, self.task, *parts)

    @property
    def train(self) -> Path:
        """The seen classes and the training images of every seed (HDF5)."""
        return self._path("tasks", "train.h5")

    @property
    def unseen(self) -> Path:
        """The unseen classes, without images (HDF5)."""
        return self._path("tasks", "unseen.h5")

    @property
    def validation(self) -> Path:
        """The seen classes and the validation images of every seed (HDF5)."""
        return self._path("tasks", "validation.h5")

    @property
    def test(self) -> Path:
        """The images and candidate classes of every evaluation split (HDF5)."""
        return self._path("tasks", "test.h5")

    def generator(self, generator: str) -> Path:
        """Return the folder of a fitted generator: `seed=<s>.safetensors` and `log.csv`."""
        return self._path("generators", generator)

    def synthetic(self, generator: str) -> Path:
        """Return the folder of a generator's synthetic features: `seed=<s>/part-*.parquet`."""
        return self._path("synthetic", generator)

    def generator_diagnostics(self, generator: str) -> Path:
        """Return the folder of a generator's diagnostics: `projection.csv` and `training.csv`."""
        return self._path("diagnostics", f"generator={generator}")

    def fitted(self, run: str) -> Path:
        """Return the folder of a run's fitted classifiers: `seed=<s>.safetensors`."""
        return self._path("fitted", run)

    def fold_features(self, generator: str) -> Path:
        """Return the folder of a generator's features of classes that play unseen: `fold<n>/seed=<s>/…`."""
        return self._path("folds", generator)

    def validation_logits(self, run: str) -> Path:
        """Return the folder of a run's logits on validation images: `seed=<s>.h5`."""
        return self._path("validation", run)

    @property
    def selection(self) -> Path:
        """The run that is selected for new images, with the comparison of all runs (JSON)."""
        return self.artifacts / "selection" / self.dataset / f"{self.task}.json"

    def scores(self, run: str) -> Path:
        """Return the score file of a run, with every seed (JSON)."""
        return self._path("scores", f"{run}.json")

    def quality(self, generator: str) -> Path:
        """Return the file with the measures of a generator's features, with every seed (JSON)."""
        return self._path("scores", f"{generator}.quality.json")

    def logits(self, run: str) -> Path:
        """Return the logits of a run for every seed and evaluation split, with the labels (HDF5)."""
        return self._path("logits", f"{run}.h5")

    @property
    def balanced(self) -> Path:
        """Seen and unseen accuracy of all runs with the offsets of `selection` (JSON)."""
        return self._path("scores", "balanced.json")

    def diagnostics(self, run: str) -> Path:
        """Return the folder of a run's diagnostics: `confusion.csv`, `reliability.csv` and, for some runs, others."""
        return self._path("diagnostics", run)


def run_name(method: str, generator: str | None) -> str:
    """Return the name of a run: `coop`, or `coop+ship` for a method with a generator's synthetic features."""
    return f"{method}+{generator}" if generator else method


def method_of(run: str) -> str:
    """Return the method of a run, such as `coop` for `coop+ship`."""
    return run.partition("+")[0]


def run_label(folder: Path) -> str:
    """Return the label of a folder of fitted files in progress output, such as `fitted/twemoji/base_to_new/coop`."""
    return "/".join(folder.parts[-4:])


def weights(folder: Path, seed: int) -> Path:
    """Return the file with the tensors of one seed in a folder of fitted generators or classifiers."""
    return folder / f"seed={seed}.safetensors"


def logits_file(folder: Path, seed: int) -> Path:
    """Return the file with the logits of one seed in a folder of `TaskPaths.validation_logits`."""
    return folder / f"seed={seed}.h5"


@dataclass(frozen=True)
class EncoderPaths:
    """Paths of the artifacts of one encoder that do not depend on a task."""

    artifacts: Path

    @property
    def text_tower(self) -> Path:
        """The text tower of the encoder (safetensors)."""
        return self.artifacts / "text_tower.safetensors"

    def features(self, dataset: str) -> Path:
        """Return the image features of a data set (Zarr)."""
        return self.artifacts / "features" / f"{dataset}.zarr"

    def classes(self, dataset: str) -> Path:
        """Return the class names and text features of a data set (HDF5)."""
        return self.artifacts / "classes" / f"{dataset}.h5"

    @property
    def report(self) -> Path:
        """The folder with the tables, the plots and the page."""
        return self.artifacts / "report"

    def cell(self, dataset: str, task: str) -> TaskPaths:
        """Return the paths of one task on one data set."""
        return TaskPaths(self.artifacts, dataset, task)
