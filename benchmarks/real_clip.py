"""`python -m benchmarks.real_clip [FOLDER]`: every method without learned prompts on features of OpenAI's ViT-B/32.

FOLDER holds `caches/caltech101`, a cache folder of Tip-Adapter's code, and `text_features/caltech101_51.npy` with
`caltech101_51_names.txt` (label,name), the text features of 51 of the 100 classes. The features are imported, the
recipes real_clip.yaml and balance_clip.yaml of docs/results run, and their tables are put into the pages of the same
names.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from features.exchange.rows import ImportRequest
from features.runtime.commandline import run_app
from pipeline.artifacts import paths
from pipeline.cli.import_features import import_dataset
from pipeline.cli.import_texts import import_class_texts
from pipeline.config import overrides, params, recipes
from pipeline.executor.repro import dvc_command, dvc_environment

ENCODER, DATASET = "vit_b32_imported", "caltech101-51"
# The sha256 of OpenAI's ViT-B-32.pt, which its address states. It stands for the weights, which nothing here opens.
WEIGHTS = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
RECIPES = (Path("docs/results/real_clip.yaml"), Path("docs/results/balance_clip.yaml"))
IMPORTED_OUTPUTS = (f"index@{DATASET}", f"extract@{DATASET}", "text_tower", f"classes@{DATASET}")


def import_all(folder: Path) -> None:
    """Import the features of the images and of the 51 names, unless they are there."""
    if paths.index(DATASET).exists():
        return
    with (folder / "text_features/caltech101_51_names.txt").open(encoding="utf-8", newline="") as file:
        names = [name for _, name in csv.reader(file)]

    with TemporaryDirectory() as scratch:
        only = Path(scratch) / "names.txt"
        only.write_text("\n".join(names), encoding="utf-8")
        request = ImportRequest(
            source=folder / "caches/caltech101",
            dataset=DATASET,
            encoder=ENCODER,
            weights_sha256=WEIGHTS,
            split_of="caltech101",
            only=only,
        )
        print(import_dataset(request).splitlines()[0])
        texts = folder / "text_features/caltech101_51.npy"
        print(import_class_texts(DATASET, texts, classes=only, encoder=ENCODER, logit_scale=100.0).splitlines()[0])


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with `caches` and `text_features`.")] = Path(
        "../shared/data/clip-vit-b32"
    ),
) -> None:
    """Import the features, run the recipes on them, and write their tables into the pages."""
    import_all(folder)

    # DVC accepts the imported files as the outputs of stages that cannot run, once the grid names them.
    (settings,) = recipes.read(RECIPES[0]).assignments()
    params.write(overrides.apply(params.read(), settings))
    call(dvc_command("repro", "--quiet", "code"))
    call(dvc_command("commit", "--quiet", "--force", *IMPORTED_OUTPUTS))

    for recipe in RECIPES:
        call(["shipyard", "run", "--recipe", str(recipe)])
        call(["shipyard", "report", "--into", str(recipe.with_suffix(".md"))])


def call(command: list[str]) -> None:
    """Run a command, and end with its status if it fails."""
    status = subprocess.run(command, env=dvc_environment(), check=False).returncode  # noqa: S603 (fixed arguments)
    if status:
        raise typer.Exit(status)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app, "the import stays; start again to continue")
