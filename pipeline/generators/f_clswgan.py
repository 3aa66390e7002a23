"""f-CLSWGAN: a WGAN-GP on features whose fakes must also be classifiable (Xian et al. 2018); SHIP Table 3, row 1.

min_G max_D L_WGAN + beta L_CLS, where L_CLS = -E[log P(y | G(z, a); theta)] and P is a softmax classifier of seen
classes, fitted on real features beforehand and frozen.

SHIP's Table 3 gives this row on ResNet-101 features with expert attributes. Here features are CLIP's and a is the
class's text feature, as SHIP did for f-VAEGAN and TF-VAEGAN, so the numbers of that row are no target.

Differs from the paper:

- G's output has unit length instead of a ReLU.
- The classifier sees features times CLIP's logit scale.
- Training lasts a fixed number of epochs; the paper stops by validation.

"code" is the port in LisGAN's repository (4484acb, checked 2026-11), whose README gives the settings of its runs by
data set; f-CLSWGAN's own code was not checked.
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


class FClsWgan(AdversarialGenerator):
    """Settings of f-CLSWGAN."""

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (section 4)
    generator_width: PositiveInt = 4096  # hidden units of G (section 4)
    classification_weight: NonNegativeFloat = 0.01  # beta (section 4)
    classifier_epochs: PositiveInt = 50  # passes that fit P beforehand (code)
    epochs: PositiveInt = 50  # passes over the seen images (code: 30 to 80 by data set; AWA 30)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Return G with weights from N(0, 0.02^2) and biases 0 (code)."""
        return init_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the classifier, then train against the critic."""
        # `rng` is drawn from in this order (G's weights, P, training), so the order is part of what a seed gives.
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        classifier = fit_seen_classifier(train, classes, self.classifier_epochs, rng)

        def generate(_: Tensor, labels: Tensor) -> Tensor:
            return model.generate(gather(classes.text_features, labels), rng)

        def extra_losses(_: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            return {"classification": self.classification_weight * classifier.loss(fake, labels)}

        train_wgan(model, train, classes, self, generate=generate, extra_losses=extra_losses, rng=rng, log=log)
        return freeze_trained(model, "f_clswgan")
