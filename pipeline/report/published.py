"""The papers' results (`assets/published/*.csv`), and the rules for which of our rows each may be compared with.

`assets/published/tables.csv` describes the tables, in order of precedence: their file, protocol, encoder, training
images per class (empty: all), the data set of the training images in a transfer, and the source.

`assets/published/weights.csv` names known weights by their sha256 (`shipyard doctor` prints it): the papers' encoder,
or nothing for another one, and a name. A definition whose weights are not in it is believed, and the report says so.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType

from features.encoding.definition import EncoderSpec
from features.errors import InputError
from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.config.params import Params

FOLDER = Path("assets/published")

# The papers' name of a row -> the name of our run. The papers' f-VAEGAN ends in a softmax classifier of its features.
RUNS = MappingProxyType(
    {
        "clip": "zero_shot",
        "coop+vpt": "vpt",
        "f_vaegan": "linear_probe+f_vaegan",
        "tf_vaegan": "linear_probe+tf_vaegan",
    }
)

# The data sets of the papers' averages.
ELEVEN = frozenset(
    [
        "imagenet",
        "caltech101",
        "oxford_pets",
        "stanford_cars",
        "flowers102",
        "food101",
        "fgvc_aircraft",
        "sun397",
        "dtd",
        "eurosat",
        "ucf101",
    ]
)

# Protocol -> our evaluation split -> the column of the file.
COLUMNS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "base_to_new": {"base": "base", "new": "new", HARMONIC_MEAN: "h"},
        "class_incremental": {"all": "accuracy"},
        "cross_dataset": {"source": "accuracy", "target": "accuracy"},
        "domain_generalization": {"source": "accuracy", "target": "accuracy"},
        "few_shot": {"all": "accuracy"},
        "generalized_zero_shot": {"unseen": "unseen", "seen": "seen", HARMONIC_MEAN: "h"},
    }
)


@dataclass(frozen=True)
class OpenAiClip:
    """One of OpenAI's CLIP encoders.

    Attributes:
        name: its name in the column `encoder` of a file.
        architecture: its architecture as the papers write it.
    """

    name: str
    architecture: str

    def __str__(self) -> str:
        return f"OpenAI's CLIP {self.architecture}"

    def has_tag(self, spec: EncoderSpec) -> bool:
        """Return whether an encoder of params.yaml has this one's name and tag in open_clip."""
        model = self.architecture.replace("/", "-").replace("ResNet-", "RN")
        return spec.pretrained == "openai" and spec.model in (model, f"{model}-quickgelu")


VIT_B16 = OpenAiClip("vit_b16", "ViT-B/16")
ENCODERS = (
    OpenAiClip("rn50", "ResNet-50"),
    OpenAiClip("rn101", "ResNet-101"),
    OpenAiClip("vit_b32", "ViT-B/32"),
    VIT_B16,
)


@dataclass(frozen=True)
class Identity:
    """Which of the papers' encoders an encoder is, so that a difference from a paper is due to the methods.

    Attributes:
        encoder: the papers' encoder; None for another one.
        checked: whether the weights say so, and not only the definition in params.yaml.
    """

    encoder: OpenAiClip | None
    checked: bool


@dataclass(frozen=True)
class Published:
    """One table of a paper, in a file of `assets/published` with the columns method, dataset and those of `columns`.

    Three kinds of columns are optional. A value in `features` names the features of a row if they are not CLIP's; no
    run of ours can match such a row, so it is only shown. A value in a column such as `methods.coop.context` is a
    setting that a run must have. If there is a column `encoder`, the table consists of the rows of its own encoder.

    Attributes:
        file: name of the file.
        protocol: protocol of the paper; only tasks with this protocol are compared.
        source: citation of the numbers.
        shots: training images per seen class in the paper; None: all.
        trained_on: data set of the training images in a transfer; None: the data set that is evaluated.
        encoder: encoder of the paper.
    """

    file: str
    protocol: str
    source: str
    shots: int | None
    trained_on: str | None
    encoder: OpenAiClip

    @property
    def columns(self) -> Mapping[str, str]:
        """Our evaluation splits -> the columns of the file."""
        return COLUMNS[self.protocol]

    @property
    def averaged(self) -> frozenset[str]:
        """Data sets of the paper's averages (data set `average` in the file): all but the source of a transfer."""
        return frozenset(dataset for dataset in ELEVEN if dataset != self.trained_on)

    def values(self, scores: Scores, averaged: Sequence[str], params: Params) -> Mapping[str, float]:
        """Return the published values for a run: evaluation split -> percent; empty if none may be compared.

        Args:
            scores: scores of a run on one data set, or averaged over data sets.
            averaged: the data sets of the average; empty for one data set.
            params: parameters, for the settings that a row requires.
        """
        # Zero-shot CLIP uses no training images, so it is comparable whatever the task trains on.
        if scores.run != "zero_shot" and (scores.shots != self.shots or not self._same_training(scores)):
            return {}
        if averaged and {*averaged} != self.averaged:
            return {}

        for row in self._rows:
            name = (row["dataset"], RUNS.get(row["method"], row["method"]))
            comparable = name == (scores.dataset, scores.run) and not row.get("features")
            if comparable and _has_settings(row, params):
                return self._numbers(row)
        return {}

    def references(self, dataset: str) -> Iterator[tuple[str, str, Mapping[str, float]]]:
        """Yield (name, features, evaluation split -> percent) of each row that no run of ours can match."""
        for row in self._rows:
            if row.get("features") and row["dataset"] == dataset:
                yield row["method"], row["features"], self._numbers(row)

    def _same_training(self, scores: Scores) -> bool:
        return self.trained_on is None or scores.trained_on == self.trained_on

    def _numbers(self, row: Mapping[str, str]) -> dict[str, float]:
        return {name: float(row[column]) for name, column in self.columns.items() if row[column]}

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        path = FOLDER / self.file
        try:
            rows = _read_csv(path)
            for row in rows:
                _ = row["method"], row["dataset"], self._numbers(row)
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(path, error) from error
        return [row for row in rows if row.get("encoder", self.encoder.name) == self.encoder.name]


def _has_settings(row: Mapping[str, str], params: Params) -> bool:
    """Return whether the parameters have the settings that a row requires."""
    for column, value in row.items():
        match column.split("."):
            case ("generators" | "methods") as kind, name, setting if value:
                actual = params.block(kind, name)[0].get(setting)
                if str(actual).lower() != value:
                    return False
    return True


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}: {error!r}; restore it with `git checkout {path}`")


@cache
def all_tables() -> tuple[Published, ...]:
    """Return every published table, in order of precedence.

    Raises:
        InputError: `tables.csv` is missing or damaged.
    """
    path = FOLDER / "tables.csv"
    encoders = {encoder.name: encoder for encoder in ENCODERS}
    try:
        return tuple(
            Published(
                file=row["file"],
                protocol=row["protocol"],
                source=row["source"],
                shots=int(row["shots"]) if row["shots"] else None,
                trained_on=row["trained_on"] or None,
                encoder=encoders[row["encoder"]],
            )
            for row in _read_csv(path)
        )
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


@cache
def known_weights() -> Mapping[str, OpenAiClip | None]:
    """Return the sha256 of known weights -> the papers' encoder, or None for another one.

    Raises:
        InputError: `weights.csv` is missing or damaged.
    """
    path = FOLDER / "weights.csv"
    encoders = {encoder.name: encoder for encoder in ENCODERS}
    try:
        return {row["weights_sha256"]: encoders[row["encoder"]] if row["encoder"] else None for row in _read_csv(path)}
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def identify(spec: EncoderSpec, weights_sha256: str) -> Identity:
    """Return which encoder this is: by its weights if they are known, otherwise by its definition."""
    known = known_weights()
    if weights_sha256 in known:
        return Identity(known[weights_sha256], checked=True)
    stated = (encoder for encoder in ENCODERS if spec.published_as == encoder.name or encoder.has_tag(spec))
    return Identity(next(stated, None), checked=False)


def tables_of(protocol: str, encoder: OpenAiClip | None) -> tuple[Published, ...]:
    """Return the published tables of a protocol with an encoder or, if there are none, with the papers' ViT-B/16."""
    candidates = [table for table in all_tables() if table.protocol == protocol]
    same = [table for table in candidates if table.encoder == encoder]
    return tuple(same or [table for table in candidates if table.encoder == VIT_B16])


def find_published(
    scores: Scores, averaged: Sequence[str], params: Params
) -> tuple[Published | None, Mapping[str, float]]:
    """Return the first published table with values for a run, and these values (see `Published.values`)."""
    encoder = identify(params.encoder, scores.encoder.weights_sha256).encoder
    for table in tables_of(scores.protocol, encoder):
        values = table.values(scores, averaged, params)
        if values:
            return table, values
    return None, {}
