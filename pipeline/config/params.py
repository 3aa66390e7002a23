"""Read and check `params.yaml`; no other module opens it.

The blocks that every run needs are models here. The options of a data set, a generator or a method are declared in its
own file. Their blocks stay plain values until `find` has imported that file, which keeps DVC's deps narrow.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features import datasets, lookup
from features.encoding.definition import EncoderSpec
from features.errors import InputError, nearest, raise_all
from features.formats.files import atomic_file
from features.settings import Settings, parse
from pipeline.config.migrations import renamed_settings

PATH = Path("params.yaml")
CONFLICT_MARKERS = ("<<<<<<< ", ">>>>>>> ")

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Names = Annotated[list[Name], Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]


class Grid(Settings):
    """Axes of the grid: every data set x task x method is run, each with every seed.

    Attributes:
        encoder: the key of `encoders` to use.
        datasets: keys of `data.sets`.
        tasks: keys of `tasks`.
        methods: methods that are fitted on real features.
        generators: generators of synthetic features for unseen classes.
        synthetic_methods: methods that are fitted again with the features of each generator.
        seeds: each draws its own shots and its own initial weights.
        select: tasks whose runs are validated on folds of the seen classes. For each, stage `select` chooses the offset
            of every run and the run to use for new images.
        balance: whether these runs get offsets; if not, the runs are compared as they are.
    """

    encoder: Name
    datasets: Names
    tasks: Names
    methods: Names
    generators: list[Name]
    synthetic_methods: list[Name]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    select: list[Name]
    balance: bool


class Compute(Settings):
    """Settings of this machine. They change no result beyond rounding, so no stage tracks them."""

    device: Literal["auto", "cpu", "cuda"]
    batch: Positive
    workers: Annotated[int, Field(ge=0)]
    verify: bool
    shards: Annotated[str, Field(pattern=r"^[a-z0-9]+://.+")] | None = None  # an address: `features.extraction.bucket`
    cell_cpus: Positive = 1  # these two with `shipyard run --engine ray`
    cell_gpus: Annotated[float, Field(gt=0, le=1)] = 1


class Data(Settings):
    """Folder of the data sets (`root`) and their definitions (`sets`: name -> reader and its options)."""

    root: str
    sets: dict[Name, dict[str, Any]]


def _ascending(value: list[float]) -> list[float]:
    if value[0] > value[1]:
        raise ValueError("expected [minimum, maximum]")
    return value


Share = Annotated[float, Field(gt=0, le=1)]
ViewScale = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


class Extract(Settings):
    """Settings of feature extraction."""

    precision: Literal["float32", "bfloat16", "float16"]
    views: Annotated[int, Field(ge=0)]
    view_scale: ViewScale
    view_families: dict[Name, ViewScale] = Field(default_factory=dict)
    view_seed: Annotated[int, Field(ge=0)]
    patch_tokens: bool = False
    on_bad_image: Literal["fail", "skip"]
    engine: Literal["local", "ray"]


class TextTowerSettings(Settings):
    """Precision of the text tower in training, synthesis and evaluation."""

    precision: Literal["float32", "bfloat16"]  # float16 would need gradient scaling


class Synthesis(Settings):
    """Number of synthetic features of each unseen class."""

    per_class: Positive


class Visualization(Settings):
    """Settings of the two-dimensional plots of features; no result depends on them."""

    methods: Annotated[list[Literal["pca", "umap"]], Field(min_length=1)]
    classes: Positive
    per_class: Positive


class Params(Settings):
    """The content of `params.yaml`."""

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
        """Return the encoder that `grid.encoder` names."""
        return self.encoders[self.grid.encoder]

    @property
    def artifacts(self) -> Path:
        """Return the folder of all artifacts of the grid's encoder."""
        return Path("artifacts") / self.grid.encoder

    def block(
        self, kind: Literal["tasks", "generators", "methods"], name: str, dataset: str | None = None
    ) -> tuple[dict[str, Any], str]:
        """Return the plain values of one named block, and their place in the file for error messages.

        A value may depend on the encoder or on the training data set: `{default: ..., <name>: ...}`. A learning rate in
        the token space of CLIP does not fit another encoder, and the papers train longer on some data sets than on
        others. The value is looked up by the grid, so that a change of `grid.encoder` changes it too. A value for the
        data set takes precedence over one for the encoder.

        Args:
            kind: the section of the file.
            name: a key of the section; a key without a block gives `{}`.
            dataset: the data set that is trained on; for a task, the data set that it runs on.
        """
        blocks: Mapping[str, dict[str, Any]] = getattr(self, kind)
        values = blocks.get(name) or {}
        resolved = {key: self._resolve(value, dataset) for key, value in values.items()}
        return resolved, f"{PATH}: {kind}.{name}"

    def _resolve(self, value: object, dataset: str | None) -> object:
        """Return the value for a data set and the grid's encoder."""
        if not _is_conditional(value):
            return value
        return value.get(dataset, value.get(self.grid.encoder, value["default"]))


def load(path: Path = PATH) -> Params:
    """Read and check `params.yaml`.

    Raises:
        InputError: the file does not exist, is not YAML, or has invalid values; every mistake is listed.
    """
    return parse_text(read(path), str(path))


def read(path: Path = PATH) -> str:
    """Return the text of `params.yaml`.

    Raises:
        InputError: the file does not exist or is not text.
    """
    try:
        return path.read_bytes().decode("utf-8")  # with the ends of lines as they are
    except FileNotFoundError:
        raise InputError(
            f"{path} not found in {Path.cwd()}: run this command in the root folder of the project"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as UTF-8 text: {error}") from error


def write(text: str, path: Path = PATH) -> None:
    """Replace the text of `params.yaml` atomically; check it with `parse_text` first."""
    with atomic_file(path) as part:
        part.write_bytes(text.encode("utf-8"))


def parse_text(text: str, where: str = str(PATH)) -> Params:
    """Parse and check the text of a params file.

    The parser is the one of DVC (YAML 1.2: `1e-3` is a number, `on` is a string, a duplicate key is an error). With
    another parser, the stages and `dvc.yaml` could read different values from the same file.

    Args:
        text: the text.
        where: name of the file in error messages.

    Raises:
        InputError: the text is not YAML, has names of an older version, or invalid values; every mistake is listed.
    """
    params = parse_blocks(text, where)
    raise_all([*_grid_errors(params), *_conditional_errors(params)], f"{where} has undefined or duplicate names")
    return params


def parse_blocks(text: str, where: str = str(PATH)) -> Params:
    """Parse the text of a params file like `parse_text`, but do not check names that one block has for another.

    Raises:
        InputError: as `parse_text`.
    """
    values = _parse_yaml(text, where)

    # Before the models: they would report an old name as an unknown key, with an unrelated suggestion.
    raise_all(list(renamed_settings(values)), f"{where} has names of an older version; rename them")

    return parse(Params, values, where)


def check_names(text: str, where: str = str(PATH)) -> None:
    """Check that a params file has no name of an older version.

    `parse_text` does this too. This function is for code that changes a text before it parses it.

    Raises:
        InputError: lists every old name with its new one; or the text is not YAML.
    """
    raise_all(list(renamed_settings(_parse_yaml(text, where))), f"{where} has names of an older version; rename them")


def plain_values(path: Path = PATH) -> object:
    """Return the values of a params file as they stand there, unchecked.

    Raises:
        InputError: the file does not exist or is not YAML.
    """
    return _parse_yaml(read(path), str(path))


def _parse_yaml(text: str, where: str) -> object:
    """Return the plain values of a params file."""
    marked = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(CONFLICT_MARKERS)]
    if marked:
        raise InputError(
            f"{where} has conflict markers of a merge in lines {', '.join(map(str, marked))}; edit these places so "
            "that one value of each key is left"
        )

    try:
        YAML(typ="safe", pure=True).load(text)  # better messages, and the one in C crashes on deep nesting
        values = YAML(typ="safe").load(text)  # DVC's, in C: it rejects {pretrained: random:0}, and `%YAML 1.1` is 1.2
    except RecursionError:
        raise InputError(f"{where} is nested too deeply; its deepest setting has 4 levels") from None
    except YAMLError as error:
        # The parser's message has a second paragraph with advice on how to suppress the error.
        message = str(error).partition("\n\n")[0]
        hint = "; quote a value with a colon inside braces" if "unexpected ':'" in message else ""
        raise InputError(f"{where} is not valid YAML: {message}{hint}") from error
    return values


def _grid_errors(params: Params) -> Iterator[str]:
    """Yield one line for each name in `grid` that is not defined in the file or is listed twice."""
    grid = params.grid
    axes: list[tuple[str, list[str], Mapping[str, Any], str]] = [
        ("encoder", [grid.encoder], params.encoders, "encoders"),
        ("datasets", grid.datasets, params.data.sets, "data.sets"),
        ("tasks", grid.tasks, params.tasks, "tasks"),
        ("methods", grid.methods, params.methods, "methods"),
        ("synthetic_methods", grid.synthetic_methods, params.methods, "methods"),
        ("generators", grid.generators, params.generators, "generators"),
    ]
    for key, names, defined, section in axes:
        for name in names:
            if name not in defined:
                yield f"grid.{key}: {name!r} is not in `{section}`; {nearest(name, defined)}"

    for key in ("datasets", "tasks", "methods", "synthetic_methods", "generators", "seeds", "select"):
        values = getattr(grid, key)
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"grid.{key}: {value!r} is listed more than once"


def _conditional_errors(params: Params) -> Iterator[str]:
    """Yield one line for each name in `{default: ..., <name>: ...}` that is a misspelled encoder or data set.

    A value for an encoder or a data set that was removed from the file does no harm. So an unknown name is a mistake
    only if it resembles a known one, and a published data set is known by its reader.
    """
    known = {"default", *params.encoders, *params.data.sets, *lookup.names(datasets)}
    for kind in ("tasks", "methods", "generators"):
        for block_name, block in getattr(params, kind).items():
            conditional = {key: value for key, value in (block or {}).items() if _is_conditional(value)}
            for key, value in conditional.items():
                for name in (name for name in value if name not in known):
                    for close in difflib.get_close_matches(str(name), known, n=1):
                        yield (
                            f"{kind}.{block_name}.{key}: {name!r} is neither in `encoders` nor in `data.sets`; did you "
                            f"mean {close!r}?"
                        )


def _is_conditional(value: object) -> TypeGuard[dict[Any, Any]]:
    """Return whether a value depends on the encoder or the data set."""
    return isinstance(value, dict) and "default" in value
