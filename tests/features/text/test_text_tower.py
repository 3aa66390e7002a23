"""The text tower: equal to open_clip's own, with gradients, in passes of bounded size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from project_root import ROOT
from torch.nn import functional as F

from features.encoding.open_clip_text import from_open_clip
from features.errors import InputError
from features.text import text_tower
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower
from features.text.tokenizer import CLIP
from features.text.tower_file import load_tower, save_tower

TEXTS = [
    "a photo of a cat.",
    "dog",
    "an itap of the extremely long name of a thing that nobody has seen, really (or has)?",
]
LITECLIP = f"local-dir:{ROOT / 'assets' / 'liteclip'}"


def open_clip_model(name: str) -> Any:
    import open_clip

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_clip.create_model(name).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[LITECLIP, "ViT-B-16", "ViT-B-32-quickgelu", "RN50"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, TextTower]:
    model = open_clip_model(request.param)
    return model, from_open_clip(model, "test", "0" * 64)


def test_features_equal_open_clips_encode_text(pair: tuple[Any, TextTower]) -> None:
    import open_clip

    model, tower = pair
    theirs = model.encode_text(open_clip.tokenize(TEXTS))
    torch.testing.assert_close(tower.encode(CLIP.tokenize(TEXTS, room=77)), theirs, atol=1e-5, rtol=1e-5)


def test_gradients_to_the_context_equal_open_clips(pair: tuple[Any, TextTower]) -> None:
    import open_clip

    model, tower = pair
    names = ["cat", "grand piano"]
    context = 0.02 * torch.randn(1, 4, tower.config.width, generator=torch.Generator().manual_seed(3))
    ours, theirs = context.clone().requires_grad_(), context.clone().requires_grad_()
    F.normalize(tower(ours, class_tokens(names, context_length=77, prompt=4))[0], dim=-1)[:, :5].sum().backward()
    tokens = open_clip.tokenize([f"X X X X {name}." for name in names])
    embedded = model.token_embedding(tokens)
    embedded = torch.cat([embedded[:, :1], theirs.expand(2, -1, -1), embedded[:, 5:]], dim=1)
    hidden = model.transformer(embedded + model.positional_embedding, attn_mask=model.attn_mask)
    pooled = model.ln_final(hidden)[torch.arange(2), tokens.argmax(-1)] @ model.text_projection
    F.normalize(pooled, dim=-1)[:, :5].sum().backward()
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_bfloat16_gives_nearly_the_same_gradient_and_keeps_float32_outside() -> None:
    tower = tiny.tower()
    tokens = class_tokens(["cat", "grand piano"], context_length=tower.config.context_length, prompt=4)
    context = 0.02 * torch.randn(1, 4, tower.config.width, generator=torch.Generator().manual_seed(3))

    def gradient() -> torch.Tensor:
        learned = context.clone().requires_grad_()
        features = tower(learned, tokens)
        assert features.dtype == torch.float32
        F.normalize(features[0], dim=-1)[:, :5].sum().backward()
        assert learned.grad is not None
        return learned.grad

    exact = gradient()
    tower.precision = "bfloat16"
    rounded = gradient()
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert F.cosine_similarity(rounded.flatten(), exact.flatten(), dim=0) > 0.99


def test_one_context_per_text_equals_each_alone() -> None:
    tower = tiny.tower()
    tokens = class_tokens(["cat", "joshua tree"], context_length=77, prompt=4)
    contexts = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(4))
    together = tower(contexts, tokens)
    own = tower(contexts, tokens[:, None])
    assert together.shape == (2, 2, 32)
    torch.testing.assert_close(own[:, 0], together[[0, 1], [0, 1]])


@pytest.mark.parametrize("prompts", [1, 4, 7, 12, 1000])
def test_passes_of_bounded_size_change_neither_features_nor_gradients(
    prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tiny.tower().double()
    tokens = class_tokens(tiny.NAMES, context_length=77, prompt=4)
    whole = torch.randn(3, 4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    parts = whole.detach().clone().requires_grad_()
    direction = torch.randn(3, 6, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = tower(whole, tokens)
    (expected * direction).sum().backward()
    length = 5 + int(tokens.argmax(-1).max())
    monkeypatch.setattr(text_tower, "PASS_BYTES", prompts * 4 * text_tower.KEPT_FLOATS * 2 * 16 * length)
    features = tower(parts, tokens)
    (features * direction).sum().backward()
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(parts.grad, whole.grad)


def test_no_pass_grows_with_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    tower, tokens = tiny.tower(), class_tokens(tiny.NAMES, context_length=77, prompt=4)
    length = 5 + int(tokens.argmax(-1).max())
    monkeypatch.setattr(text_tower, "PASS_BYTES", 100 * 4 * text_tower.KEPT_FLOATS * 2 * 16 * length)
    sizes, one_pass = [], TextTower._one_pass

    def counted(self: TextTower, prefix: torch.Tensor, suffix: torch.Tensor, eot: torch.Tensor) -> torch.Tensor:
        sizes.append(eot.numel())
        return one_pass(self, prefix, suffix, eot)

    monkeypatch.setattr(TextTower, "_one_pass", counted)
    with torch.no_grad():
        assert tower(torch.zeros(2, 4, 16), tokens.repeat(170, 1)).shape == (2, 1020, 32)
    assert max(sizes) == 100


def test_texts_of_any_lengths_together_equal_each_alone() -> None:
    tower = tiny.tower()
    texts = ["cat", "a " * 30, "joshua tree", "a b c d e f", "dog"]
    contexts = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5))
    together = tower(contexts, CLIP.tokenize(texts, room=77))
    for place, text in enumerate(texts):
        torch.testing.assert_close(together[:, place : place + 1], tower(contexts, CLIP.tokenize([text], room=77)))


def test_file_round_trip_is_bit_exact_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    tower = tiny.tower()
    save_tower(tower, tmp_path / "a")
    save_tower(tower, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load_tower(tmp_path / "a")
    assert again.config == tower.config
    assert torch.equal(again.encode(CLIP.tokenize(TEXTS, room=77)), tower.encode(CLIP.tokenize(TEXTS, room=77)))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_missing_or_foreign_file_is_an_error_that_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc pull"):
        load_tower(tmp_path / "none")
    (tmp_path / "foreign").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="foreign"):
        load_tower(tmp_path / "foreign")


def test_a_prompt_longer_than_the_context_is_an_error() -> None:
    tower = tiny.tower(context_length=8)
    tokens = CLIP.tokenize(["a b c d e f"], room=77)
    with pytest.raises(InputError, match=r"\b12 tokens.*\b8\b"):
        tower(torch.zeros(1, 4, 16), tokens)


def test_tokens_of_a_name_are_those_after_the_placeholders() -> None:
    import open_clip

    names = ["cat", "sea_horse", "St.", "yin yang", "a/b's é"]
    full = open_clip.tokenize([f"X X X X {name.replace('_', ' ')}." for name in names])
    ours = class_tokens(names, context_length=77, prompt=4)
    torch.testing.assert_close(full[:, 5 : 4 + ours.shape[1]], ours[:, 1:])
    assert (ours[:, 0] == full[:, 0]).all()
    assert (ours.argmax(-1) + 4 == full.argmax(-1)).all()


def test_all_names_that_are_too_long_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        class_tokens(["cat", "very " * 80, "long " * 90], context_length=77, prompt=4)
    assert "83 tokens" in str(caught.value)
    assert "93 tokens" in str(caught.value)
    assert "'cat" not in str(caught.value)


def test_tokenized_words_have_no_sos_and_eot() -> None:
    assert CLIP.words("a photo of a") == [320, 1125, 539, 320]
