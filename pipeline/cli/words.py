"""`shipyard words`: learned prompts, read back as words."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from pipeline.cli.help import RESULTS, examples

app = typer.Typer()


@app.command(
    rich_help_panel=RESULTS,
    epilog=examples(
        "shipyard words coop",
        "shipyard words coop+ship --dataset caltech101 --seed 2",
        "shipyard words ship --image train/cat/01.jpg --image test/dog/07.jpg",
    ),
)
def words(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A method such as coop or coop+ship, or ship.")],
    *,
    image: Annotated[
        list[str] | None, typer.Option(help="For ship: an image, by its path as the index has it; may repeat.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="One of grid.datasets; without it, the first.")] = None,
    task: Annotated[str | None, typer.Option(help="One of grid.tasks; without it, the first.")] = None,
    seed: Annotated[int | None, typer.Option(help="One of grid.seeds; without it, the first.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Words of each vector, nearest first.")] = 3,
) -> None:
    """Print the words nearest to what a method or generator learned.

    The number behind a word is its distance. The nearest word need not mean what the vector does.
    """
    from features.text.text_tower import load_tower
    from pipeline.artifacts.paths import EncoderPaths
    from pipeline.config import params
    from pipeline.inference.words import learned_contexts
    from pipeline.steps.nearest_words import nearest_words

    found = params.load()
    grid, encoded = found.grid, EncoderPaths(found.artifacts)
    cell = encoded.cell(dataset or grid.datasets[0], task or grid.tasks[0])
    chosen = grid.seeds[0] if seed is None else seed
    tower = load_tower(encoded.text_tower)
    owners, contexts = learned_contexts(found, cell, run, seed=chosen, images=image or [], tower=tower)
    print(f"{run} on {cell.dataset}, {cell.task}, seed {chosen}: nearest tokens, and their distance")
    for context, near in groupby(nearest_words(contexts, tower, count), key=lambda word: word.context):
        print(f"\n{owners[context]}" if owners[context] else "")
        for vector, row in groupby(near, key=lambda word: word.vector):
            print(f"{vector + 1:>4}  {', '.join(f'{word.word} ({word.distance:.3g})' for word in row)}")
