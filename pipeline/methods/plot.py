"""PLOT: prompt learning with optimal transport between prompts and patches (Chen et al. 2023, arXiv 2210.01253).

A class has N prompts with unit text features g_n; an image has P unit patch tokens f_p, each of the same mass. With the
cost C_pn = 1 - f_p g_n, Sinkhorn's iterations find the plan T of the entropic problem

    min_T <T, C> - eps H(T),  T 1 = 1/P,  T^T 1 = 1/N:  T = diag(r) exp(-C / eps) diag(c),

and the class's logit is s (1 - <T, C>) = s <T, f g^T>. The inner loop finds T; the outer loop moves the prompts while T
stays fixed, so no gradient passes through the iterations. The pooled feature is used on ImageNet alone, as in the code:
its cosine with the mean of a class's prompts, times s, is added to the logit.

Follows the official code (728539f, read 2026-11) where the paper leaves a choice: N = 4 prompts of 16 vectors drawn
from N(0, 0.02^2), eps 0.1, at most 100 iterations or until r moves by less than 0.01 on average, SGD 0.002, 50 epochs,
batches of 128. Differs from it: that average is taken per image and class, not over the batch, so that an image's score
does not depend on the others; float32; patch tokens are those of the centre crop, because those of other views are not
stored. Synthetic features have no patches, so there is no `plot+ship`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import dassl_sgd, initial_context
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.data import LabelledFeatures
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes

SIMILARITIES_PER_PASS = 50_000_000  # cosines of patches and prompts that scoring holds at a time


def transport(similarity: Tensor, epsilon: float, iterations: int, threshold: float) -> Tensor:
    """Return the plans T between the P patches and N prompts of each image and class, without gradient.

    Args:
        similarity: (..., P, N) cosines.
        epsilon: weight of the entropy.
        iterations: maximum number of Sinkhorn's iterations.
        threshold: the iterations of an image and class end when the mean change of its r is below this.

    Returns:
        (..., P, N), positive, with a sum of 1 for each image and class.
    """
    *pairs, p, n = similarity.shape
    kernel = ((similarity.detach() - 1) / epsilon).exp()
    r = kernel.new_ones(*pairs, p)
    c = kernel.new_ones(*pairs, n)
    active = torch.ones(pairs, dtype=torch.bool, device=kernel.device)

    for _ in range(iterations):
        next_r = 1 / (p * (kernel @ c[..., None]).squeeze(-1))
        next_c = 1 / (n * (kernel.mT @ next_r[..., None]).squeeze(-1))
        still_active = active & ((next_r - r).abs().mean(-1) >= threshold)

        # A plan keeps the update of the iteration in which it converges, as in the code.
        r = torch.where(active[..., None], next_r, r)
        c = torch.where(active[..., None], next_c, c)
        if not bool(still_active.any()):  # waits for the device; running all iterations would cost more
            break
        active = still_active
    return r[..., None] * kernel * c[..., None, :]


def transported_similarity(
    patches: Tensor, prompts: Tensor, epsilon: float, iterations: int, threshold: float
) -> Tensor:
    """Return 1 - <T, C> (B, C) of unit patches (B, P, D) and unit prompts (N, C, D)."""
    similarity = torch.einsum("bpd,ncd->bcpn", patches, prompts)
    plans = transport(similarity, epsilon, iterations, threshold)
    scores: Tensor = (plans * similarity).sum((-2, -1))
    return scores


def similarity(images: Tensor, prompts: Tensor, pooled: Tensor, sinkhorn: tuple[float, int, float]) -> Tensor:
    """Return the sum (B, C) of the transported similarity and of the cosine between pooled features.

    Args:
        images: (B, 1 + P, D) unit rows, the pooled feature first.
        prompts: (N, C, D) unit rows.
        pooled: (C, D) unit rows, or 0.
        sinkhorn: epsilon, iterations and threshold of `transport`.
    """
    return transported_similarity(images[:, 1:], prompts, *sinkhorn) + images[:, 0] @ pooled.T


@dataclass(frozen=True)
class PromptSets(Classifier):
    """A classifier with several prompts per class, matched with an image's patches.

    Attributes:
        weights: (N, C, D) unit text features.
        context: (N, M, W) of the prompts.
        epsilon: () weight of the entropy.
        iterations: () maximum number of Sinkhorn's iterations.
        threshold: () mean change of r at which they end.
        pooled: (C, D) unit rows that the pooled feature is compared with; 0 if it is not used.
    """

    weights: Tensor
    context: Tensor
    epsilon: Tensor
    iterations: Tensor
    threshold: Tensor
    pooled: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        prompts, pooled = self.weights[:, class_ids], self.pooled[class_ids]
        sinkhorn = float(self.epsilon), int(self.iterations), float(self.threshold)

        similarities_per_image = len(self.weights) * len(class_ids) * features.shape[1]
        images = max(1, SIMILARITIES_PER_PASS // similarities_per_image)
        parts = [similarity(_unit(part), prompts, pooled, sinkhorn) for part in torch.split(features, images)]
        return self.logit_scale * torch.cat(parts)


class Plot(Method):
    """Settings of PLOT."""

    classifier: ClassVar[type[Classifier]] = PromptSets
    needs_text_tower: ClassVar[bool] = True
    needs_patches: ClassVar[bool] = True
    takes_synthetic: ClassVar[bool] = False

    init: str | None = None  # words every prompt starts from; null: N(0, 0.02^2), so they differ (code)
    context: Annotated[int, Field(ge=1, le=16)] = 16  # M, context vectors of a prompt (code)
    prompts: Annotated[int, Field(ge=1)] = 4  # N (paper)
    epsilon: Annotated[float, Field(gt=0)] = 0.1  # weight of the entropy (paper's lambda; code: eps)
    iterations: Annotated[int, Field(ge=1)] = 100  # maximum number of Sinkhorn's iterations (code)
    threshold: Annotated[float, Field(ge=0)] = 0.01  # mean change of r at which they end (code)
    pooled: bool = False  # add the similarity of the pooled feature (code: on ImageNet)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the training images (code)
    batch: Annotated[int, Field(ge=1)] = 128  # images per step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule

    def fit(self, data: FitData) -> PromptSets:
        """Train the prompts; the classifier holds their text features, N per class."""
        tower = data.text_tower
        start = initial_context(tower, self.init, self.context, data.rng, method="plot", contexts=self.prompts)
        context = nn.Parameter(start)
        ids = trained_classes(data.classes, None)
        names = data.classes.tokens_of(ids)
        scale = scale_of(data.classes)

        def logits(images: Tensor) -> Tensor:
            prompts = self._prompts(tower, context, names)
            return scale * similarity(images, *prompts, (self.epsilon, self.iterations, self.threshold))

        images = LabelledFeatures(data.with_patches.float()[:, None], data.train.labels)  # one view per image
        batches = Batches(images, None, self.epochs, self.batch, 0.0, data.rng, drop_last=True)
        optimizer, rate = dassl_sgd([context], batches, self.learning_rate)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), optimizer, rate)

        with torch.no_grad():
            weights, pooled = self._prompts(tower, context, data.classes.tokens)
        return PromptSets(
            scale,
            everything_scored(data.classes),
            weights=weights,
            context=context.detach(),
            epsilon=torch.tensor(self.epsilon),
            iterations=torch.tensor(self.iterations),
            threshold=torch.tensor(self.threshold),
            pooled=pooled,
        )

    def _prompts(self, tower: TextTower, context: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit text features (N, C, D) of the prompts, and of their mean (C, D): 0 if it is not used."""
        raw = tower(context, names)
        mean = raw.mean(0)
        return F.normalize(raw, dim=-1), F.normalize(mean, dim=-1) if self.pooled else torch.zeros_like(mean)


def _unit(patches: Tensor) -> Tensor:
    return F.normalize(patches.float(), dim=-1)
