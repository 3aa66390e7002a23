"""What a model's configuration says about its text tower, before any weights are there.

`shipyard check` reads this, so that a model which cannot be used is refused before anything is fetched or extracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from features.text.open_clip_tower import Pool
from features.text.tokenizer import Clean

CLEANS = ("lower", "whitespace", "canonicalize")
CUSTOM_BLOCKS = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
# Not `max_pooler`: open_clip's gives masked_fill a mask of numbers, which torch refuses.
HF_POOLERS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
POOLS: Mapping[str, Pool] = {"argmax": "eot", "eos": "eot", "last": "last"}
INSTEAD = "encode the class names with another program and import them with `shipyard features import-texts`"


@dataclass(frozen=True)
class TextSupport:
    """What can be done with the text tower of a model.

    Attributes:
        problems: why it is not supported; empty if it is.
        kind: the kind of tower, in words.
        context_length: the most tokens of a prompt.
        tokenizer: repository of its `tokenizer.json`; None: CLIP's, which open_clip ships.
        clean: what is done to a text before it is tokenized.
        strips_end: whether the tower reads the EOT as padding.
        causal: whether a token attends only to tokens before it.
        pool: the row that becomes the feature.
        sigmoid: whether the model was trained with a sigmoid loss, and has a bias beside its logit scale.
        hugging_face: whether it is a tower of transformers.
    """

    problems: tuple[str, ...]
    kind: str
    context_length: int
    tokenizer: str | None
    clean: Clean
    strips_end: bool
    causal: bool
    pool: Pool
    sigmoid: bool
    hugging_face: bool

    @property
    def shares_prefix(self) -> bool:
        """Return whether states at the beginning of a prompt do not depend on its end."""
        return self.causal and self.pool == "eot" and not self.hugging_face


def text_support(model_cfg: Mapping[str, Any]) -> TextSupport:
    """Return what an open_clip model's configuration (`model_cfg`) says about its text tower."""
    text: Mapping[str, Any] = model_cfg.get("text_cfg", {})
    kwargs: Mapping[str, Any] = text.get("tokenizer_kwargs") or {}
    tokenizer = text.get("hf_tokenizer_name") or None
    causal, pool = not text.get("no_causal_mask", False), text.get("pool_type", "argmax")
    clean = kwargs.get("clean", "whitespace" if tokenizer else "lower")

    class_token = bool(text.get("embed_cls"))
    return TextSupport(
        problems=tuple(_problems(text, kwargs)),
        kind=_kind(text, causal=causal, class_token=class_token),
        context_length=int(text.get("context_length", 77)),
        tokenizer=tokenizer,
        clean=cast("Clean", clean),
        strips_end=bool(kwargs.get("strip_sep_token")),
        causal=causal,
        pool="class_token" if class_token else POOLS.get(pool, "last"),
        sigmoid=model_cfg.get("init_logit_bias") is not None,
        hugging_face=bool(text.get("hf_model_name")),
    )


def _kind(text: Mapping[str, Any], *, causal: bool, class_token: bool) -> str:
    if text.get("hf_model_name"):
        return f"Hugging Face's {text['hf_model_name']}"
    attention = "causal" if causal else "bidirectional"
    pool = "class token" if class_token else {"last": "last position"}.get(text.get("pool_type", ""), "EOT")
    return f"{attention}, pooled at the {pool}"


def _problems(text: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    if text.get("hf_model_name"):
        if text.get("hf_pooler_type", HF_POOLERS[0]) not in HF_POOLERS:
            yield f"its text tower pools in a way that is not supported (hf_pooler_type: {text['hf_pooler_type']})"
    else:
        yield from _unsupported_blocks(text)
    yield from _unsupported_tokenizer(text, kwargs)


def _unsupported_blocks(text: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of a tower of open_clip's own is not supported."""
    custom = [name for name in CUSTOM_BLOCKS if text.get(name)]
    if custom or text.get("block_type") == "custom":
        yield f"its text tower has blocks of another kind ({', '.join(custom) or 'block_type'}); {INSTEAD}"
    if text.get("ls_init_value") is not None:
        yield f"the blocks of its text tower scale their layers (ls_init_value); {INSTEAD}"
    if text.get("pool_type", "argmax") not in POOLS:
        yield f"its text tower pools in a way that is not supported (pool_type: {text['pool_type']}); {INSTEAD}"


def _unsupported_tokenizer(text: Mapping[str, Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    if text.get("tokenizer_mode"):
        yield f"its tokenizer has a special mode (tokenizer_mode: {text['tokenizer_mode']}); {INSTEAD}"

    unknown = sorted(set(kwargs) - {"clean", "strip_sep_token"})
    if unknown:
        yield f"its tokenizer has settings that are not supported (tokenizer_kwargs: {', '.join(unknown)}); {INSTEAD}"
    if kwargs.get("clean", "lower") not in CLEANS:
        yield f"its tokenizer cleans texts in an unknown way (tokenizer_kwargs.clean: {kwargs['clean']}); {INSTEAD}"
