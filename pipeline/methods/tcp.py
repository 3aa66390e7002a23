"""TCP: context vectors made from each class's own text feature, put in midway (Yao, Zhang and Xu 2024).

A net reads the zero-shot text feature of a class, Linear D -> D/4, QuickGELU, Linear -> M * W, and its output replaces
the M context states of that class's prompt before block 8 of the text tower's 12; before it, M shared vectors stand
there. Loss = cross-entropy + weight * the mean of 1 - cos between learned and zero-shot text features (KgCoOp's).
Reproduces the row "TCP" of published base-to-new tables (base 84.13, new 75.36, H 79.51 over 11 data sets, ViT-B/16).

Follows the official code where the paper is silent. A tower of another depth takes the block at the same two thirds.
Differs from the code: fp32, stored views for fresh augmentations, prompts that end with the class name and a full stop
on every data set. With synthetic features the loss ranges over all classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import Block, TextTower
from pipeline.methods._prompt_learning import first_linear, initial_context, knowledge_distance
from pipeline.methods.base import Classifier, FitData, LinearClassifier, Method, everything_scored, scale_of
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes, warm_cosine


class Tcp(Method):
    """Settings of TCP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    needs_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the shared context starts from (code); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (code)
    reduction: Annotated[int, Field(ge=1)] = 4  # the net's hidden layer is D / reduction wide (code)
    block: Annotated[int, Field(ge=0)] | None = None  # before which classes get their own; null: two thirds (8 of 12)
    weight: Annotated[float, Field(ge=0)] = 8.0  # of the distance to the zero-shot text features (code)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the training images (official config)
    batch: Annotated[int, Field(ge=1)] = 32  # real images a step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # Adam, one epoch at 1e-5, cosine (official config)
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4  # Adam's L2 term (the code: Dassl's default)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the shared context and the net; the classifier is the text features, one a class."""
        learned = self._start(data.text_tower, data.classes.text_features.shape[1], data.rng)
        ids, scale = trained_classes(data.classes, data.synthetic), scale_of(data.classes)
        target, names, texts = (
            index_by_label(ids, len(data.classes)),
            data.classes.tokens_of(ids),
            data.classes.text_features[ids],
        )
        block = 2 * data.text_tower.config.layers // 3 if self.block is None else self.block

        def weights(texts: Tensor, names: Tensor) -> Tensor:
            own = class_prompts(texts, *learned[1:]).reshape(len(texts), self.context, -1)
            return F.normalize(injected(data.text_tower, learned[0], own, names, block), dim=-1)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            found = weights(texts, names)
            held = knowledge_distance(found, texts, "cosine")
            return F.cross_entropy(scale * features @ found.T, target[labels]) + self.weight * held

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.Adam(learned, self.learning_rate, weight_decay=self.weight_decay)
        descend(batches, loss, optimizer, warm_cosine(batches, self.learning_rate))
        with torch.no_grad():
            everyone = weights(data.classes.text_features, data.classes.tokens)
        return LinearClassifier(scale, everything_scored(data.classes), weights=everyone)

    def _start(self, tower: TextTower, d: int, rng: torch.Generator) -> list[nn.Parameter]:
        """The shared context (M, W), then the net: down, its bias, up, its bias."""
        hidden, device = max(1, d // self.reduction), tower.token_embedding.weight.device
        context = initial_context(tower, self.init, self.context, rng, method="tcp")[0]
        net = (*first_linear(hidden, d, rng), *first_linear(self.context * tower.config.width, hidden, rng))
        return [nn.Parameter(value.to(device)) for value in (context, *net)]


def class_prompts(texts: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> Tensor:
    """(C, M * W): what the net makes of unit text features (C, D)."""
    hidden = F.linear(texts, down, down_bias)
    return F.linear(hidden * torch.sigmoid(1.702 * hidden), up, up_bias)


def injected(tower: TextTower, context: Tensor, own: Tensor, tokens: Tensor, block: int) -> Tensor:
    """Text features of `[SOS] context name . [EOS]` whose context states `own` replaces before block `block`.

    Args:
        tower: frozen.
        context: (M, W) vectors that all classes share.
        own: (C, M, W) states, each class's.
        tokens: (C, T) on the host, `[SOS] name . [EOS]`.
        block: 0 .. layers; no block is left to see `own` at `layers`.

    Returns:
        (C, D), not normalised.
    """
    m, eot = len(context), tokens.argmax(-1)
    words = tower.embed(tokens[:, : int(eot.max()) + 1])
    x = torch.cat([words[:, :1], context.expand(len(tokens), -1, -1), words[:, 1:]], dim=1)
    x = x + tower.positional_embedding[: x.shape[1]]
    *layers, last = cast("list[Block]", list(tower.blocks))
    for i, layer in enumerate(layers):
        x = _replaced(x, own) if i == block else x
        q, k, v = layer.split_heads(layer.qkv(layer.ln_1(x)))
        x = layer(x, F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))
    x = _replaced(x, own) if len(layers) == block else x
    q, k, v = last.split_heads(last.qkv(last.ln_1(x)))
    end = (eot + m).to(x.device, non_blocking=True)
    row = torch.arange(len(x), device=x.device)  # of the last block only the EOT's row is needed
    seen = (torch.arange(x.shape[1], device=x.device) <= end[:, None])[:, None, None]  # (C, 1, 1, T)
    attended = F.scaled_dot_product_attention(q[row, :, end][:, :, None], k, v, attn_mask=seen)
    features: Tensor = tower.ln_final(last(x[row, end], attended.flatten(1))) @ tower.text_projection
    return features


def _replaced(x: Tensor, own: Tensor) -> Tensor:
    """States (C, T, W) with `own` (C, M, W) after the SOS."""
    return torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
