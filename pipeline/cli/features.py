"""`shipyard features`: look at stores of image features, compare them, and exchange them with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from features.errors import InputError
from pipeline.artifacts import paths
from pipeline.cli.help import examples
from pipeline.config import params

app = typer.Typer(
    help="Look at stores of image features, and exchange them.", no_args_is_help=True, rich_markup_mode=None
)
STORE = "artifacts/liteclip/features/twemoji.zarr"
Store = Annotated[Path, typer.Argument(metavar="STORE", help=f"Such as {STORE}.")]


@app.command(epilog=examples(f"shipyard features info {STORE}"))
def info(store: Store) -> None:
    """Say what a store holds, and which encoder made it."""
    from features.image_store.store import ImageStore

    print(ImageStore.open(store).info())


@app.command(epilog=examples(f"shipyard features verify {STORE}"))
def verify(store: Store) -> None:
    """Read a whole store and check it."""
    from features.image_store.store import ImageStore

    ImageStore.open(store).verify()
    print(f"{store} is whole")


@app.command(epilog=examples(f"shipyard features diff {STORE} ../other/{STORE}"))
def diff(
    store: Store, other: Annotated[Path, typer.Argument(metavar="OTHER", help="The store to compare it with.")]
) -> None:
    """Say how two stores differ: what made them, rows, values. Exit status 1 if they do."""
    from features.exchange.diff import differences
    from features.image_store.store import ImageStore

    found = differences(ImageStore.open(store), ImageStore.open(other))
    print("\n".join(found) or "the same features of the same images")
    if found:
        raise typer.Exit(1)


@app.command("export", epilog=examples(f"shipyard features export {STORE} twemoji.h5"))
def export_store(
    store: Store,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new file that ends in .h5, .parquet or .npz.")],
    index: Annotated[bool, typer.Option(help="With the ids and class names of the data set's index.")] = True,
) -> None:
    """Write a store into one file for other programs; `import` reads it back bit for bit."""
    from features.exchange.exporter import export
    from features.image_store.store import ImageStore
    from pipeline.cli.data_list import data_folders
    from pipeline.cli.output_paths import check_new_file

    data = data_folders(params.load()) if params.PATH.exists() else []
    check_new_file("OUT", out, inputs=[store], data=data)
    table, names = (paths.index(store.stem), paths.names(store.stem)) if index else (None, None)
    if table and not table.exists():
        raise InputError(f"there is no index {table} with ids and class names; pull it, or say --no-index")
    export(ImageStore.open(store), out, table=table, names=names)
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB")


@app.command(
    "import",
    epilog=examples(
        "shipyard features import twemoji.h5 mine",
        "shipyard features import lab.npz lab --encoder vit_b16 --weights-sha256 HEX --classes names.txt",
    ),
)
def import_file(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file or folder of docs/share.md's formats.")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The data set's name from now on.")],
    *,
    encoder: Annotated[str | None, typer.Option(help="Whose features they are: a name in `encoders`.")] = None,
    weights_sha256: Annotated[str | None, typer.Option(help="Of its weights, as `features info` says.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names: a text, a name a line, or an index's JSON.")
    ] = None,
    template: Annotated[list[str] | None, typer.Option(help="A prompt with one {}; may be repeated.")] = None,
    rows: Annotated[Path | None, typer.Option(help="A CSV with some of the columns labels, splits, ids.")] = None,
    key: Annotated[list[str] | None, typer.Option(metavar="FIELD=NAME", help="What the file calls a field.")] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="The split of every row: train, val or test.")
    ] = None,
    to_float16: Annotated[bool, typer.Option("--to-float16", help="Round what is not float16.")] = False,
) -> None:
    """Make features that were computed elsewhere a data set of this project."""
    from features.exchange.rows import ImportRequest
    from pipeline.cli.import_features import import_dataset

    wish = ImportRequest(
        source=source,
        dataset=dataset,
        encoder=encoder,
        weights_sha256=weights_sha256,
        classes=classes,
        templates=tuple(template or ()),
        rows=rows,
        keys=_pairs(key or []),
        split=split,
        to_float16=to_float16,
    )
    print(import_dataset(wish))


def _pairs(said: list[str]) -> dict[str, str]:
    wrong = [text for text in said if not text.partition("=")[2]]
    if wrong:
        raise InputError(f"--key {wrong[0]!r} is no FIELD=NAME, such as features=image_embeddings")
    return {text.partition("=")[0]: text.partition("=")[2] for text in said}
