"""What `evaluate_generator` writes and `report` reads: `scores/<dataset>/<task>/<generator>.quality.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.formats.untrusted import read_json
from features.settings import Settings, parse
from pipeline.artifacts.scores import REMEDY, EncoderId


class SeedQuality(Settings):
    """What one seed's generator makes.

    Attributes:
        unseen: measures of `pipeline.metrics.synthetic_features` on the judged classes; empty where there is no test image.
        nearest_mean: of the same, the accuracy in percent of each class, by its name.
        seen: `spread_real` of the training images (centre crops) and `spread_synthetic` of as many classes' samples.
        latent: `pipeline.generators._vae.latent_summary` of the training images; empty without an encoder.
        kl_by_latent: nats of each latent, averaged over the images, largest first.
    """

    seed: Annotated[int, Field(ge=0)]
    unseen: dict[str, float]
    nearest_mean: dict[str, float]
    seen: dict[str, float]
    latent: dict[str, float]
    kl_by_latent: list[float]


class GeneratorQuality(Settings):
    """One generator on one task of one data set, with every seed.

    Attributes:
        images: test images of the judged classes. classes: unseen classes that have at least two of them.
        named: all unseen classes. per_class: synthetic features of each.
    """

    dataset: str
    task: str
    generator: str
    encoder: EncoderId
    images: int
    classes: int
    named: int
    per_class: int
    seeds: Annotated[tuple[SeedQuality, ...], Field(min_length=1, strict=False)]


def read_quality(path: Path) -> GeneratorQuality:
    """Read a file that `evaluate_generator` wrote.

    Raises:
        InputError: it cannot be read, or it is none of ours.
    """
    values = read_json(path, REMEDY)
    return parse(GeneratorQuality, values, f"{path} ({REMEDY})")
