"""CLIP without training (Radford et al. 2021; SHIP Eq. 1): the text features of hand-crafted templates.

Reproduces the row `CLIP` of SHIP Tables 1 to 3 with the data set's own template, and CLIP's prompt ensembles: unit text
features, averaged over templates, normalised again (Radford et al. 2021).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from features.errors import raise_all
from features.text.classes import encode_classes
from features.text.text_tower import TextTower
from pipeline.methods.base import Classifier, FitData, LinearClassifier, Method, everything_scored, scale_of
from pipeline.training.data import ClassSet

Templates = Annotated[list[str], Field(min_length=1)]


class ZeroShot(Method):
    """Settings of zero-shot CLIP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    needs_text_tower: ClassVar[bool] = True  # for other templates than the task's, whose features it holds
    takes_synthetic: ClassVar[bool] = False

    # null: the data set's own | imagenet_80 | imagenet_7: CLIP's for ImageNet | a list, each with one {} for the name
    templates: Literal["imagenet_80", "imagenet_7"] | Templates | None = None

    def fit(self, data: FitData) -> LinearClassifier:
        """Take or make the text features; no image is looked at.

        Raises:
            InputError: templates without one {} for the class name, or too long with it.
        """
        weights = data.classes.text_features
        if self.templates is not None:
            weights = ensemble(data.classes, data.text_tower, self.templates)
        return LinearClassifier(scale_of(data.classes), everything_scored(data.classes), weights=weights)


def ensemble(classes: ClassSet, tower: TextTower, templates: str | list[str]) -> Tensor:
    """(C, D) unit rows: the mean over templates of each class's unit text features.

    Raises:
        InputError: templates without one {} for the class name, or too long with it.
    """
    texts = imagenet(templates) if isinstance(templates, str) else templates
    wrong = [repr(text) for text in texts if text.count("{}") != 1 or set("{}") & set(text.replace("{}", ""))]
    raise_all(
        wrong, "methods.zero_shot: a template must have one {} for the class name and no other brace; these differ"
    )
    found = encode_classes(classes.names, texts, tower).zero_shot_weights()
    return torch.from_numpy(found).to(classes.text_features.device)


def imagenet(name: str) -> list[str]:
    """CLIP's 80 templates for ImageNet, or the 7 that its authors picked of them (open_clip's copies)."""
    from open_clip import zero_shot_metadata as clip

    chosen = clip.OPENAI_IMAGENET_TEMPLATES if name == "imagenet_80" else clip.SIMPLE_IMAGENET_TEMPLATES
    return [template("{}") for template in chosen]
