"""`params.yaml`, read and checked: the only module that opens it.

The blocks that every run needs are models here. The options of a data set, a generator or a method belong to that
file alone, so those blocks stay plain values until `find` has imported the file; that keeps DVC's deps narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.errors import InputError, nearest, raise_all
from features.formats.files import atomic_file
from features.settings import Settings, parse

PATH = Path("params.yaml")

VALIDATION_PROXY = "validation_proxy"  # the protocol of what is judged on validation images, to choose by

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Names = Annotated[list[Name], Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class Grid(Settings):
    """What runs: every data set x task x method, each with every seed.

    Attributes:
        select: the tasks for which `select` chooses a run by their rehearsals.
    """

    encoder: Name
    datasets: Names
    tasks: Names
    methods: Names
    generators: list[Name]
    synthetic_methods: list[Name]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    select: list[Name]


class EncoderSpec(Settings):
    """A frozen CLIP as open_clip names it: `model` (or `local-dir:<folder>`) and `pretrained` (a tag or a file)."""

    model: str
    pretrained: str | None = None


class Compute(Settings):
    """This machine. Nothing here changes a result beyond rounding, so no stage tracks it."""

    device: Literal["auto", "cpu", "cuda"]
    batch: Positive
    workers: Annotated[int, Field(ge=0)]
    verify: bool
    shards: Annotated[str, Field(pattern=r"^[a-z0-9]+://.+")] | None = None  # an address: `features.extraction.bucket`


class Data(Settings):
    """Where the data sets lie (`root`) and which there are (`sets`: name -> reader and its options)."""

    root: str
    sets: dict[Name, dict[str, Any]]


class Extract(Settings):
    """How images become features."""

    precision: Literal["float32", "bfloat16", "float16"]
    views: Annotated[int, Field(ge=0)]
    view_scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)]
    view_seed: Annotated[int, Field(ge=0)]
    patch_tokens: bool = False
    on_bad_image: Literal["fail", "skip"]
    engine: Literal["local", "ray"]

    @field_validator("view_scale")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if value[0] > value[1]:
            raise ValueError("the least share comes first, the largest second")
        return value


class TextTowerSettings(Settings):
    """How prompts pass through the text tower while they are learned, made or judged."""

    precision: Literal["float32", "bfloat16"]  # float16 would need its gradients scaled


class Synthesis(Settings):
    """How many features of each unseen class a generator makes."""

    per_class: Positive


class Visualization(Settings):
    """How features are shown in two dimensions; no result depends on it."""

    methods: Annotated[list[Literal["pca", "umap"]], Field(min_length=1)]
    classes: Positive
    per_class: Positive


class Params(Settings):
    """The whole of `params.yaml`."""

    grid: Grid
    encoders: dict[Name, EncoderSpec]
    compute: Compute
    data: Data
    extract: Extract
    text_tower: TextTowerSettings
    tasks: dict[Name, dict[str, Any]]
    generators: dict[Name, dict[str, Any]]
    synthesis: Synthesis
    visualization: Visualization
    methods: dict[Name, dict[str, Any]]

    @cached_property
    def encoder(self) -> EncoderSpec:
        """The encoder that `grid.encoder` names."""
        return self.encoders[self.grid.encoder]

    @property
    def reported_tasks(self) -> list[str]:
        """The tasks of the grid that test images judge: all but rehearsals, whose numbers are no results."""
        return [task for task in self.grid.tasks if self.tasks[task].get("protocol") != VALIDATION_PROXY]

    @property
    def artifacts(self) -> Path:
        """Where everything lies that this encoder made."""
        return Path("artifacts") / self.grid.encoder

    def block(
        self, kind: Literal["tasks", "generators", "methods"], name: str, dataset: str | None = None
    ) -> tuple[dict[str, Any], str]:
        """The plain values of one named block and where they stand; {} for a method that the file does not name.

        A value may depend on the encoder or on the data set that is learned from, `{default: ..., <name>: ...}`: a step
        in CLIP's token space is no step in another's, and the papers train longer on some data than on others. The grid
        decides here, so that nobody who changes it takes another's value along; the data set goes before the encoder.
        """
        blocks: Mapping[str, dict[str, Any]] = getattr(self, kind)
        values = blocks.get(name) or {}
        return {key: self._chosen(value, dataset) for key, value in values.items()}, f"{PATH}: {kind}.{name}"

    def _chosen(self, value: object, dataset: str | None) -> object:
        if isinstance(value, dict) and "default" in value:
            return value.get(dataset, value.get(self.grid.encoder, value["default"]))
        return value


def load(path: Path = PATH) -> Params:
    """Read and check `params.yaml`.

    Raises:
        InputError: no such file, not YAML, or values that cannot be used; every mistake is listed.
    """
    return parse_text(read(path), str(path))


def read(path: Path = PATH) -> str:
    """The file's text.

    Raises:
        InputError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {path} in {Path.cwd()}: run from the root of the project") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def write(text: str, path: Path = PATH) -> None:
    """Replace the file's text, whole or not at all; check it first with `parse_text`."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def parse_text(text: str, where: str = str(PATH)) -> Params:
    """Check the text of a params file; `where` names it in messages.

    The parser is DVC's own (YAML 1.2: `1e-3` is a number, `on` is a word, a key that stands twice is refused), so
    that the stages and `dvc.yaml` never read different values from one file.

    Raises:
        InputError: not YAML, or values that cannot be used; every mistake is listed.
    """
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        # What follows the blank line is advice on silencing the parser.
        raise InputError(f"{where} is not YAML: {str(error).partition(chr(10) * 2)[0]}") from error
    params = parse(Params, values, where)
    raise_all(list(_dangling(params)), f"{where}: grid names what is defined nowhere, or twice")
    return params


def _dangling(params: Params) -> list[str]:
    """Names in `grid` without a definition below, and names that stand twice."""
    grid = params.grid
    wanted: list[tuple[str, list[str], Mapping[str, Any], str]] = [
        ("encoder", [grid.encoder], params.encoders, "encoders"),
        ("datasets", grid.datasets, params.data.sets, "data.sets"),
        ("tasks", grid.tasks, params.tasks, "tasks"),
        ("methods", grid.methods, params.methods, "methods"),
        ("synthetic_methods", grid.synthetic_methods, params.methods, "methods"),
        ("generators", grid.generators, params.generators, "generators"),
    ]
    problems = [
        f"grid.{key}: {name!r} is not in `{place}`; {nearest(name, known)}"
        for key, names, known, place in wanted
        for name in names
        if name not in known
    ]
    for key in ("datasets", "tasks", "methods", "synthetic_methods", "generators", "seeds", "select"):
        values = getattr(grid, key)
        problems += [
            f"grid.{key}: {value!r} stands twice" for value in sorted({v for v in values if values.count(v) > 1})
        ]
    return problems + _depends_on_nothing(params)


def _depends_on_nothing(params: Params) -> list[str]:
    """Values `{default: ..., <name>: ...}` whose name is neither an encoder's nor a data set's."""
    known = {*params.encoders, *params.data.sets}
    depending = [
        (f"{kind}.{name}.{key}", value)
        for kind in ("methods", "generators")
        for name, block in getattr(params, kind).items()
        for key, value in (block or {}).items()
        if isinstance(value, dict) and "default" in value
    ]
    return [
        f"{where}: {name!r} is neither in `encoders` nor in `data.sets`; {nearest(name, known)}"
        for where, value in depending
        for name in value
        if name != "default" and name not in known
    ]
