"""The command `shipyard serve`: classify images in a browser on this machine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.help import OWN, examples
from pipeline.cli.predict import MaxPixels, Run, Seed, Task, model_notes

LABELS = Path("labels")  # where corrected images are saved by default

app = typer.Typer(rich_markup_mode=None)


@app.command(
    rich_help_panel=OWN, epilog=examples("shipyard serve mybirds", "shipyard serve mybirds --port 9000 --max-mb 200")
)
def serve(
    name: Task,
    *,
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Any but a loopback address lets other machines send images and save labels.",
        ),
    ] = "127.0.0.1",
    max_mb: Annotated[int, typer.Option(metavar="N", min=1, help="Size of the largest image file, in MB.")] = 50,
    max_pixels: MaxPixels = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for images with corrected labels and their table. Default: labels/NAME."
        ),
    ] = None,
    run: Run = None,
    seed: Seed = None,
) -> None:
    """Classify images in a browser, or by JSON, on this machine.

    The page shows the classes, their probabilities and the nearest training images. A corrected label is saved with its
    image, in a table that `shipyard task new` reads. Needs the extra `serve`.
    """
    missing = [package for package in ("fastapi", "uvicorn") if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed: pip install -e '.[serve]'")

    import uvicorn

    from pipeline.cli.output_paths import check_folder, project_inputs
    from pipeline.config.params import load
    from pipeline.inference.predict import open_model
    from pipeline.serving.app import LOOPBACK, make_app
    from pipeline.serving.corrections import Corrections
    from pipeline.serving.neighbours import training_images

    params = load()
    check_folder("--labels", labels or LABELS, inputs=project_inputs(params))
    corrections = Corrections(labels or LABELS / name)
    corrections.check()
    model = open_model(params, name, run=run, seed=seed, max_pixels=max_pixels)
    training = training_images(params, model)
    notes = list(model_notes(params, model))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    application = make_app(model, training, corrections, host=host, max_bytes=max_mb * 1_000_000, notes=notes)
    if host not in LOOPBACK:
        print(
            f"note: {host} is not a loopback address: other machines can send images and save labels", file=sys.stderr
        )
    print(f"{name}: http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)", flush=True)
    uvicorn.run(application, host=host, port=port, log_level="warning")
