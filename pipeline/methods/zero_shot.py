"""CLIP without training (Radford et al. 2021; SHIP Eq. 1): the text features of hand-crafted templates.

Reproduces the row `CLIP` of SHIP Tables 1 to 3 with the data set's own template, and CLIP's prompt ensembles: unit text
features, averaged over templates and normalised again (Radford et al. 2021).
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
    needs_text_tower: ClassVar[bool] = True  # for `templates` other than the task's, whose text features are stored
    takes_synthetic: ClassVar[bool] = False
    fitted_to_images: ClassVar[bool] = False

    # null: the data set's own | imagenet_80 | imagenet_7: CLIP's for ImageNet | a list, each with one {} for the name
    templates: Literal["imagenet_80", "imagenet_7"] | Templates | None = None

    @property
    def uses_text_tower(self) -> bool:
        """Return whether there are templates to encode; the text features of the task's own are stored."""
        return self.templates is not None

    def fit(self, data: FitData) -> LinearClassifier:
        """Take the task's text features, or encode those of other templates; images are not used.

        Raises:
            InputError: a template without exactly one {} for the class name, or too long with it.
        """
        weights = data.classes.text_features
        if self.templates is not None:
            weights = ensemble(data.classes, data.text_tower, self.templates)
        return LinearClassifier(scale_of(data.classes), everything_scored(data.classes), weights=weights)


def ensemble(classes: ClassSet, tower: TextTower, templates: str | list[str]) -> Tensor:
    """Return the mean over templates of each class's unit text features, normalised: (C, D).

    Raises:
        InputError: a template without exactly one {} for the class name, or too long with it.
    """
    texts = imagenet_templates(templates) if isinstance(templates, str) else templates
    invalid = [text for text in texts if text.count("{}") != 1 or set("{}") & set(text.replace("{}", ""))]
    raise_all(
        [repr(text) for text in invalid],
        "methods.zero_shot.templates: each needs exactly one {} for the class name and no other brace",
    )

    weights = encode_classes(classes.names, texts, tower).zero_shot_weights()
    return torch.from_numpy(weights).to(classes.text_features.device)


def imagenet_templates(name: str) -> list[str]:
    """Return CLIP's 80 templates for ImageNet (`imagenet_80`), or the 7 that its authors selected (`imagenet_7`)."""
    from open_clip import zero_shot_metadata as clip  # open_clip's copies of them

    templates = clip.OPENAI_IMAGENET_TEMPLATES if name == "imagenet_80" else clip.SIMPLE_IMAGENET_TEMPLATES
    return [template("{}") for template in templates]
