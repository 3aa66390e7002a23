"""f-CLSWGAN: a WGAN-GP on features whose fakes must also be classifiable (Xian et al. 2018); SHIP Table 3, row 1.

min_G max_D L_WGAN + beta L_CLS, where L_CLS = -E[log P(y | G(z, a); theta)] and P is a softmax
classifier of seen classes, fitted on real features beforehand and frozen. SHIP's Table 3 gives the row on ResNet-101
features with expert attributes; here features are CLIP's and a is the class's text feature, as SHIP did for f-VAEGAN
and TF-VAEGAN, so its numbers are no target.

Differs from the paper: G's output has unit length where it had a ReLU; the classifier sees features times CLIP's logit
scale; training lasts a fixed number of epochs where the paper stops by validation.
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

Width = Annotated[int, Field(ge=1)]


class FClsWgan(Generator):
    """Settings of f-CLSWGAN."""

    latent: Width | None = None  # Z, size of z; null: D, that of the attributes (paper)
    generator_width: Width = 4096  # hidden units of G (paper)
    critic_width: Width = 4096  # hidden units of D (paper)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (code)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (paper)
    classification_weight: Annotated[float, Field(ge=0)] = 0.01  # beta (paper)
    classifier_epochs: Annotated[int, Field(ge=1)] = 50  # passes that fit P beforehand (code)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (code: 40 to 80 by data set)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (code)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0 (code)."""
        return draw_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the classifier, then play against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        classifier = seen_classifier(train, classes, self.classifier_epochs, rng)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.decode(noise(x, model.latent, rng), at(classes.text_features, labels))

        def terms(x: Tensor, labels: Tensor, made: Tensor) -> dict[str, Tensor]:  # noqa: ARG001
            return {"classification": self.classification_weight * classifier.loss(made, labels)}

        train_wgan(model, train, classes, self, fake=fake, terms=terms, rng=rng, log=log)
        return finished(model, "f_clswgan")
