"""CLIP without training (Radford et al. 2021; SHIP Eq. 1): the text features of hand-crafted templates.

With the data set's own template it is the row `CLIP` of SHIP Tables 1 to 3. CLIP's prompt ensembles are unit text
features, averaged over templates and normalized again (Radford et al. 2021).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pipeline.methods._templates import TemplatedMethod
from pipeline.methods.base import Classifier, FitData, LinearClassifier, everything_scored, scale_of


class ZeroShot(TemplatedMethod):
    """Settings of zero-shot CLIP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    takes_synthetic: ClassVar[bool] = False
    fitted_to_images: ClassVar[bool] = False

    def fit(self, data: FitData) -> LinearClassifier:
        """Take the task's text features, or encode those of other templates; images are not used.

        Raises:
            InputError: a template without exactly one {} for the class name, or too long with it.
        """
        classes = self.with_templates(replace(data, transfer=False)).classes  # of the target, too
        return LinearClassifier(scale_of(classes), everything_scored(classes), weights=classes.text_features)
