"""Stage `classes`: class names and templates -> token ids and text features."""

from __future__ import annotations

from stages.running import run
from features.index import read_names
from features.text.classes import encode_classes, save_classes
from features.text.text_tower import load_tower
from pipeline.artifacts import paths
from pipeline.config.params import load
from stages.options import Dataset


def main(dataset: Dataset) -> None:
    """Write `artifacts/<encoder>/classes/<dataset>.h5`."""
    encoded = paths.EncoderPaths(load().artifacts)
    names = read_names(paths.names(dataset))
    tower = load_tower(encoded.text_tower)
    texts = encode_classes(
        names.classes, names.templates, tower, descriptions=names.descriptions, missing=names.missing
    )
    save_classes(texts, encoded.classes(dataset))


if __name__ == "__main__":
    run(main)
