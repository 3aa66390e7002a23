"""The default grid on 24 pictures of the demo, with encoders of true size and random weights.

`python -m benchmarks.encoders [NAME ...]` checks the settings with each encoder, runs the stages (one epoch, one seed,
one view), and writes the table into docs/encoders.md. The weights and the tokenizers are random, so no accuracy means
anything: the question is which methods run. Only the rows of the given names are replaced.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.memory import ROOT
from features.datasets.twemoji import Twemoji
from features.encoding.configuration import model_config
from features.encoding.definition import EncoderSpec
from features.encoding.text_support import text_support
from features.errors import InputError
from features.formats.files import atomic_file
from pipeline.cli.check import check
from pipeline.config import overrides, params
from pipeline.report.build import read_grid

# MetaCLIP 2 has no ViT-B/32 in open_clip; the L/14 is its smallest.
MODELS = (
    "ViT-B-16-SigLIP2",
    "MobileCLIP2-S0",
    "ViT-L-14-worldwide",
    "coca_ViT-B-32",
    "RN50-quickgelu",
    "ViT-L-14-quickgelu",
)
PAGE = ROOT / "docs" / "encoders.md"
BEGIN, END = "<!-- written by python -m benchmarks.encoders -->\n", "<!-- end of the runs -->\n"
HEAD = "| model | runs | refused by `check` | minutes |\n|---|---|---|--:|\n"
CLASSES = 4
PICTURES = {"train": 3, "val": 1, "test": 2}  # of each class
SMALL = (
    "grid.datasets=[demo]",
    "grid.encoder=random",
    "grid.seeds=[1]",
    "extract.views=1",
    "tasks.base_to_new.shots=2",
    "synthesis.per_class=4",
    "compute.batch=8",
    "compute.workers=0",
    "methods.coop.epochs=1",
    "methods.clip_adapter.epochs=1",
    "methods.tip_adapter_f.epochs=1",
    "generators.ship.epochs=1",
    "generators.ship.encoder_width=64",
    "generators.ship.generator_width=64",
)


def main(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Models of open_clip. Default: all.")
    ] = None,
) -> None:
    """Run the grid with each model, print a row each, and write them into docs/encoders.md."""
    unknown = {*(models or ())} - {*MODELS}
    if unknown:
        raise InputError(f"no such row: {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    for model in models or MODELS:
        row = measure(model)
        print(row, end="", flush=True)
        page = PAGE.read_text(encoding="utf-8")
        with atomic_file(PAGE) as part:
            part.write_text(with_row(page, row), encoding="utf-8")


def with_row(page: str, row: str) -> str:
    """Return the text of the page with a row in place of that of the same model, in the order of `MODELS`."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    lines = [*table.removeprefix(HEAD).splitlines(keepends=True), row]
    rows = {line.partition(" | ")[0]: line for line in lines if line.startswith("| ")}
    ordered = [rows[f"| `{model}`"] for model in MODELS if f"| `{model}`" in rows]
    return f"{before}{BEGIN}{HEAD}{''.join(ordered)}{END}{after}"


def measure(model: str) -> str:
    """Return the row of a model: which runs have scores, which methods are refused, and minutes."""
    with TemporaryDirectory() as folder, chdir(folder):
        write_project(Path(), model)
        settings = params.load()
        began = time.monotonic()
        check(settings)
        helper("small_repo").run_stages(settings)
        minutes = (time.monotonic() - began) / 60
        ran = ", ".join(f"`{scores.run}`" for scores in read_grid(settings))
        refused = ", ".join(f"`{name}`" for name in refused_methods(settings)) or "–"
    return f"| `{model}` | {ran} | {refused} | {minutes:.1f} |\n"


def write_project(folder: Path, model: str) -> None:
    """Write the shipped settings in small, a few pictures and, for a tower that needs it, a tokenizer."""
    (folder / "assets").symlink_to(ROOT / "assets")
    write_pictures(folder / "data/demo")

    definition = {"model": model, "pretrained": "random:0"}
    if text_support(model_config(EncoderSpec(model=model)) or {}).tokenizer is not None:
        helper("small_tokenizers").write_tokenizer(folder / "tokenizer", "siglip2")
        definition["tokenizer"] = "tokenizer"
    text = (ROOT / params.PATH).read_text(encoding="utf-8")
    text = overrides.insert(text, "data.sets", "demo", {"reader": "image_folder", "path": "demo", "splits": "folders"})
    text = overrides.apply(overrides.insert(text, "encoders", "random", definition), SMALL)
    params.write(text, folder / params.PATH)


def helper(name: str) -> Any:
    """Return a module that the tests use, too."""
    sys.path.insert(0, str(ROOT / "tests/helpers"))
    return import_module(name)


def write_pictures(folder: Path) -> None:
    """Write a few of the demo's pictures of its first classes."""
    reader = Twemoji(reader="twemoji")
    listing = reader.read(Path())
    for class_id, name in enumerate(listing.classes[:CLASSES]):
        for split, count in PICTURES.items():
            of_class = [image.path for image in listing.images if (image.class_id, image.split) == (class_id, split)]
            target = folder / split / name
            target.mkdir(parents=True)
            for path in of_class[:count]:
                shutil.copy(reader.folder(Path()) / path, target)


def refused_methods(settings: params.Params) -> list[str]:
    """Return the methods of params.yaml that `check` refuses with this encoder, each tried alone."""
    refused = []
    for name in settings.methods:
        grid = settings.grid.model_copy(update={"methods": list({"zero_shot": 0, name: 0})})
        patches = settings.extract.model_copy(update={"patch_tokens": True})
        try:
            check(settings.model_copy(update={"grid": grid, "extract": patches}))
        except InputError:
            refused.append(name)
    return refused


if __name__ == "__main__":
    typer.run(main)
