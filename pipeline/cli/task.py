"""`shipyard task`: tasks of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.paths import proxy_task
from pipeline.cli.help import examples

app = typer.Typer(help="Make a task of your own images.", no_args_is_help=True, rich_markup_mode=None)


@app.command(
    epilog=examples(
        "shipyard task new mybirds --images photos/birds --unseen names.txt",
        "shipyard task new mybirds --images labels.csv --template 'a photo of a {}, a bird.' --shots 16",
    )
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the data set and of its task.")],
    images: Annotated[
        Path, typer.Option(help="A folder with a folder per class, or a CSV or Parquet file: path,label[,split].")
    ],
    *,
    unseen: Annotated[
        Path | None,
        typer.Option(help="Class names to learn without images, a line each; images there may be, to test."),
    ] = None,
    template: Annotated[list[str] | None, typer.Option(help="A prompt with {} for the class name; may repeat.")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Training images per class; without it, all.")] = None,
    aliases: Annotated[Path | None, typer.Option(help="CSV label,name: what CLIP shall read for a folder.")] = None,
    descriptions: Annotated[Path | None, typer.Option(help="CSV name,description: a few words about a class.")] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Another number draws other splits.")] = 0,
) -> None:
    """Make a task of your images and of names of classes without any.

    Everything is checked first, and every fault told at once. Then the images are split into training, validation and
    test, the task is written into params.yaml, and the next command is said.
    """
    from pipeline.cli.new_task import NewTask, create, seen_ids, split_counts, unjudged

    wanted = NewTask(name, images, unseen, tuple(template or ()), shots, aliases, descriptions, split_seed)
    made = create(wanted)
    seen, counts = len(seen_ids(made.listing)), split_counts(made.listing)
    only_named = len(made.listing.classes) - seen
    judged = len(made.listing.images) - sum(counts.values())
    print(f"{name}: {seen} classes with {', '.join(f'{count} {split}' for split, count in counts.items())} images")
    print(f"{' ' * len(name)}  {only_named} classes from their names alone, with {judged} images to test them on")
    for said in unjudged(made.listing):
        print(f"note: {said}")
    print(f"written: params.yaml (data.sets.{name}, tasks.{name}, tasks.{proxy_task(name)})")
    print(f"         {made.names}, where a new class is a new line")
    if made.absolute:
        print("note: the images lie outside data.root, so their absolute path was written; colleagues need their own")
    print(f"next: shipyard run {name}")
