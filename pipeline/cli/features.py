"""`shipyard features`: inspect and compare stores of image features, and exchange them with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from features.errors import InputError
from pipeline.artifacts import paths
from pipeline.cli.help import examples
from pipeline.config import params

app = typer.Typer(
    help="Inspect, compare, export and import image features.", no_args_is_help=True, rich_markup_mode=None
)
STORE = "artifacts/liteclip/features/twemoji.zarr"
Store = Annotated[Path, typer.Argument(metavar="STORE", help=f"Feature store, such as {STORE}.")]


@app.command(epilog=examples(f"shipyard features info {STORE}"))
def info(store: Store) -> None:
    """Show the content of a store and its encoder."""
    from features.image_store.store import ImageStore

    print(ImageStore.open(store).info())


@app.command(epilog=examples(f"shipyard features covariance {STORE}"))
def covariance(store: Store) -> None:
    """Show the largest eigenvalue of the features' covariance.

    It is that of the training features, within classes and in total. A VAE with a KL weight of twice the first number
    or more learns nothing about an image but its class.
    """
    import torch
    from torch.nn import functional as F

    from features.image_store.store import ImageStore
    from pipeline.metrics.covariance import largest_eigenvalues

    rows = ImageStore.open(store).load("train")
    features = F.normalize(torch.from_numpy(rows.features[rows.valid][:, 0].astype("float32")), dim=-1)
    labels = torch.from_numpy(rows.labels[rows.valid].astype("int64"))
    if len(set(labels.tolist())) == len(labels):
        raise InputError(f"{store}: no class has two training images, so features have no variance within classes")
    within, total = largest_eigenvalues(features, labels)
    print(f"{len(labels):,} training images, {features.shape[1]} dimensions, unit features")
    print(f"largest eigenvalue of the covariance: {within:.4f} within classes, {total:.4f} in total")
    print(f"a VAE uses its latent only with a KL weight below {2 * within:.4f}")


@app.command(epilog=examples(f"shipyard features verify {STORE}"))
def verify(store: Store) -> None:
    """Read every byte of a store and verify its checksums."""
    from features.image_store.store import ImageStore

    ImageStore.open(store).verify()
    print(f"{store} is complete and unchanged")


@app.command(epilog=examples(f"shipyard features diff {STORE} ../other/{STORE}"))
def diff(
    store: Store, other: Annotated[Path, typer.Argument(metavar="OTHER", help="Feature store to compare with.")]
) -> None:
    """Compare the provenance, rows and values of two stores.

    The exit status is 1 if they differ.
    """
    from features.exchange.diff import differences
    from features.image_store.store import ImageStore

    lines = differences(ImageStore.open(store), ImageStore.open(other))
    print("\n".join(lines) or "identical: the same features of the same images")
    if lines:
        raise typer.Exit(1)


@app.command("export", epilog=examples(f"shipyard features export {STORE} twemoji.h5"))
def export_store(
    store: Store,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file; its suffix is .h5, .parquet or .npz.")],
    index: Annotated[bool, typer.Option(help="Include the image ids and class names from the index.")] = True,
) -> None:
    """Write a store to one file for other programs.

    `shipyard features import` reads the file back without any change of a value.
    """
    from features.exchange.exporter import export
    from features.image_store.store import ImageStore
    from pipeline.cli.output_paths import check_new_file, project_inputs

    of_project = project_inputs(params.load()) if params.PATH.exists() else []
    check_new_file("OUT", out, inputs=[store, *of_project])

    table, names = (paths.index(store.stem), paths.names(store.stem)) if index else (None, None)
    if table and not table.exists():
        raise InputError(f"index {table} not found: get it with `dvc pull`, or use --no-index")

    export(ImageStore.open(store), out, table=table, names=names)
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB")


@app.command(
    "import",
    epilog=examples(
        "shipyard features import twemoji.h5 mine",
        "shipyard features import lab.npz lab --encoder vit_b16 --weights-sha256 HEX --classes names.txt",
        "shipyard features import caches/caltech101 mine --encoder api --weights-sha256 HEX --split-of caltech101",
    ),
)
def import_file(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="File or folder in one of the formats of docs/share.md.")
    ],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name for the new data set.")],
    *,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Encoder that produced the features (a key of `encoders`).")
    ] = None,
    weights_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="SHA-256 of the encoder weights, as shown by `features info`.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names: a text file with one name per line, or the JSON of an index."),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Prompt with one {} for the class name. Can be repeated.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV file with one row per feature and some of the columns labels, splits, ids."
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=NAME", help="Name that SOURCE uses for a field. Can be repeated."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="Split of all rows: train, val or test.")
    ] = None,
    split_of: Annotated[
        str | None,
        typer.Option(
            metavar="READER", help="Published data set whose official split the rows follow, such as caltech101."
        ),
    ] = None,
    only: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text file with the classes to keep, one name per line; other rows are left out."
        ),
    ] = None,
    to_float16: Annotated[
        bool, typer.Option("--to-float16", help="Round features of another data type to float16.")
    ] = False,
) -> None:
    """Import features from another program as a new data set."""
    from features.exchange.rows import ImportRequest
    from pipeline.cli.import_features import import_dataset

    if split_of and (classes or rows or split):
        raise InputError("--split-of gives the class names and the split; leave out --classes, --rows and --split")
    request = ImportRequest(
        source=source,
        dataset=dataset,
        encoder=encoder,
        weights_sha256=weights_sha256,
        classes=classes,
        templates=tuple(template or ()),
        rows=rows,
        keys=_parse_keys(key or []),
        split=split,
        split_of=split_of,
        only=only,
        to_float16=to_float16,
    )
    print(import_dataset(request))


@app.command(
    "import-texts",
    epilog=examples(
        "shipyard features import-texts lab texts.npz",
        "shipyard features import-texts lab texts.npy --classes names.txt --encoder api",
    ),
)
def import_texts(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Data set whose image features are imported.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Text features, a row per class: .npz, .npy, .pt, .safetensors, .h5, .parquet. `labels` are names.",
        ),
    ],
    *,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text file with the class name of each row.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Encoder with `model: imported` (a key of `encoders`). Default: grid.encoder."
        ),
    ] = None,
    logit_scale: Annotated[
        float, typer.Option(help="Factor of the cosines in the softmax: exp of CLIP's learned value.", min=0)
    ] = 100.0,
) -> None:
    """Import text features of class names.

    Zero-shot and every method that learns no prompts run with them.
    """
    from pipeline.cli.import_texts import import_class_texts

    print(import_class_texts(dataset, source, classes=classes, encoder=encoder, logit_scale=logit_scale))


def _parse_keys(options: list[str]) -> dict[str, str]:
    """Return field -> name of the `--key` options."""
    keys: dict[str, str] = {}
    for option in options:
        field, _, name = option.partition("=")
        if not name:
            raise InputError(f"invalid --key {option!r}: expected FIELD=NAME, for example features=image_embeddings")
        keys[field] = name
    return keys
