"""Stage `classes`: encode class names in their templates as token ids and text features."""

from __future__ import annotations

from stages.running import run
from features.index import read_names
from features.text.classes import encode_classes, save_classes
from features.text.tower_file import load_tower
from pipeline.artifacts import paths
from pipeline.config.params import load
from stages.options import Dataset


def main(dataset: Dataset) -> None:
    """Write `artifacts/<encoder>/classes/<dataset>.h5`."""
    encoder_paths = paths.EncoderPaths(load().artifacts)
    names = read_names(paths.names(dataset))

    # On the CPU, whatever compute.device is: the texts are few and short.
    tower = load_tower(encoder_paths.text_tower)
    texts = encode_classes(
        names.classes, names.templates, tower, descriptions=names.descriptions, missing=names.missing
    )
    save_classes(texts, encoder_paths.classes(dataset))


if __name__ == "__main__":
    run(main)
