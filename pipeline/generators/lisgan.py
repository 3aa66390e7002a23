"""LisGAN: fakes near the "soul samples" of their class (Li et al. 2019); SHIP Table 3, row 3.

min_G max_D L_WGAN + beta L_CLS + L_R1 + L_R2. The soul samples of a class are the means of the k clusters of its real
features. L_R1 is the squared distance of each fake to the nearest soul of its class, L_R2 that of the mean of a class's
fakes, each with the weight of the official code. SHIP's Table 3 gives the row on ResNet-101 features
with expert attributes; here features are CLIP's and a is the class's text feature, so its numbers are no target.

Differs from the paper: G's output has unit length where it had a ReLU; the classifier sees features times CLIP's logit
scale; of the paper's cascade of two classifiers nothing is here, for it belongs to the classifier, not the generator;
50 epochs where the code has up to 2000, of which the test split chooses one.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator, noise
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._wgan import seen_classifier, train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at
from pipeline.training.loop import places

Width = Annotated[int, Field(ge=1)]
ROUNDS = 20  # of Lloyd's algorithm: 16 images settle in a few


class LisGan(Generator):
    """Settings of LisGAN."""

    latent: Width | None = None  # Z, size of z; null: D, that of the attributes (code)
    generator_width: Width = 4096  # hidden units of G (code)
    critic_width: Width = 1024  # hidden units of D (code)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (code)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (code)
    classification_weight: Annotated[float, Field(ge=0)] = 1.0  # beta (code)
    classifier_epochs: Annotated[int, Field(ge=1)] = 100  # passes that fit the classifier beforehand (code)
    souls: Annotated[int, Field(ge=1)] = 3  # k, clusters of a class (code)
    soul_weight: Annotated[float, Field(ge=0)] = 0.01  # of L_R1 (code: proto_param2)
    mean_soul_weight: Annotated[float, Field(ge=0)] = 0.01  # of L_R2 (code: proto_param1)
    fakes_per_mean: Annotated[int, Field(ge=1)] = 20  # fakes of each seen class whose mean L_R2 judges (code)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (as SHIP's)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (code)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0 (code)."""
        return draw_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Find the souls, fit the classifier, then play against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        classifier = seen_classifier(train, classes, self.classifier_epochs, rng)
        seen, place = classes.seen_ids.cpu(), places(classes.seen_ids, len(classes))
        found = torch.stack([clusters(train.centre[train.labels == i], self.souls, rng) for i in seen])

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.decode(noise(x, model.latent, rng), at(classes.text_features, labels))

        def terms(x: Tensor, labels: Tensor, made: Tensor) -> dict[str, Tensor]:
            ids = seen.repeat_interleave(self.fakes_per_mean)
            means = fake(x.new_empty(len(ids), 0), ids).view(len(seen), self.fakes_per_mean, -1).mean(1)
            return {
                "classification": self.classification_weight * classifier.loss(made, labels),
                "souls": self.soul_weight * soul_distance(made, found[at(place, labels)]),
                "mean_souls": self.mean_soul_weight * soul_distance(means, found),
            }

        train_wgan(model, train, classes, self, fake=fake, terms=terms, rng=rng, log=log)
        return finished(model, "lisgan")


def soul_distance(x: Tensor, souls: Tensor) -> Tensor:
    """Mean squared distance of features (N, D) to the nearest of the souls (N, k, D) of each one's class."""
    return (x[:, None] - souls).square().sum(-1).amin(-1).mean()


def clusters(x: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """Means (k, D) of the k clusters of features (N, D), by Lloyd's algorithm from k of the features.

    A cluster that loses its last member keeps its mean; of fewer than k features some are taken twice.
    """
    first = torch.randperm(len(x), generator=rng).repeat(-(-k // len(x)))[:k]
    means = x[first]
    for _ in range(ROUNDS):
        mine = torch.cdist(x, means).argmin(1)
        means = torch.stack([x[mine == i].mean(0) if bool((mine == i).any()) else means[i] for i in range(k)])
    return means
