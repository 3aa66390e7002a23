"""Every model of open_clip in true size, with random weights: are our features those of open_clip?

`python -m benchmarks.encoder_parity [NAME ...]` writes a row for each model into benchmarks/encoder_parity.csv: the
relative difference of the features of texts, of prompts whose learned vectors are the embeddings of words, of the
gradient to these vectors, and of the features of an image, each from its string or its pixels on. Without names it
goes on with the models that have no row. Tokenizers that open_clip does not ship are random ones of the same kind.
"""

from __future__ import annotations

import csv
import gc
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.encoders import helper
from benchmarks.memory import ROOT
from features.encoding.augment import centre_crop
from features.encoding.configuration import locate_tokenizer, model_config
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import ZeroEmpty, load_encoder, weights_sha256
from features.encoding.text import text_tower_of
from features.encoding.text_support import TextSupport, text_support
from features.errors import InputError
from features.formats.files import atomic_file
from features.runtime.commandline import run_app
from features.runtime.lazy_open_clip import import_open_clip
from features.text.text_tower import TextTower

TABLE = ROOT / "benchmarks" / "encoder_parity.csv"
KINDS = ("texts", "prompts", "gradient", "image")  # of what is compared
COLUMNS = ("model", "parameters", *KINDS, "note")
LARGEST = 2.6e9  # parameters: 10.4 GB in float32, and the text tower once more
TEXTS = ["a photo of a cat.", "dog", "an image of the extremely long name of a thing."]
NAMES = ["cat.", "grand piano."]
WORDS = "a photo of a"


def main(
    models: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models of open_clip.")] = None,
) -> None:
    """Compare the models one after the other; write the table after each."""
    logging.disable(logging.WARNING)  # open_clip warns of random weights
    known = import_open_clip().list_models()
    unknown = {*(models or ())} - {*known}
    if unknown:
        raise InputError(f"open_clip has no model {', '.join(sorted(unknown))}")

    rows = read_rows()
    for model in models or [name for name in known if name not in rows]:
        rows[model] = {"model": model, **compare(model)}
        print(*rows[model].values(), flush=True)
        write_rows(rows)
        gc.collect()
    print(summary(rows))


def read_rows() -> dict[str, dict[str, str]]:
    """Return the rows of the table by model."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def write_rows(rows: dict[str, dict[str, str]]) -> None:
    """Write the table, sorted by model."""
    with atomic_file(TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[model] for model in sorted(rows))


def summary(rows: dict[str, dict[str, str]]) -> str:
    """Return how many models were compared, and the largest difference of each kind."""
    compared = [row for row in rows.values() if row["texts"]]
    largest = {kind: max((float(row[kind]) for row in compared), default=0.0) for kind in KINDS}
    return f"{len(compared)} of {len(rows)} models compared; largest: {largest}"


def compare(model: str) -> dict[str, str]:
    """Return the columns of a model, or why it was not compared."""
    empty = dict.fromkeys(COLUMNS[1:], "")
    support = text_support(model_config(EncoderSpec(model=model)) or {})
    if support.problems:
        return {**empty, "note": "refused"}
    if support.hugging_face:
        return {**empty, "note": "the text tower's configuration is on a hub"}
    count = parameters(model)
    if count > LARGEST:
        return {**empty, "parameters": str(count), "note": "too large for the memory of the machine"}

    with TemporaryDirectory() as folder:
        spec = EncoderSpec(model=model, pretrained="random:0", tokenizer=tokenizer_folder(Path(folder), support))
        expected = theirs(spec, support)
        gc.collect()
        ours = our_features(spec, support)
    differences = {kind: f"{relative(ours[kind], expected[kind]):.1e}" for kind in KINDS}
    same = torch.equal(ours["weights"], expected["weights"])
    return {**empty, "parameters": str(count), **differences, "note": "" if same else "other weights"}


def parameters(model: str) -> int:
    """Return the number of parameters of a model, which is not filled."""
    with torch.device("meta"):
        module = import_open_clip().create_model(model, load_weights=False, device="meta")
    return sum(parameter.numel() for parameter in module.parameters())


def tokenizer_folder(folder: Path, support: TextSupport) -> str | None:
    """Write a small tokenizer of the kind that a text tower was trained with; None if it is CLIP's own."""
    if support.tokenizer is None:
        return None
    small = helper("small_tokenizers")
    return str(small.write_tokenizer(folder, small.kind_of(support.tokenizer)))


def theirs(spec: EncoderSpec, support: TextSupport) -> dict[str, Tensor]:
    """Return the features and gradients of open_clip's own module, preprocessing and tokenizer."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    torch.manual_seed(0)
    with ZeroEmpty():
        module = import_open_clip().create_model(
            spec.model, load_weights=False, precision="fp32", pretrained_text=False
        )
    module.eval().requires_grad_(False)

    embedding = module.token_embedding if hasattr(module, "token_embedding") else module.text.token_embedding
    prompts = token_ids([f"{WORDS} {name}" for name in NAMES], spec, support)
    context = context_of(embedding.weight, spec).requires_grad_()

    def with_context(_module: nn.Module, _ids: object, embedded: Tensor) -> Tensor:
        starts, length = tokenizer_of(spec).starts, context.shape[1]
        after = embedded[:, starts + length :]
        return torch.cat([embedded[:, :starts], context.expand(len(NAMES), -1, -1), after], dim=1)

    hook = embedding.register_forward_hook(with_context)
    of_prompts = module.encode_text(prompts, normalize=False)
    loss(of_prompts).backward()  # type: ignore[no-untyped-call]
    hook.remove()

    preprocess = image_transform_v2(PreprocessCfg(**module.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        of_texts = module.encode_text(token_ids(TEXTS, spec, support), normalize=False)
        of_image = module.encode_image(preprocess(picture())[None])
    assert context.grad is not None  # noqa: S101 (the prompts were encoded with it)
    return {
        "texts": of_texts,
        "prompts": of_prompts.detach(),
        "gradient": context.grad,
        "image": of_image,
        "weights": torch.frombuffer(bytearray.fromhex(weights_sha256(module)), dtype=torch.uint8),
    }


def our_features(spec: EncoderSpec, support: TextSupport) -> dict[str, Tensor]:
    """Return the same from our encoder and text tower."""
    encoder = load_encoder("random", spec, "cpu")
    crop = torch.from_numpy(np.array(centre_crop(picture(), encoder.preprocess)))
    of_image = encoder.encode_crops(crop[None])

    tower: TextTower = text_tower_of(encoder, spec)
    room = support.context_length
    context = context_of(tower.table, spec).requires_grad_()
    of_prompts = tower(context, tower.tokenizer.tokenize_names(NAMES, room=room))[0]
    loss(of_prompts).backward()  # type: ignore[no-untyped-call]
    assert context.grad is not None  # noqa: S101 (the prompts were encoded with it)
    return {
        "texts": tower.encode(tower.tokenizer.tokenize(TEXTS, room=room)),
        "prompts": of_prompts.detach(),
        "gradient": context.grad,
        "image": of_image,
        "weights": torch.frombuffer(bytearray.fromhex(encoder.weights_sha256), dtype=torch.uint8),
    }


def tokenizer_of(spec: EncoderSpec) -> Any:
    """Return the tokenizer of an encoder."""
    return locate_tokenizer("random", spec)


def context_of(table: Tensor, spec: EncoderSpec) -> Tensor:
    """Return the embeddings (1, L, W) of `WORDS`."""
    return table.detach()[torch.tensor(tokenizer_of(spec).words(WORDS))][None].clone()


def token_ids(texts: list[str], spec: EncoderSpec, support: TextSupport) -> Tensor:
    """Return what open_clip's tokenizer gives for the texts: (C, T), padded to the context length."""
    if support.tokenizer is None:
        ids: Tensor = import_open_clip().get_tokenizer(spec.model)(texts)
        return ids[:, : support.context_length]

    tokenizer = tokenizer_of(spec)
    padded: Tensor = helper("small_tokenizers").padded_ids(
        tokenizer, texts, support.context_length, tokenizer.pad, strips_end=support.strips_end
    )
    return padded


def loss(features: Tensor) -> Tensor:
    """Return a number that depends on the directions of all features (C, D)."""
    direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    return (F.normalize(features, dim=-1) * direction).sum()


def picture() -> Image.Image:
    """Return a picture of 500 x 375 pixels with coarse and fine structure."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    fine = Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8))
    return Image.blend(coarse, fine, 0.2)


def relative(ours: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, relative to that of the expected values."""
    return float((ours - expected).norm() / expected.norm())


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app, "the rows so far are in the table; start again to go on")
