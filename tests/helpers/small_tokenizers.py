"""Tokenizers of the kinds that text towers of open_clip read, trained on a few sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TEXTS = [
    "a photo of a cat.",
    "a photo of a grand piano",
    "an image of the extremely long name of a thing that nobody has seen, really",
    "sea horse joshua tree dog windsor chair",
]
VOCABULARY = 300
# Repository that a configuration of open_clip names -> the kind of its tokenizer.
KINDS = {"bert-base-uncased": "bert", "facebook/xlm-v-base": "xlm", "google/mt5-base": "siglip2"}


def kind_of(repository: str) -> str:
    """Return the kind of a repository's tokenizer, as `write_tokenizer` takes it."""
    return KINDS.get(repository, "siglip2" if "SigLIP2" in repository else "siglip")


def padded_ids(tokenizer: Any, texts: list[str], length: int, pad: int, *, strips_end: bool = False) -> Tensor:
    """Return token ids (C, length) as open_clip's tokenizers give them.

    Args:
        tokenizer: one of ours, which encodes a single text.
        texts: C texts.
        length: context length.
        pad: id of padding.
        strips_end: whether the id of the end is replaced by 0, as for some models of SigLIP.
    """
    rows = torch.full((len(texts), length), pad)
    for row, text in zip(rows, texts, strict=True):
        ids = tokenizer.encode(text)
        row[: len(ids)] = torch.tensor(ids)
    if strips_end:
        rows[rows == tokenizer.encode("")[-1]] = 0
    return rows


def write_tokenizer(folder: Path, kind: str) -> Path:
    """Write `tokenizer.json` and its settings in the manner of SigLIP, SigLIP 2, BERT or XLM-V."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    specials, start, end, pad = {
        "siglip": (["<pad>", "</s>", "<unk>"], None, "</s>", "</s>"),
        "siglip2": (["<pad>", "<eos>", "<bos>", "<unk>"], None, "<eos>", "<pad>"),
        "bert": (["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS]", "[SEP]", "[PAD]"),
        "xlm": (["<s>", "<pad>", "</s>", "<unk>"], "<s>", "</s>", "<pad>"),
    }[kind]
    unknown = next(token for token in specials if "unk" in token.lower())
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    elif kind == "siglip2":
        # As Gemma's: spaces become part of the words, and none is added before the first one.
        tokenizer = Tokenizer(models.BPE(unk_token=unknown))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    tokenizer.decoder = decoders.Metaspace()
    template = f"{start} $A {end}" if start else f"$A {end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(t, tokenizer.token_to_id(t)) for t in (start, end) if t]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}), encoding="utf-8")
    return folder
