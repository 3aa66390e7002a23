"""The command `shipyard words`: print learned prompts as words."""

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
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Method that learns prompts, such as coop or coop+ship, or a generator: ship."
        ),
    ],
    *,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Image to read as a prompt (generators only), by its path in the index. Can be repeated.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of grid.datasets. Default: the first.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One of grid.tasks. Default: the first, or that of your own data set."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="One of grid.seeds. Default: the first.")] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Number of words per vector, nearest first.")] = 3,
) -> None:
    """Print the words nearest to each learned prompt vector.

    The number after each word is its distance. The nearest word need not mean what the vector does.
    """
    from features.text.tower_file import load_tower
    from pipeline.artifacts.paths import EncoderPaths
    from pipeline.config.params import load
    from pipeline.inference.words import check_fitted, learned_contexts
    from pipeline.steps.nearest_words import nearest_words

    params = load()
    grid = params.grid
    encoder = EncoderPaths(params.artifacts)
    dataset = dataset or grid.datasets[0]
    own = dataset if dataset in params.tasks else None  # a data set made by `task new` has a task of its name
    cell = encoder.cell(dataset, task or own or grid.tasks[0])
    seed = grid.seeds[0] if seed is None else seed

    check_fitted(params, cell, run, seed)
    tower = load_tower(encoder.text_tower)
    owners, contexts = learned_contexts(params, cell, run, seed=seed, images=image or [], tower=tower)

    print(f"{run} on {cell.dataset}, {cell.task}, seed {seed}: nearest tokens and their distances")
    for context, words_of_context in groupby(nearest_words(contexts, tower, count), key=lambda word: word.context):
        print(f"\n{owners[context]}" if owners[context] else "")
        for vector, words_of_vector in groupby(words_of_context, key=lambda word: word.vector):
            print(f"{vector + 1:>4}  {', '.join(f'{word.word} ({word.distance:.3g})' for word in words_of_vector)}")
