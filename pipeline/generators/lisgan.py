"""LisGAN: fakes near the "soul samples" of their class (Li et al. 2019); SHIP Table 3, row 3.

min_G max_D L_WGAN + beta L_CLS + L_R1 + L_R2. The soul samples of a class are the means of the k clusters of its real
features. L_R1 is the squared distance of each fake to the nearest soul of its class, L_R2 that of the mean of a class's
fakes, each with the weight of the official code.

SHIP's Table 3 gives this row on ResNet-101 features with expert attributes. Here features are CLIP's and a is the
class's text feature, so the numbers of that row are no target.

Differs from the paper:

- G's output has unit length instead of a ReLU.
- The classifier sees features times CLIP's logit scale.
- The paper's cascade of two classifiers is left out: it belongs to the classifier, not to the generator.
- 50 epochs; the published runs have 30 to 97 and take the one that is best on the test split.

"runs" are the authors' published ones (LisGAN 4484acb, README, generalized zero-shot; checked 2026-11). None of them
uses the defaults of the code's options. Where they differ by data set, the default is CUB's.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import freeze_trained, init_weights
from pipeline.generators._wgan import AdversarialGenerator, fit_seen_classifier, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.loop import index_by_label

ROUNDS = 20  # of Lloyd's algorithm: 16 images settle in a few


class LisGan(AdversarialGenerator):
    """Settings of LisGAN. The inherited values are those of its official code too."""

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (code)
    generator_width: PositiveInt = 4096  # hidden units of G (code)
    critic_width: PositiveInt = 4096  # hidden units of D (runs)
    classification_weight: NonNegativeFloat = 0.01  # beta (runs; FLO 0.1)
    classifier_epochs: PositiveInt = 100  # passes that fit the classifier beforehand (code)
    souls: PositiveInt = 3  # k, clusters per class (code)
    soul_weight: NonNegativeFloat = 0.001  # of L_R1 (runs: proto_param2, by data set)
    mean_soul_weight: NonNegativeFloat = 0.01  # of L_R2 (runs: proto_param1, by data set)
    fakes_per_mean: PositiveInt = 20  # fakes of each seen class behind the mean in L_R2 (code)
    epochs: PositiveInt = 50  # passes over the seen images (as SHIP's; runs: 30 to 97)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Return G with weights from N(0, 0.02^2) and biases 0 (code)."""
        return init_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the classifier, find the souls, then train against the critic."""
        # `rng` is drawn from in this order (G's weights, classifier, souls, training), so the order is part of what a
        # seed gives.
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        classifier = fit_seen_classifier(train, classes, self.classifier_epochs, rng)

        seen_ids = classes.seen_ids.cpu()  # labels are on the host
        label_to_index = index_by_label(classes.seen_ids, len(classes))
        souls = torch.stack([cluster_means(train.centre[train.labels == i], self.souls, rng) for i in seen_ids])

        def generate(_: Tensor, labels: Tensor) -> Tensor:
            return model.generate(gather(classes.text_features, labels), rng)

        def extra_losses(x: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            # L_R2 ranges over all seen classes at every step, so it draws fakes of its own.
            fakes = generate(x, seen_ids.repeat_interleave(self.fakes_per_mean))
            means = fakes.view(len(seen_ids), self.fakes_per_mean, -1).mean(1)  # (S, D)

            return {
                "classification": self.classification_weight * classifier.loss(fake, labels),
                "souls": self.soul_weight * soul_distance(fake, souls[gather(label_to_index, labels)]),
                "mean_souls": self.mean_soul_weight * soul_distance(means, souls),
            }

        train_wgan(model, train, classes, self, generate=generate, extra_losses=extra_losses, rng=rng, log=log)
        return freeze_trained(model, "lisgan")


def soul_distance(x: Tensor, souls: Tensor) -> Tensor:
    """Return the mean squared distance of features (N, D) to the nearest of the souls (N, k, D) of their class."""
    return (x[:, None] - souls).square().sum(-1).amin(-1).mean()


def cluster_means(x: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """Return the means (k, D) of k clusters of features (N, D), by Lloyd's algorithm from k random features.

    A cluster that loses its last member keeps its mean. With fewer than k features, some are taken twice.
    """
    repeats = -(-k // len(x))  # k / N, rounded up
    first = torch.randperm(len(x), generator=rng).repeat(repeats)[:k]

    means = x[first]
    for _ in range(ROUNDS):
        nearest = torch.cdist(x, means).argmin(1)
        means = torch.stack([x[nearest == i].mean(0) if bool((nearest == i).any()) else means[i] for i in range(k)])
    return means
