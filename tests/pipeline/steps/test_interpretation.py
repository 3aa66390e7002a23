"""Learned vectors read back as words: the nearest tokens, decoded as the tokenizer means them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from small_task import ALL, CLASSES, TOWER, TRAIN, fit

import pipeline.generators
from features.lookup import find, names
from features.text.tokenizer import CLIP
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators.base import Generator
from pipeline.generators.ship import Ship
from pipeline.inference.words import image_readers, prompt_methods
from pipeline.steps.nearest_words import BLOCK, contexts_of, nearest_words, write_words
from pipeline.training.data import first_of_each_class
from pipeline.training.seeds import stream

TABLE = TOWER.token_embedding.weight


def test_an_embedding_reads_back_as_its_own_word() -> None:
    ids = CLIP.words("a photo of a kite")
    words = nearest_words(TABLE[ids][None], TOWER, count=2)
    assert [word.word for word in words if word.rank == 1] == ["a", "photo", "of", "a", "kite"]
    assert [word.vector for word in words] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [word.distance for word in words if word.rank == 1] == [0.0] * 5


def test_the_nearest_tokens_are_nearest_by_euclidean_distance() -> None:
    contexts = torch.randn(2, 3, 16, generator=stream(0, "x"))
    words = nearest_words(contexts, TOWER, count=4)
    assert len(words) == 2 * 3 * 4
    for word in words[::5]:
        distances = np.linalg.norm(TABLE.numpy() - contexts[word.context, word.vector].numpy(), axis=1)
        assert word.token == np.argsort(distances)[word.rank - 1]
        assert word.distance == pytest.approx(np.sort(distances)[word.rank - 1], rel=1e-5)


def test_contexts_and_vectors_are_numbered_across_blocks() -> None:
    ids = CLIP.words("a photo of a kite")
    contexts = TABLE[ids][None].repeat(BLOCK // len(ids) + 2, 1, 1)
    words = nearest_words(contexts, TOWER, count=1)
    assert len(words) > BLOCK
    expected = [(context, vector, int(ids[vector])) for context in range(len(contexts)) for vector in range(len(ids))]
    assert [(word.context, word.vector, word.token) for word in words] == expected


@pytest.mark.parametrize(
    ("token", "text"),
    [(320, "a"), (0, "!…"), (256, "!"), (512, "in…"), (94, "\\xa1…"), (49406, "<start_of_text>")],
)
def test_a_piece_of_a_word_is_marked_and_bytes_are_decoded(token: int, text: str) -> None:
    assert CLIP.token_text(token) == text


def test_tokens_of_a_word_join_to_the_word() -> None:
    for text in ("accordion", "straße", "日本"):
        pieces = [CLIP.token_text(token) for token in CLIP.words(text)]
        joined = "".join(piece.removesuffix("…") for piece in pieces)
        assert joined == text or "\\x" in joined  # a character may be split between tokens
        assert not pieces[-1].endswith("…")


@pytest.mark.parametrize(("name", "shape"), [("coop", (1, 4, 16)), ("cocoop", (1, 4, 16)), ("proda", (4, 4, 16))])
def test_classifiers_that_learn_prompts_hold_their_contexts(name: str, shape: tuple[int, ...]) -> None:
    contexts = contexts_of(fit(name, epochs=1).state())
    assert contexts is not None
    assert contexts.shape == shape
    assert contexts_of(fit("tip_adapter").state()) is None


def test_methods_and_generators_with_prompts_are_listed_by_their_classes() -> None:
    assert set(prompt_methods()) >= {"cocoop", "coop", "kgcoop", "plot", "proda", "vpt"}
    assert not {"zero_shot", "tip_adapter", "clip_adapter"} & set(prompt_methods())
    assert set(prompt_methods()) <= set(ALL)
    assert set(image_readers()) >= {"ship", "ship_plus"}
    assert "vae_scratch" not in image_readers()


@pytest.mark.parametrize("name", names(pipeline.generators))
def test_a_generator_says_whether_it_turns_images_into_prompts(name: str) -> None:
    kind = find(pipeline.generators, name, Generator)
    small = {key: 8 for key in ("encoder_width", "generator_width") if key in kind.model_fields}
    model = kind.model_validate(small).build(32, TOWER, stream(0, "build"))
    assert kind.reads_images == isinstance(model, PromptVae)


def test_an_images_prompt_is_the_decoders_at_the_mean_of_its_posterior() -> None:
    model = Ship(encoder_width=8, generator_width=8).build(32, TOWER, stream(0, "build"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=stream(0, "w"))
    x = TRAIN.centre[:2]
    w_1, b_1, w_2, b_2 = (parameter.detach().numpy() for parameter in model.encoder.parameters())
    mean = (np.maximum(x.numpy() @ w_1.T + b_1, 0) @ w_2.T + b_2)[:, :16]
    g_1, c_1, g_2, c_2 = (parameter.detach().numpy() for parameter in model.bias.parameters())
    bias = np.maximum(mean @ g_1.T + c_1, 0) @ g_2.T + c_2
    expected = model.prompt.detach().numpy() + bias[:, None]
    np.testing.assert_allclose(model.contexts_of_images(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_first_image_of_each_class_is_read() -> None:
    rows = first_of_each_class(TRAIN)
    assert TRAIN.labels[rows].tolist() == [0, 1, 2, 3]
    assert all(not (TRAIN.labels[:row] == label).any() for label, row in enumerate(rows.tolist()))


def test_words_are_written_as_a_tidy_file(tmp_path: Path) -> None:
    words = nearest_words(TABLE[CLIP.words("a kite")][None], tiny.tower(), count=1)
    write_words(tmp_path / "words.csv", [(3, (CLASSES.names[0], "train/7"), word) for word in words])
    with (tmp_path / "words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["class"], row["image"], row["word"]) for row in rows] == [
        ("3", "cat", "train/7", "a"),
        ("3", "cat", "train/7", "kite"),
    ]
