"""The papers' numbers (`assets/published/*.csv`) and which of our rows each may stand beside."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from features.errors import InputError
from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.config.params import EncoderSpec, Params

FOLDER = Path("assets/published")
# Where the papers' word for a row is not ours: their f-VAEGAN ends in a softmax classifier of its features.
RUNS = MappingProxyType(
    {
        "clip": "zero_shot",
        "coop+vpt": "vpt",
        "f_vaegan": "linear_probe+f_vaegan",
        "tf_vaegan": "linear_probe+tf_vaegan",
    }
)
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
BASE_TO_NEW = MappingProxyType({"base": "base", "new": "new", HARMONIC_MEAN: "h"})
TRANSFER = MappingProxyType({"source": "accuracy", "target": "accuracy"})


@dataclass(frozen=True)
class OpenAiClip:
    """One of OpenAI's encoders: its name in a file's column `encoder`, and its architecture, as people write it."""

    name: str
    architecture: str

    def __str__(self) -> str:
        return f"OpenAI's CLIP {self.architecture}"

    def same_as(self, spec: EncoderSpec) -> bool:
        """Whether ours is the same, so that a difference is one of methods."""
        model = self.architecture.replace("/", "-").replace("ResNet-", "RN")
        return spec.pretrained == "openai" and spec.model in (model, f"{model}-quickgelu")


VIT_B16 = OpenAiClip("vit_b16", "ViT-B/16")
COOPS = (
    OpenAiClip("rn50", "ResNet-50"),
    OpenAiClip("rn101", "ResNet-101"),
    OpenAiClip("vit_b32", "ViT-B/32"),
    VIT_B16,
)


@dataclass(frozen=True)
class Published:
    """One table of a paper, in a file of `assets/published` with the columns method, dataset and those of `columns`.

    A column `features` says, where it is filled, of what else than CLIP's features a row is: no run of ours is that, so
    it is only shown. A column such as `methods.coop.context` is a setting that a run must have, where it is filled. Of
    a file with a column `encoder` the table is the rows of its own.

    Attributes:
        protocol: what our task must follow for the numbers to be of the same thing.
        columns: our eval_splits -> the file's columns.
        source: where the numbers stand.
        shots: training images per seen class in the paper; None: all.
        trained_on: the data set that the paper learns from in a transfer; None: the one that is judged.
        averaged: the data sets of the paper's averages, the file's data set `average`.
        encoder: the paper's.
    """

    file: str
    protocol: str
    columns: Mapping[str, str]
    source: str
    shots: int | None = 16
    trained_on: str | None = None
    averaged: frozenset[str] = ELEVEN
    encoder: OpenAiClip = VIT_B16

    def values(self, scores: Scores, averaged: Sequence[str], params: Params) -> Mapping[str, float]:
        """EvalSplit -> percent as published for this data set and run; empty where there is nothing to compare.

        Args:
            scores: of a run on a data set, or averaged over data sets.
            averaged: these data sets, or empty.
            params: for the settings that a row is of.
        """
        # zero-shot CLIP is shown no images, so it is the paper's whatever is learned from
        if scores.run != "zero_shot" and (scores.shots != self.shots or not self._same_training(scores)):
            return {}
        if averaged and {*averaged} != self.averaged:
            return {}
        rows = (row for row in self._rows if not row.get("features"))
        for row in rows:
            key = (row["dataset"], RUNS.get(row["method"], row["method"]))
            if key == (scores.dataset, scores.run) and _set_so(row, params):
                return self._numbers(row)
        return {}

    def references(self, dataset: str) -> Iterator[tuple[str, str, Mapping[str, float]]]:
        """(name, features, eval_split -> percent) of each row on this data set that no run of ours can be."""
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
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                _ = row["method"], row["dataset"], self._numbers(row)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error!r}. Restore it: git checkout {path}") from error
        return [row for row in rows if row.get("encoder", self.encoder.name) == self.encoder.name]


def _set_so(row: Mapping[str, str], params: Params) -> bool:
    """Whether `params` has the settings that a row is of."""
    for column, value in row.items():
        match column.split("."):
            case ("generators" | "methods") as kind, name, setting if value:
                if str(params.block(kind, name)[0].get(setting)).lower() != value:
                    return False
    return True


TABLES = (
    *(
        Published(
            file="coop_domain_generalization_16shot.csv",
            protocol="domain_generalization",
            columns=TRANSFER,
            source="CoOp (arXiv:2109.01134), Tables 1 and 6",
            trained_on="imagenet",
            encoder=encoder,
        )
        for encoder in COOPS
    ),
    *(
        Published(
            file="coop_few_shot_16shot.csv",
            protocol="few_shot",
            columns=MappingProxyType({"all": "accuracy"}),
            source="CoOp (arXiv:2109.01134), Tables 2, 3 and 7",
            encoder=encoder,
        )
        for encoder in COOPS
    ),
    Published(
        file="cocoop_bigger_coop.csv",
        protocol="base_to_new",
        columns=BASE_TO_NEW,
        source="CoCoOp (arXiv:2203.05557), Table 5",
    ),
    Published(
        file="ship_ablations.csv",
        protocol="base_to_new",
        columns=BASE_TO_NEW,
        source="SHIP (arXiv:2307.07397), Tables 4 to 6",
    ),
    Published(
        file="base_to_new_vitb16_16shot.csv",
        protocol="base_to_new",
        columns=BASE_TO_NEW,
        source="SHIP (arXiv:2307.07397), Table 1",
    ),
    Published(
        file="beyond_the_papers_base_to_new.csv",
        protocol="base_to_new",
        columns=BASE_TO_NEW,
        source="the later methods' own papers",
    ),
    Published(
        file="cross_dataset_vitb16_16shot.csv",
        protocol="cross_dataset",
        columns=TRANSFER,
        source="SHIP (arXiv:2307.07397), Table 2; CoCoOp (arXiv:2203.05557), Table 2",
        trained_on="imagenet",
        averaged=ELEVEN - {"imagenet"},
    ),
    Published(
        file="domain_generalization_vitb16_16shot.csv",
        protocol="domain_generalization",
        columns=TRANSFER,
        source="CoCoOp (arXiv:2203.05557), Table 3",
        trained_on="imagenet",
    ),
    Published(
        file="gzsl.csv",
        protocol="generalized_zero_shot",
        columns=MappingProxyType({"unseen": "unseen", "seen": "seen", HARMONIC_MEAN: "h"}),
        source="SHIP (arXiv:2307.07397), Table 3",
        shots=None,
    ),
    Published(
        file="class_incremental_vitb16_16shot.csv",
        protocol="class_incremental",
        columns=MappingProxyType({"all": "accuracy"}),
        source="CoCoOp (arXiv:2203.05557), Table 4",
    ),
)


def tables_of(protocol: str, spec: EncoderSpec) -> tuple[Published, ...]:
    """The published tables of a protocol: those of our encoder if there are any, else those of the papers' ViT-B/16."""
    found = [table for table in TABLES if table.protocol == protocol]
    same = [table for table in found if table.encoder.same_as(spec)]
    return tuple(same or [table for table in found if table.encoder == VIT_B16])


def find(scores: Scores, averaged: Sequence[str], params: Params) -> tuple[Published | None, Mapping[str, float]]:
    """The first published table with values for a run, and these: eval_split -> percent (`Published.values`)."""
    known = tables_of(scores.protocol, params.encoder)
    found = ((table, table.values(scores, averaged, params)) for table in known)
    return next(((table, values) for table, values in found if values), (None, {}))
