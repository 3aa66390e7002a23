"""Schema of `scores/<dataset>/<task>/<generator>.quality.json`, which `evaluate_generator` writes and `report` reads.

It is a module of its own, because the report reads such files without importing torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.formats.seal import read_sealed_json
from features.settings import Settings, parse
from pipeline.artifacts.scores import RECREATE_HINT, EncoderId


class SeedQuality(Settings):
    """Measures of one seed's generator.

    Attributes:
        seed: the seed.
        unseen: measures of `pipeline.metrics.synthetic_features` on the unseen classes; empty without test images.
        nearest_mean: nearest-mean accuracy of each unseen class in percent, by class name; empty without test images.
        seen: `spread_real` of the training images (centre crops), and `spread_synthetic` of samples of their classes.
        latent: `pipeline.generators._vae.latent_summary` of the training images; empty without an encoder.
        kl_by_latent: nats of each latent, averaged over the training images, largest first; empty without an encoder.
    """

    seed: Annotated[int, Field(ge=0)]
    unseen: dict[str, float]
    nearest_mean: dict[str, float]
    seen: dict[str, float]
    latent: dict[str, float]
    kl_by_latent: list[float]


class GeneratorQuality(Settings):
    """Measures of one generator on one task of one data set, for every seed.

    Attributes:
        dataset: the data set.
        task: the task.
        generator: the generator.
        encoder: the encoder of the features.
        images: number of test images of the measured classes.
        classes: number of measured classes: unseen classes with at least two test images.
        named: number of all unseen classes.
        per_class: number of synthetic features per class.
        seeds: measures of each seed.
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
        InputError: the file cannot be read or does not follow the schema.
    """
    values = read_sealed_json(path, RECREATE_HINT)
    return parse(GeneratorQuality, values, f"{path} ({RECREATE_HINT})")
