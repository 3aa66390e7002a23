"""The setting `templates` of methods that read text features of class names, and CLIP's templates for ImageNet."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from features.errors import raise_all
from features.text.classes import encode_classes
from features.text.text_tower import TextTower
from pipeline.methods.base import FitData, Method
from pipeline.training.data import ClassSet

TemplateList = Annotated[list[str], Field(min_length=1)]
Named = Literal["imagenet_80", "imagenet_7", "imagenet_8"]


class TemplatedMethod(Method):
    """Base of methods that read text features of class names.

    Class attributes:
        unit_templates: whether features are normalized before their mean over templates, and not only after it.
    """

    unit_templates: ClassVar[bool] = True

    # null: the data set's own | imagenet_80, imagenet_7, imagenet_8: CLIP's for ImageNet | a list, with one {} in each
    templates: Named | TemplateList | None = None

    @property
    def uses_text_tower(self) -> bool:
        """Return whether `fit` uses the text tower; text features of the data set's own templates are stored."""
        return self.needs_text_tower or self.templates is not None

    def with_templates(self, data: FitData) -> FitData:
        """Return the data with text features of `templates`.

        In a transfer only those of the seen classes change: the others belong to another data set.

        Raises:
            InputError: a template without exactly one {} for the class name, or too long with it.
        """
        if self.templates is None:
            return data

        changed = data.classes.seen if data.transfer else torch.ones_like(data.classes.seen)
        features = self.encode(data.classes, data.text_tower)
        return replace(
            data,
            classes=replace(
                data.classes,
                text_features=torch.where(changed[:, None], F.normalize(features, dim=-1), data.classes.text_features),
                text_norms=torch.where(changed, features.norm(dim=-1), data.classes.text_norms),
            ),
        )

    def encode(self, classes: ClassSet, tower: TextTower) -> Tensor:
        """Return each class's mean text feature (C, D) over `templates`, at the length of the tower's output."""
        where = f"methods.{type(self).__module__.rpartition('.')[2]}.templates"
        texts = encode_classes(classes.names, template_list(self.templates or [], where), tower)
        raw = torch.from_numpy(texts.text_features).mean(0)
        if self.unit_templates:
            raw = torch.from_numpy(texts.zero_shot_weights()) * raw.norm(dim=-1, keepdim=True)
        return raw.to(classes.text_features.device)


def template_list(templates: str | list[str], where: str) -> list[str]:
    """Return the templates of a name, or those of a list, checked.

    Raises:
        InputError: a template without exactly one {} for the class name.
    """
    if isinstance(templates, str):
        return imagenet_templates(templates)

    invalid = [text for text in templates if text.count("{}") != 1 or set("{}") & set(text.replace("{}", ""))]
    raise_all(
        [repr(text) for text in invalid],
        f"{where}: each needs exactly one {{}} for the class name and no other brace",
    )
    return templates


def imagenet_templates(name: str) -> list[str]:
    """Return CLIP's 80 templates for ImageNet, the 7 that its authors selected, or these and "a photo of a {}."."""
    from open_clip import zero_shot_metadata as clip  # open_clip's copies of them

    templates = clip.OPENAI_IMAGENET_TEMPLATES if name == "imagenet_80" else clip.SIMPLE_IMAGENET_TEMPLATES
    return [template("{}") for template in templates] + (["a photo of a {}."] if name == "imagenet_8" else [])
