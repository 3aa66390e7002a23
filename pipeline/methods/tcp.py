"""TCP: context vectors made from each class's own text feature, inserted midway (Yao, Zhang and Xu 2024).

A net reads the zero-shot text feature of a class (Linear D -> D/4, QuickGELU, Linear -> M * W). Its output replaces the
M context states of that class's prompt before block 8 of the text tower's 12; before that block, M shared vectors stand
there. Loss = cross-entropy + weight * the mean of 1 - cos between learned and zero-shot text features (KgCoOp's).
Published base-to-new tables have it in the row "TCP" (base 84.13, new 75.36, H 79.51 over 11 data sets, ViT-B/16).

Follows the official code (bd97bec, read 2026-11) where the paper is silent. A tower of another depth takes the block at
the same two thirds. On ImageNet and SUN397 its script takes the text features of new classes after epoch 25 of the 50
(`unseen_epoch`). Differs from the code: float32 (the code: float16); stored views (the code: fresh crops). With
synthetic features the loss ranges over all classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from features.errors import InputError
from features.text.open_clip_tower import Block, OpenClipTower
from features.text.text_tower import TextTower
from features.text.tokenizer import text_lengths
from pipeline.methods._prompt_learning import initial_context, initial_linear, knowledge_distance
from pipeline.methods._templates import TemplatedMethod
from pipeline.methods.base import Classifier, FitData, LinearClassifier, ViewFamily, everything_scored, scale_of
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes, warm_cosine


class Tcp(TemplatedMethod):
    """Settings of TCP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    needs_text_tower: ClassVar[bool] = True
    needs_shared_prefix: ClassVar[bool] = True

    init: str | None = None  # words the shared context starts from; null: N(0, 0.02^2) (code)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (code)
    reduction: Annotated[int, Field(ge=1)] = 4  # the net's hidden layer is D / reduction wide (code)
    block: Annotated[int, Field(ge=0)] | None = None  # before it classes get their own; null: two thirds (8 of 12)
    weight: Annotated[float, Field(ge=0)] = 8.0  # lambda of the distance (code)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the training images (official config)
    # epoch after which unseen classes get their text features; null: the last (script: 25 on ImageNet and SUN397)
    unseen_epoch: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] = 32  # real images per step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # Adam, one epoch at 1e-5, cosine (official config)
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4  # Adam's L2 term (the code: Dassl's default)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    @model_validator(mode="after")
    def _within_training(self) -> Self:
        if self.unseen_epoch is not None and self.unseen_epoch > self.epochs:
            raise ValueError(f"unseen_epoch {self.unseen_epoch} is after the last of {self.epochs} epochs")
        return self

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the shared context and the net; the classifier holds the text features, one per class."""
        data = self.with_templates(data)
        classes, tower = data.classes, _with_shared_prefix(data.text_tower)
        learned = self._start(tower, classes.text_features.shape[1], data.rng)
        shared, net = learned[0], learned[1:]
        block = 2 * tower.config.layers // 3 if self.block is None else self.block

        ids = trained_classes(classes, data.synthetic)
        target = index_by_label(ids, len(classes))
        names = classes.tokens_of(ids)
        texts = classes.text_features[ids]
        scale = scale_of(classes)

        def weights(texts: Tensor, names: Tensor) -> Tensor:
            own = class_prompts(texts, *net).reshape(len(texts), self.context, -1)
            return F.normalize(encode_with_class_context(tower, shared, own, names, block), dim=-1)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            learned_texts = weights(texts, names)
            distance = knowledge_distance(learned_texts, texts, "cosine")
            return F.cross_entropy(scale * features @ learned_texts.T, target[labels]) + self.weight * distance

        last, unseen = self.epochs, self.unseen_epoch or self.epochs
        kept: dict[int, Tensor] = {}  # epoch -> text features (C, D) after it

        def keep(epoch: int) -> None:
            if epoch in (last, unseen):
                with torch.no_grad():
                    kept[epoch] = weights(classes.text_features, classes.tokens)

        batches = Batches(
            data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng, drop_last=True
        )
        # In float16 torch's own 1e-8 would be 0; the README calls 1e-3 important.
        optimizer = torch.optim.Adam(learned, self.learning_rate, eps=1e-3, weight_decay=self.weight_decay)
        descend(batches, loss, optimizer, warm_cosine(batches, self.learning_rate), keep)

        final = torch.where(classes.seen[:, None], kept[last], kept[unseen])
        return LinearClassifier(scale, everything_scored(classes), weights=final)

    def _start(self, tower: TextTower, d: int, rng: torch.Generator) -> list[nn.Parameter]:
        """Return the shared context (M, W), then the net: down, its bias, up, its bias."""
        hidden = max(1, d // self.reduction)

        context = initial_context(tower, self.init, self.context, rng, method="tcp")[0]
        down = initial_linear(hidden, d, rng)
        up = initial_linear(self.context * tower.config.width, hidden, rng)
        return [nn.Parameter(value.to(tower.device)) for value in (context, *down, *up)]


def _with_shared_prefix(tower: TextTower) -> OpenClipTower:
    if not isinstance(tower, OpenClipTower) or not tower.config.shares_prefix:
        raise InputError("methods.tcp needs a text tower with causal attention and pooling at the EOT")
    return tower


def class_prompts(texts: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> Tensor:
    """Return the net's output (C, M * W) for unit text features (C, D)."""
    hidden = F.linear(texts, down, down_bias)
    return F.linear(hidden * torch.sigmoid(1.702 * hidden), up, up_bias)  # QuickGELU


def encode_with_class_context(tower: OpenClipTower, shared: Tensor, own: Tensor, tokens: Tensor, block: int) -> Tensor:
    """Return text features (C, D), not normalized, of `[SOS] context name . [EOT]` with two contexts.

    The context is `shared` up to block `block`, before which `own` replaces its states.

    Args:
        tower: the frozen text tower.
        shared: (M, W) vectors that all classes share.
        own: (C, M, W) states of each class.
        tokens: (C, T) on the host, `[SOS] name . [EOT]`.
        block: 0 .. layers; at `layers` no block is left to see `own`.
    """
    m = len(shared)
    eot = text_lengths(tokens) - 1
    starts = tower.tokenizer.starts
    words = tower.embed(tokens[:, : int(eot.max()) + 1])
    x = torch.cat([words[:, :starts], shared.expand(len(tokens), -1, -1), words[:, starts:]], dim=1)
    x = x + tower.positional_embedding[: x.shape[1]]

    *layers, last = cast("list[Block]", list(tower.blocks))
    for i, layer in enumerate(layers):
        x = _replace_context(x, own, starts) if i == block else x
        q, k, v = layer.split_heads(layer.qkv(layer.ln_1(x)))
        x = layer(x, F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))

    # Of the last block only the row of the EOT is needed, so attention runs for that one query.
    x = _replace_context(x, own, starts) if len(layers) == block else x
    q, k, v = last.split_heads(last.qkv(last.ln_1(x)))
    end = (eot + m).to(x.device, non_blocking=True)
    row = torch.arange(len(x), device=x.device)
    visible = (torch.arange(x.shape[1], device=x.device) <= end[:, None])[:, None, None]  # (C, 1, 1, T)
    attended = F.scaled_dot_product_attention(q[row, :, end][:, :, None], k, v, attn_mask=visible)
    return tower.project(last(x[row, end], attended.flatten(1)))


def _replace_context(x: Tensor, own: Tensor, starts: int) -> Tensor:
    """Return the states (C, T, W) with `own` (C, M, W) after the SOS, if there is one."""
    return torch.cat([x[:, :starts], own, x[:, starts + own.shape[1] :]], dim=1)
