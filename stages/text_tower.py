"""Stage `text_tower`: take the text tower out of the encoder; later stages need nothing else of CLIP."""

from __future__ import annotations

from stages.running import run
from features.encoding.encoder import load_encoder
from features.encoding.open_clip_text import from_open_clip
from features.text.text_tower import save_tower
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load


def main() -> None:
    """Write `artifacts/<encoder>/text_tower.safetensors`."""
    params = load()
    spec = params.encoder
    encoder = load_encoder(params.grid.encoder, spec.model, spec.pretrained, "cpu")
    tower = from_open_clip(encoder.model, encoder.name, encoder.weights_sha256)
    save_tower(tower, EncoderPaths(params.artifacts).text_tower)


if __name__ == "__main__":
    run(main)
