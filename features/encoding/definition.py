"""The definition of an encoder: a block of `encoders` in `params.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.settings import Settings

LOCAL = "local-dir:"  # begins a model that is a folder
IMPORTED = "imported"  # a model whose image and text features other programs computed

Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class PreprocessSpec(Settings):
    """The preprocessing that weights were trained with; open_clip's names and meanings."""

    mean: Channels
    std: Channels
    interpolation: Literal["bicubic", "bilinear"]
    resize_mode: Literal["shortest", "longest", "squash"]
    fill_color: Annotated[int, Field(ge=0, le=255)] = 0  # grey level of the padding of `longest`


class EncoderSpec(Settings):
    """A frozen CLIP by open_clip's names.

    Attributes:
        model: a model of open_clip, `local-dir:<folder>`, `hf-hub:<repository>`, or `imported` if all features come
            from other programs (`shipyard features import` and `import-texts`).
        pretrained: a tag of open_clip, a file with weights of your own, or `random:<seed>`; None if `model` includes
            the weights.
        weights: a copy of the file of the tag `pretrained`, for a machine that cannot download it.
        tokenizer: folder of the `tokenizer.json` of a model that does not read CLIP's BPE; None: the folder of `model`,
            or the repository that the model names.
        preprocess: what the image tower was trained with; None: as the tag or the folder says.
        weights_sha256: the identity that the weights must have (`shipyard doctor` prints it); None: not compared.
        published_as: the papers' encoder that these weights are, for the published values in the report; None: as the
            weights or the tag say.
    """

    model: str
    pretrained: str | None = None
    weights: str | None = None
    tokenizer: str | None = None
    preprocess: PreprocessSpec | None = None
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    published_as: Literal["rn50", "rn101", "vit_b32", "vit_b16"] | None = None

    @property
    def folder(self) -> Path | None:
        """The folder of a model `local-dir:<folder>`; None for another model."""
        return Path(self.model.removeprefix(LOCAL)).expanduser() if self.model.startswith(LOCAL) else None

    @property
    def paths(self) -> list[Path]:
        """The files and folders that it names, whether or not they exist; a tag counts as the name of a file."""
        files = (Path(name).expanduser() for name in (self.pretrained, self.weights, self.tokenizer) if name)
        return [*([self.folder] if self.folder else []), *files]
