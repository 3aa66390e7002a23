"""PLOT: prompt learning with optimal transport between prompts and patches (Chen et al. 2023, arXiv 2210.01253).

A class has N prompts, whose unit text features are g_n; an image its P patch tokens, unit, f_p, each of the same mass.
With the cost C_pn = 1 - f_p g_n, Sinkhorn's iterations find the plan T of the entropic problem

    min_T <T, C> - eps H(T),  T 1 = 1/P,  T^T 1 = 1/N:  T = diag(r) exp(-C / eps) diag(c),

and the class's logit is s (1 - <T, C>) = s <T, f g^T>. In the inner loop T is found, in the outer the prompts step
while T stands still: no gradient passes through the iterations. The pooled feature takes no part.

Follows the official code (`plot-coop`) where the paper leaves a choice: N = 4 prompts of 16 vectors drawn from
N(0, 0.02^2), eps 0.1, at most 100 iterations or until r moves by less than 0.01 on average, SGD 0.002, 50 epochs,
batches of 128. Differs from it: that average is taken for each image and class, not over the batch, so that no image's
score depends on another; fp32; patch tokens are of the centre crop, for those of other views are not stored. Synthetic
features have no patches, so there is no `plot+ship`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._prompt_learning import class_weights, dassl_sgd, initial_context
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.data import LabelledFeatures
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes

PASS_NUMBERS = 50_000_000  # similarities of patches and prompts that scoring holds at a time


def transport(similarity: Tensor, epsilon: float, iterations: int, threshold: float) -> Tensor:
    """The plans T between the P patches and N prompts of each image and class, without gradient.

    Args:
        similarity: (..., P, N) cosines.
        epsilon: weight of the entropy.
        iterations: at most so many of Sinkhorn's.
        threshold: a pair's iterations end when the mean change of its r is below.

    Returns:
        (..., P, N), positive, of sum 1 each.
    """
    *pairs, p, n = similarity.shape
    kernel = ((similarity.detach() - 1) / epsilon).exp()
    r, c = kernel.new_ones(*pairs, p), kernel.new_ones(*pairs, n)
    going = torch.ones(pairs, dtype=torch.bool, device=kernel.device)
    for _ in range(iterations):
        rows = 1 / (p * (kernel @ c[..., None]).squeeze(-1))
        columns = 1 / (n * (kernel.mT @ rows[..., None]).squeeze(-1))
        still = going & ((rows - r).abs().mean(-1) >= threshold)
        r, c = torch.where(going[..., None], rows, r), torch.where(going[..., None], columns, c)
        if not bool(still.any()):
            break
        going = still
    return r[..., None] * kernel * c[..., None, :]


def transported(patches: Tensor, prompts: Tensor, epsilon: float, iterations: int, threshold: float) -> Tensor:
    """1 - <T, C> of unit patches (B, P, D) and unit prompts (N, C, D): (B, C)."""
    similarity = torch.einsum("bpd,ncd->bcpn", patches, prompts)
    found: Tensor = (transport(similarity, epsilon, iterations, threshold) * similarity).sum((-2, -1))
    return found


@dataclass(frozen=True)
class PromptSets(Classifier):
    """Several prompts a class, matched with an image's patches.

    Attributes:
        weights: (N, C, D) unit text features. context: (N, M, W) of the prompts.
        epsilon, iterations, threshold: () of Sinkhorn's iterations.
    """

    weights: Tensor
    context: Tensor
    epsilon: Tensor
    iterations: Tensor
    threshold: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        prompts = self.weights[:, class_ids]
        sinkhorn = float(self.epsilon), int(self.iterations), float(self.threshold)
        images = max(1, PASS_NUMBERS // (len(self.weights) * len(class_ids) * features.shape[1]))
        parts = [transported(_unit(part), prompts, *sinkhorn) for part in torch.split(features, images)]
        return self.logit_scale * torch.cat(parts)


class Plot(Method):
    """Settings of PLOT."""

    classifier: ClassVar[type[Classifier]] = PromptSets
    needs_text_tower: ClassVar[bool] = True
    needs_patches: ClassVar[bool] = True
    takes_synthetic: ClassVar[bool] = False

    init: str | None = None  # words that every prompt starts from; null: N(0, 0.02^2), which makes them differ (code)
    context: Annotated[int, Field(ge=1, le=16)] = 16  # M, context vectors of a prompt (code)
    prompts: Annotated[int, Field(ge=1)] = 4  # N (paper)
    epsilon: Annotated[float, Field(gt=0)] = 0.1  # weight of the entropy (paper's lambda; code: eps)
    iterations: Annotated[int, Field(ge=1)] = 100  # most of Sinkhorn's (code)
    threshold: Annotated[float, Field(ge=0)] = 0.01  # mean change of r at which they end (code)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the training images (code)
    batch: Annotated[int, Field(ge=1)] = 128  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule

    def fit(self, data: FitData) -> PromptSets:
        """Train the prompts; the classifier is their text features, N a class."""
        start = initial_context(
            data.text_tower, self.init, self.context, data.rng, method="plot", contexts=self.prompts
        )
        context, ids, scale = nn.Parameter(start), trained_classes(data.classes, None), scale_of(data.classes)
        names = data.classes.tokens_of(ids)

        def logits(patches: Tensor) -> Tensor:
            prompts = class_weights(data.text_tower, context, names)
            return scale * transported(patches, prompts, self.epsilon, self.iterations, self.threshold)

        patches = LabelledFeatures(data.patch_tokens.float()[:, None], data.train.labels)  # one view of each image
        batches = Batches(patches, None, self.epochs, self.batch, 0.0, data.rng)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), *dassl_sgd([context], batches, self.learning_rate))
        with torch.no_grad():
            weights = class_weights(data.text_tower, context, data.classes.tokens)
        sinkhorn = {name: torch.tensor(getattr(self, name)) for name in ("epsilon", "iterations", "threshold")}
        return PromptSets(scale, everything_scored(data.classes), weights=weights, context=context.detach(), **sinkhorn)


def _unit(patches: Tensor) -> Tensor:
    return F.normalize(patches.float(), dim=-1)
