"""`shipyard task`: tasks on the user's own images."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.help import examples

if TYPE_CHECKING:
    from features.datasets.base import Listing

# The same as in pipeline.cli.new_task, whose import would slow down --help.
ClassFrom = Literal["first", "last"]

CHECKED = "task_check"  # stands for the name of the task

Images = Annotated[
    str,
    typer.Argument(metavar="IMAGES", help="Folder with one folder per class, a table or archives, as for `task new`."),
]
Unseen = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Text file of classes that have no training images, one name per line; or their names, "
        "separated by commas. Any images they do have are used only for testing.",
    ),
]
From = Annotated[
    ClassFrom | None,
    typer.Option(
        help="Folder that names the class of an image: the first below --images (or below train, val, test), or the "
        "last, which holds the image. Default: the first."
    ),
]

MaxPixels = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Largest image to read, width times height. Default: 268435456. A JPEG may be larger."
    ),
]

app = typer.Typer(help="Create and check tasks of your own images.", no_args_is_help=True, rich_markup_mode=None)


@app.command(
    epilog=examples(
        "shipyard task new mybirds --images photos/birds --unseen names.txt",
        "shipyard task new mybirds --images labels.csv --template 'a photo of a {}, a bird.' --shots 16",
        "shipyard task new mybirds --images 'photos/shards-{000000..000009}.tar'",
    )
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name for the new data set and its task.")],
    images: Annotated[
        str,
        typer.Option(
            help="Folder with one folder per class; CSV or Parquet file with path,label[,split]; or archives of images "
            "(tar, Parquet, Arrow): a file, 'shards-{000..009}.tar', or s3://bucket/folder."
        ),
    ],
    *,
    unseen: Unseen = None,
    template: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Prompt with {} for the class name. Can be repeated.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Training images per class. Default: all.")
    ] = None,
    aliases: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV (label,name) that maps folder names to the class names used in prompts."
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV (name,description) that adds a short description to a class name."),
    ] = None,
    split_seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Seed of the random split into training, validation and test images."),
    ] = 0,
    class_from: From = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Create a task from images and names.

    Classes without images are learned from their names alone.

    All inputs are validated first and all problems are reported together. The images are split into training,
    validation and test images, the task is added to params.yaml, and the next command to run is printed.
    """
    from pipeline.cli.new_task import NewTask, prepare
    from pipeline.executor.repository import exclusive_run

    request = NewTask(
        name,
        images,
        unseen,
        tuple(template or ()),
        shots,
        aliases,
        descriptions,
        split_seed,
        class_from,
        max_pixels,
    )
    with exclusive_run("shipyard task new"):  # it writes params.yaml, which a run at work reads
        prepared = prepare(request)
        _print_listing(name, prepared.listing)
        prepared.write()

    print(f"written: params.yaml (data.sets.{name}, tasks.{name})")
    print(f"         {prepared.names}; to add a class, add a line to this file")
    if prepared.absolute:
        print(
            "note: the images are outside data.root, so params.yaml has their absolute path; colleagues must change it"
        )
    print(f"next: shipyard run {name}")


@app.command(epilog=examples("shipyard task check photos/birds", "shipyard task check labels.csv --unseen names.txt"))
def check(
    images: Images,
    *,
    unseen: Unseen = None,
    class_from: From = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Show what `task new` would read; write nothing.

    A table shows the images of each class. Every image is opened: unreadable ones, copies in training and test images
    or in two classes, and everything that is passed over are listed. Decoding ends after 20 seconds; a line says how
    many images are left to the run.
    """
    from pipeline.cli.new_task import NewTask, prepare
    from pipeline.cli.task_check import look_at

    prepared = prepare(NewTask(CHECKED, images, unseen, class_from=class_from, max_pixels=max_pixels))
    _print_listing(images, prepared.listing)
    print(*look_at(prepared.listing, prepared.folder), sep="\n")
    print(f"nothing was written; next: shipyard task new NAME --images {shlex.quote(images)}")


def _print_listing(name: str, listing: Listing) -> None:
    """Print how many images and which classes were found, and everything that may not be as the user thinks."""
    from features.errors import counted
    from features.splits.image_files import passed_over_lines
    from pipeline.cli.new_task import class_notes, seen_ids, split_counts, too_small_splits

    seen = len(seen_ids(listing))
    counts = split_counts(listing)
    images_of_unseen = len(listing.images) - sum(counts.values())
    images_of_seen = ", ".join(f"{count} {split}" for split, count in counts.items())

    named = counted(len(listing.classes) - seen, "class")
    print(f"{name}: {counted(seen, 'class')} with {images_of_seen} images")
    print(f"{' ' * len(name)}  {named} with only names, {counted(images_of_unseen, 'test image')}")
    for line in class_notes(listing):
        print(f"  {line}")
    for note in [*listing.notes, *passed_over_lines(listing.passed_over), *too_small_splits(listing)]:
        print(f"note: {note}")
