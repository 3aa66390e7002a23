"""`shipyard predict` and `shipyard export`: use what was trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from features.errors import InputError
from features.formats.files import atomic_file
from pipeline.cli import completion
from pipeline.cli.help import OWN, examples

if TYPE_CHECKING:
    from pipeline.inference.predict import Prediction

Format = Literal[
    "onnx", "torchscript", "safetensors", "open_clip"
]  # as in pipeline.inference.export, which takes a while to import
UNREADABLE = 3  # the exit status when some files could not be read, and all others were done

Task = Annotated[
    str,
    typer.Argument(metavar="NAME", help="As `shipyard task new` named it.", autocompletion=completion.own_tasks),
]

Run = Annotated[
    str | None, typer.Option(metavar="RUN", help="A run, such as coop+ship, instead of the one that was chosen.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Seed = Annotated[int | None, typer.Option(min=0, help="A seed of it, instead of the first.")]

app = typer.Typer(rich_markup_mode=None)


@app.command(
    rich_help_panel=OWN,
    epilog=examples(
        "shipyard predict mybirds photos/new",
        "shipyard predict mybirds 'cards/**/*.jpg' --top 1 --csv found.csv --html found.html",
        "find . -name '*.jpg' | shipyard predict mybirds - --json -",
    ),
)
def predict(
    name: Task,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders, globs; - reads a list.")],
    *,
    top: Annotated[int, typer.Option(min=1, help="How many classes of an image to tell.")] = 3,
    csv: Annotated[Path | None, typer.Option(help="Write a line an image and rank; - prints it.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write an entry an image; - prints it.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the rows of the CSV as Parquet.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures.")] = None,
    overwrite: Overwrite = False,
    run: Run = None,
    seed: Seed = None,
) -> None:
    """Classify images, with calibrated probabilities.

    Without a file to write, a table is printed, in which * marks classes learned from their names alone. Files that
    cannot be read are told on stderr, the rest goes on, and the exit status is 3.
    """
    from features.runtime.devices import keep_freed_memory
    from features.runtime.progress import Progress
    from pipeline.artifacts.selection import calibration_warning
    from pipeline.cli.data_list import data_folders
    from pipeline.cli.output_paths import check_outputs
    from pipeline.config.params import load
    from pipeline.inference import outputs as files
    from pipeline.inference import predict as predicting

    params = load()
    wanted = predicting.expand(paths, sys.stdin)
    if not wanted:
        raise InputError(f"no image is meant by {' '.join(paths)}: give files, folders or globs that match some")
    check_outputs(
        {"--csv": csv, "--json": json, "--parquet": parquet, "--html": html},
        inputs=wanted,
        data=data_folders(params),
        overwrite=overwrite,
    )
    keep_freed_memory()
    model = predicting.open_model(params, name, run=run, seed=seed)
    if said := calibration_warning(model.run, model.temperature):
        print(f"note: {said}", file=sys.stderr)
    with Progress("predict", len(wanted)) as progress:
        found = list(predicting.predict(model, wanted, top, progress.advance))
    writers: list[tuple[Path | None, Callable[[TextIO], None]]] = [
        (csv, lambda out: files.write_csv(found, out)),
        (json, lambda out: files.write_json(found, model, out)),
    ]
    for path, write in writers:
        if path is not None:
            with _text(path) as out:
                write(out)
    if parquet is not None:
        files.write_parquet(found, parquet)
    if html is not None:
        files.write_gallery(found, model, html)
    if not any((csv, json, parquet, html)):
        print(files.table(found))
    _tell_problems(found)


def _tell_problems(found: list[Prediction]) -> None:
    """List what could not be read, and end with a status that says so."""
    problems = [one for one in found if one.problem is not None]
    for one in problems:
        print(f"unreadable: {one.path}: {one.problem}", file=sys.stderr)
    if problems:
        print(
            f"{len(problems)} of {len(found)} files could not be read; put good copies in their place", file=sys.stderr
        )
        raise typer.Exit(UNREADABLE)


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """A file that is written whole, or stdout for `-`."""
    if str(path) == "-":
        yield sys.stdout
    else:
        with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            yield file


@app.command(
    rich_help_panel=OWN,
    epilog=examples(
        "shipyard export mybirds --to onnx --out mybirds.onnx",
        "shipyard export mybirds --to open_clip --out mybirds.safetensors",
    ),
)
def export(
    name: Task,
    *,
    to: Annotated[Format, typer.Option(help="onnx, torchscript, safetensors; open_clip: zero-shot weights (D, C).")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    overwrite: Overwrite = False,
    run: Run = None,
    seed: Seed = None,
) -> None:
    """Write the trained classifier into one file, for other programs.

    It holds the image tower too, but for open_clip, and in its metadata class names and preprocessing.
    """
    from pipeline.cli.data_list import data_folders
    from pipeline.cli.output_paths import check_outputs
    from pipeline.config.params import load
    from pipeline.inference import export as exporting
    from pipeline.inference.predict import open_model

    params = load()
    check_outputs({"--out": out}, data=data_folders(params), overwrite=overwrite)
    exporting.export(open_model(params, name, run=run, seed=seed, device="cpu"), to, out)
    print(f"{out}: {to}, {out.stat().st_size:,} bytes")
