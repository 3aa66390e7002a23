"""Every kind of text tower that open_clip builds: equal to open_clip's, as texts and as prompts, with gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_hugging_face import KINDS as HUGGING_FACE
from small_hugging_face import write_model
from small_tokenizers import VOCABULARY, kind_of, padded_ids, write_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import encoder_parity
from features.encoding.configuration import model_config
from features.encoding.encoder import load_encoder
from features.encoding.open_clip_text import from_open_clip
from features.encoding.text import text_tower_of
from features.encoding.text_support import text_support
from features.errors import InputError
from features.text import text_tower
from features.text.text_tower import TextTower
from features.text.tokenizer import CLIP, JsonTokenizer, Tokenizer, read_tokenizer, text_lengths
from features.text.tower_file import load_tower, save_tower

TEXTS = ["a photo of a cat.", "dog", "an image of the extremely long name of a thing."]
NAMES = ["cat.", "grand piano.", "windsor chair."]

# An architecture of open_clip of each kind.
KINDS = [
    "ViT-B-16",
    "PE-Core-B-16",
    "MobileCLIP2-S0",
    "coca_ViT-B-32",
    "ViT-B-16-SigLIP",
    "ViT-SO400M-16-SigLIP-i18n-256",
    "ViT-B-16-SigLIP2",
    "ViT-L-14-CLIPA",
    "ViT-H-14-worldwide",
    "ViT-H-14-worldwide-quickgelu",
    "ViT-L-14-worldwide",  # mT5's tokenizer: no SOS, and the EOT has the id 1
    "ViT-L-14-worldwide-quickgelu",
    "ViT-B-16-quickgelu",
    "ViT-SO400M-14-SigLIP",
    "ViT-SO400M-14-SigLIP2",
]
SIZES = {"width", "heads", "layers", "vocab_size", "context_length", "eos_id", "hf_tokenizer_name"}


class Pair:
    """Open_clip's tower of one kind, small, and ours of the same weights."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        import open_clip

        self.support = text_support(config)
        self.tokenizer: Tokenizer = CLIP
        text = dict(config["text_cfg"])
        if self.support.tokenizer is not None:
            files = write_tokenizer(folder, kind_of(self.support.tokenizer))
            self.tokenizer = read_tokenizer(files, self.support.clean, "test")
        text |= {"width": 16, "heads": 2, "layers": 3}
        text["vocab_size"] = 49408 if self.tokenizer == CLIP else VOCABULARY + 10
        embed_dim = 16 if text.get("proj_type") == "none" else 12

        torch.manual_seed(0)
        self.text = open_clip.model._build_text_tower(embed_dim, text, bool(config.get("quick_gelu")))
        with torch.no_grad():
            for parameter in self.text.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        self.text.eval().requires_grad_(False)
        self.text.output_tokens = False
        self.embedding = self.text.token_embedding
        model = nn.Module()
        model.text = self.text
        model.logit_scale, model.logit_bias = nn.Parameter(torch.tensor(2.0)), None  # type: ignore[assignment]
        if self.support.sigmoid:
            model.logit_bias = nn.Parameter(torch.tensor(-10.0))
        self.ours = from_open_clip(model, "test", "0" * 64, self.tokenizer, strips_end=self.support.strips_end)

    def ids(self, texts: list[str]) -> Tensor:
        """Return what open_clip's own tokenizer gives: padded to the context length."""
        pad = self.tokenizer.pad if isinstance(self.tokenizer, JsonTokenizer) else 0
        support = self.support
        return padded_ids(self.tokenizer, texts, support.context_length, pad, strips_end=support.strips_end)


class HuggingFacePair:
    """The same of a tower of transformers."""

    def __init__(self, kind: str, folder: Path) -> None:
        spec = write_model(folder, kind)
        encoder = load_encoder("test", spec, "cpu")
        self.support = text_support(model_config(spec) or {})
        self.text: Any = encoder.model.text
        self.ours = text_tower_of(encoder, spec)
        self.tokenizer = self.ours.tokenizer
        self.embedding = self.text.transformer.get_input_embeddings()

    def ids(self, texts: list[str]) -> Tensor:
        """Return token ids, padded to the context length."""
        return padded_ids(self.tokenizer, texts, self.support.context_length, self.text.config.pad_token_id)


@pytest.fixture(scope="module", params=[*KINDS, *HUGGING_FACE])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair | HuggingFacePair:
    import open_clip

    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param in HUGGING_FACE:
        return HuggingFacePair(request.param, folder)
    return Pair(open_clip.get_model_config(request.param), folder)


def kind_of_tower(name: str) -> str:
    """Return what makes the text tower of a model: all of its settings but the sizes; of transformers, its family."""
    import open_clip

    config = open_clip.get_model_config(name)
    text: dict[str, Any] = config["text_cfg"]
    if "hf_model_name" in text:
        return next(family for family in ("mt5", "nllb", "xlm-roberta", "roberta") if family in text["hf_model_name"])
    settings = {key: value for key, value in text.items() if value and key not in SIZES}
    return json.dumps([settings, bool(config.get("quick_gelu"))], sort_keys=True)


def test_every_model_of_open_clip_has_a_text_tower_of_a_kind_that_is_compared_here() -> None:
    import open_clip

    compared = {*map(kind_of_tower, KINDS), *HUGGING_FACE}
    assert {name for name in open_clip.list_models() if kind_of_tower(name) not in compared} == set()


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).norm() <= 1e-5 * theirs.norm())


def test_texts_have_the_features_of_open_clip(pair: Pair) -> None:
    tokens = pair.tokenizer.tokenize(TEXTS, room=pair.support.context_length)
    assert close(pair.ours.encode(tokens), pair.text(pair.ids(TEXTS)))
    for text in TEXTS:
        alone = pair.tokenizer.tokenize([text], room=pair.support.context_length)
        assert close(pair.ours.encode(alone), pair.text(pair.ids([text])))


def test_a_context_of_the_embeddings_of_words_gives_the_features_of_the_text(pair: Pair) -> None:
    context = pair.ours.embed(torch.tensor(pair.tokenizer.words("a photo of a")))[None]
    tokens = pair.tokenizer.tokenize_names(NAMES, room=pair.support.context_length)
    expected = pair.text(pair.ids([f"a photo of a {name}" for name in NAMES]))
    assert close(pair.ours(context, tokens)[0], expected)


@pytest.mark.parametrize("position", ["front", "middle"])
def test_a_name_may_stand_before_or_inside_its_context(pair: Pair, position: Any) -> None:
    words = pair.tokenizer.words("a photo of a")
    name = pair.tokenizer.words("cat.", first=False)
    name, stop = name[: len(name) - pair.tokenizer.full_stop], name[len(name) - pair.tokenizer.full_stop :]
    before = 2 if position == "middle" else 0
    ends, starts = pair.tokenizer.encode(""), pair.tokenizer.starts
    row = [*ends[:starts], *words[:before], *name, *words[before:], *stop, *ends[starts:]]

    tokens = pair.tokenizer.tokenize_names(["cat."], room=pair.support.context_length)
    context = pair.ours.embed(torch.tensor(words))[None]
    assert close(pair.ours(context, tokens, position)[0], pair.ours.encode(torch.tensor([row])))


def test_gradients_to_the_context_are_open_clips(pair: Pair) -> None:
    m = 4
    start = 0.3 * torch.randn(1, m, 16, generator=torch.Generator().manual_seed(1))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    direction = torch.randn(3, pair.ours.config.embed_dim, generator=torch.Generator().manual_seed(2))
    tokens = pair.tokenizer.tokenize_names(NAMES, room=pair.support.context_length)
    (F.normalize(pair.ours(ours, tokens)[0], dim=-1) * direction).sum().backward()

    ids = pair.ids([f"a photo of a {name}" for name in NAMES])
    at = pair.tokenizer.starts

    def replaced(_module: nn.Module, _ids: object, embedded: Tensor) -> Tensor:
        return torch.cat([embedded[:, :at], theirs.expand(3, -1, -1), embedded[:, at + m :]], dim=1)

    assert len(pair.tokenizer.words("a photo of a")) == m
    hook = pair.embedding.register_forward_hook(replaced)
    (F.normalize(pair.text(ids), dim=-1) * direction).sum().backward()
    hook.remove()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) <= 1e-4


def test_contexts_and_names_together_equal_each_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = 0.3 * torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(3))
    tokens = pair.tokenizer.tokenize_names(NAMES, room=pair.support.context_length)
    together = pair.ours(contexts, tokens)
    for g in range(2):
        for c in range(3):
            assert close(pair.ours(contexts[g : g + 1], tokens[c : c + 1])[0, 0], together[g, c])
    monkeypatch.setattr(text_tower, "PASS_BYTES", 1)
    assert close(pair.ours(contexts, tokens), together)


def test_a_file_holds_the_tower_and_its_tokenizer(pair: Pair, tmp_path: Path) -> None:
    save_tower(pair.ours, tmp_path / "a")
    again = load_tower(tmp_path / "a")
    assert again.config == pair.ours.config
    assert again.tokenizer == pair.tokenizer
    tokens = again.tokenizer.tokenize(TEXTS, room=pair.support.context_length)
    assert torch.equal(again.encode(tokens), pair.ours.encode(tokens))
    save_tower(again, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_length_of_a_text_ends_with_its_eot(pair: Pair) -> None:
    tokens = pair.tokenizer.tokenize(TEXTS, room=pair.support.context_length)
    assert text_lengths(tokens).tolist() == [len(pair.tokenizer.encode(text)) for text in TEXTS]


def test_a_prompt_longer_than_the_context_is_an_error(pair: Pair) -> None:
    tokens = pair.tokenizer.tokenize_names(NAMES, room=pair.support.context_length)
    with pytest.raises(InputError, match=rf"\b{pair.support.context_length}\b"):
        pair.ours(torch.zeros(1, pair.support.context_length, 16), tokens)


def test_a_full_prompt_is_read_to_its_end() -> None:
    # CoCa's class token sees itself only after a text of full length.
    import open_clip

    config = {"width": 16, "heads": 2, "layers": 2, "context_length": 8, "embed_cls": True}
    torch.manual_seed(0)
    model = nn.Module()
    model.text = open_clip.model._build_text_tower(12, config).eval().requires_grad_(False)
    model.logit_scale = nn.Parameter(torch.tensor(2.0))
    tower: TextTower = from_open_clip(model, "test", "0" * 64)
    texts = ["a b c d e f", "a b c d e"]
    assert close(tower.encode(CLIP.tokenize(texts, room=8)), model.text(open_clip.tokenize(texts, context_length=8)))


@pytest.mark.parametrize("kind", ["siglip", "siglip2", "bert", "xlm"])
def test_a_tokenizer_without_a_padding_token_is_an_error(kind: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, kind)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"padding"):
        read_tokenizer(tmp_path, "whitespace", "encoders.x")
    with pytest.raises(InputError, match=r"encoders\.x.*none"):
        read_tokenizer(tmp_path / "none", "whitespace", "encoders.x")


@pytest.mark.system
@pytest.mark.parametrize("name", ["RN50", "MobileCLIP2-S0", "coca_ViT-B-32"])
def test_an_encoder_of_true_size_equals_open_clips(name: str) -> None:
    row = encoder_parity.compare(name)
    assert row["note"] == ""
    assert all(float(row[kind]) <= 1e-5 for kind in encoder_parity.KINDS)
