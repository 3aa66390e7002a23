"""`shipyard predict` and `shipyard export`: use a trained classifier."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from features.errors import InputError, are, counted, shown
from features.formats.files import atomic_file
from pipeline.cli import completion
from pipeline.cli.help import OWN, examples

if TYPE_CHECKING:
    from pipeline.config.params import Params
    from pipeline.inference.inputs import Inputs
    from pipeline.inference.predict import Model, Prediction

# The same as in pipeline.inference.export, whose import would slow down --help.
Format = Literal["onnx", "torchscript", "safetensors", "open_clip"]
UNREADABLE = 3  # exit status if some files could not be read and all others were processed

Task = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Task made by `shipyard task new`.", autocompletion=completion.own_tasks),
]
Run = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Run to use, such as coop+ship. Default: the run that was selected."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Seed of the run. Default: the selected seed, or the first of grid.seeds."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Largest image to read, width times height. Default: that of the task's data set."
    ),
]

app = typer.Typer(rich_markup_mode=None)


@app.command(
    rich_help_panel=OWN,
    epilog=examples(
        "shipyard predict mybirds photos/new",
        "shipyard predict mybirds 'cards/**/*.jpg' --top 1 --csv found.csv --html found.html",
        "find . -name '*.jpg' | shipyard predict mybirds - --json -",
        "shipyard predict mybirds 'shards-{000000..000009}.tar' --parquet found.parquet",
    ),
)
def predict(
    name: Task,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Files, folders, globs, or archives (.tar, .parquet, .arrow); - reads paths from standard input.",
        ),
    ],
    *,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of top classes to report per image.")] = 3,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV file to write, one row per input; - for standard output.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON file to write, one entry per image; - for standard output."),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet file to write, with the rows of --csv.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML page to write, with the images.")] = None,
    overwrite: Overwrite = False,
    run: Run = None,
    seed: Seed = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Classify images, with calibrated probabilities.

    Without an output file, a table is printed, in which * marks classes without training images. Every input has one
    row, in order, also if it is given twice. Unreadable files have a problem instead of classes, they are also listed
    on stderr, and the exit status is 3.
    """
    from features.runtime.devices import keep_freed_memory
    from features.runtime.progress import Progress
    from pipeline.cli.output_paths import check_outputs, project_inputs
    from pipeline.config.params import load
    from pipeline.inference import outputs
    from pipeline.inference import predict as inference

    params = load()
    images = _inputs(paths)
    check_outputs(
        {"--csv": csv, "--json": json, "--parquet": parquet, "--html": html},
        inputs=[*images.files, *project_inputs(params)],
        overwrite=overwrite,
    )

    keep_freed_memory()
    model = inference.open_model(params, name, run=run, seed=seed, max_pixels=max_pixels)
    for note in model_notes(params, model):
        print(f"note: {note}", file=sys.stderr)
    with Progress("predict", len(images.paths)) as progress:
        predictions = list(inference.predict(model, images.paths, top, progress.advance, images.read))

    text_writers: list[tuple[Path | None, Callable[[TextIO], None]]] = [
        (csv, lambda out: outputs.write_csv(predictions, out)),
        (json, lambda out: outputs.write_json(predictions, model, out)),
    ]
    for path, write in text_writers:
        if path is not None:
            with _open_text(path) as out:
                write(out)
    if parquet is not None:
        outputs.write_parquet(predictions, parquet)
    if html is not None:
        outputs.write_gallery(predictions, model, html, images.read)
    if not any((csv, json, parquet, html)):
        print(outputs.table(predictions))

    _report_unreadable(predictions)


def _inputs(paths: list[str]) -> Inputs:
    """Return the images that the arguments denote; say on stderr what was passed over in folders and archives."""
    from features.splits.image_files import passed_over_lines
    from pipeline.inference.inputs import expand

    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):  # a path may have any bytes
            stream.reconfigure(errors="surrogateescape")
    found = expand(paths, sys.stdin)
    for line in passed_over_lines(found.passed_over):
        print(f"note: {line}", file=sys.stderr)
    if not found.paths:
        raise InputError(f"no image matches {' '.join(paths)}: expected files, folders, globs or archives")
    return found


def model_notes(params: Params, model: Model) -> Iterator[str]:
    """Yield what a user should know of the model before its predictions."""
    from features.splits.image_files import examples as first
    from pipeline.artifacts.selection import calibration_warning
    from pipeline.inference.predict import names_added_since

    if warning := calibration_warning(model.run, model.temperature):
        yield warning
    if added := names_added_since(params, model):
        yield (
            f"{counted(len(added), 'class name')} {are(len(added), 'was', 'were')} added after the run and cannot be "
            f"predicted ({first(added)}): shipyard run {model.task}"
        )


def _report_unreadable(predictions: list[Prediction]) -> None:
    """List the unreadable files on stderr and exit with status 3; do nothing if there is none."""
    unreadable = [prediction for prediction in predictions if prediction.problem is not None]
    for prediction in unreadable:
        print(f"unreadable: {shown(prediction.path)}: {prediction.problem}", file=sys.stderr)
    if unreadable:
        print(
            f"{len(unreadable)} of {counted(len(predictions), 'file')} could not be read; replace them", file=sys.stderr
        )
        raise typer.Exit(UNREADABLE)


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file that is written atomically, or standard output for `-`."""
    if str(path) == "-":
        yield sys.stdout
    else:
        with atomic_file(path) as part, part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
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
    to: Annotated[Format, typer.Option(help="File format. open_clip: the zero-shot weights (D, C) only.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    overwrite: Overwrite = False,
    run: Run = None,
    seed: Seed = None,
) -> None:
    """Write the trained classifier to one file for other programs.

    The file includes the image tower, except in the format open_clip. Its metadata has the class names and the
    preprocessing.
    """
    from pipeline.cli.output_paths import check_outputs, project_inputs
    from pipeline.config.params import load
    from pipeline.inference.export import export as write_model
    from pipeline.inference.predict import open_model

    params = load()
    check_outputs({"--out": out}, inputs=project_inputs(params), overwrite=overwrite)

    # Always on the CPU: the exported file must not depend on the device of this machine.
    model = open_model(params, name, run=run, seed=seed, device="cpu")
    write_model(model, to, out)
    print(f"{out}: {to}, {out.stat().st_size:,} bytes")
