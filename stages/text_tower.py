"""Stage `text_tower`: take the text tower out of the encoder; later stages need nothing else of CLIP."""

from __future__ import annotations

from stages.running import run
from features.encoding.definition import IMPORTED
from features.encoding.encoder import load_encoder
from features.encoding.text import text_tower_of
from features.text.tower_file import save_absent_tower, save_tower
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load


def main() -> None:
    """Write `artifacts/<encoder>/text_tower.safetensors`."""
    params = load()
    spec, path = params.encoder, EncoderPaths(params.artifacts).text_tower
    if spec.model == IMPORTED:
        save_absent_tower(path, params.grid.encoder)
        return
    encoder = load_encoder(params.grid.encoder, spec, "cpu")
    save_tower(text_tower_of(encoder, spec), path)


if __name__ == "__main__":
    run(main)
