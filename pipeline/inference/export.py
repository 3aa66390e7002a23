"""Export the image tower and the classifier of a run to one file, for programs without this project.

- `onnx` and `torchscript` map pixels to `logits` (N, C), after the offset of seen classes and the temperature, and to
  `probabilities` (N, C), their softmax. The pixels are (N, 3, height, width) float32 in [0, 1], after resizing and
  cropping. The normalization of the pixels is part of the model.
- `safetensors` holds the tensors of both, and `offsets` (C,), which are subtracted from the logits. The batch norms of
  the tower are folded into its convolutions.
- `open_clip` holds the classifier alone, (D, C), as open_clip's zero-shot evaluation expects it. That evaluation knows
  no offset; if the run has one, the file has `bias` (C,) beside it, which is added to the logits.

The metadata of each file describes the resizing and cropping, and lists the class names.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.errors import InputError
from features.formats.files import atomic_file
from features.formats.tensors import save_tensors
from pipeline.inference.predict import Model
from pipeline.methods.base import Classifier, LinearClassifier

Format = Literal["onnx", "torchscript", "safetensors", "open_clip"]
FORMATS: tuple[Format, ...] = get_args(Format)
OPSET = 20


class ImageClassifier(nn.Module):
    """A module of the image tower, the classifier, the offsets and the temperature."""

    def __init__(self, model: Model) -> None:
        """Take the parts of a model on the CPU whose classifier reads features only, no patch tokens."""
        super().__init__()
        self.tower: nn.Module = model.encoder.model.visual  # type: ignore[assignment]
        self.mean = nn.Buffer(torch.tensor(model.encoder.preprocess.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(model.encoder.preprocess.std)[:, None, None])
        self.ids = nn.Buffer(torch.arange(len(model.names)))
        self.offsets = nn.Buffer(model.offsets)
        self.classifier, self.temperature = model.classifier, model.temperature or 1.0

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities (N, C) of (N, 3, height, width) pixels in [0, 1]."""
        features = self.tower((pixels - self.mean) / self.std)
        # Call `_logits`, without the checks of `logits`: their branches cannot be part of an exported graph.
        logits = self.classifier._logits(F.normalize(features, dim=-1), self.ids) - self.offsets
        logits = logits / self.temperature
        return logits, logits.softmax(dim=1)


def export(model: Model, to: Format, out: Path) -> None:
    """Write a model to `out` in the format `to`, either the whole file or nothing.

    Raises:
        InputError: the format does not support the classifier of the run. The error names the formats that do.
    """
    writers: Mapping[Format, Callable[[Model, Path], None]] = {
        "onnx": _onnx,
        "torchscript": _torchscript,
        "safetensors": _safetensors,
        "open_clip": _open_clip,
    }

    if to in ("onnx", "torchscript"):
        unsupported = None
        if model.reads_patches:
            unsupported = "patch tokens"
        elif type(model.classifier).with_text_tower is not Classifier.with_text_tower:
            unsupported = "the text tower"

        if unsupported:
            raise InputError(
                f"the run {model.run!r} needs {unsupported}, which {to} does not support: use --to safetensors, or "
                "another run (--run)"
            )

    writers[to](model, out)


def metadata(model: Model) -> dict[str, Any]:
    """Return the metadata of an exported file. The order of `classes` is the order of the columns."""
    return {
        "task": model.task,
        "run": model.run,
        "seed": model.seed,
        "encoder": model.encoder.name,
        "weights_sha256": model.encoder.weights_sha256,
        "classes": list(model.names),
        "seen": list(model.seen),
        "offset": model.offset,
        "preprocess": asdict(model.encoder.preprocess),
        "reading": {"upright": model.reading.upright, "levels": model.reading.levels},
        "temperature": model.temperature or 1.0,
        "calibrated": model.temperature is not None,
    }


def _example(model: Model) -> Tensor:
    """Return random pixels to trace the model with. Two images, because a size of 1 would become a constant."""
    return torch.rand(2, 3, *model.encoder.preprocess.size, generator=torch.Generator().manual_seed(0))


def _onnx(model: Model, out: Path) -> None:
    try:
        import onnx  # noqa: PLC0415 (an optional extra)
        import onnxscript  # noqa: F401, PLC0415 (torch's exporter needs it, and fails late without it)
    except ImportError as error:
        raise InputError(f"{error.name} is not installed: pip install -e '.[export]'") from error

    module = ImageClassifier(model).eval()
    with _quiet():
        program = torch.onnx.export(
            module,
            (_example(model),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("images", min=1)}},
            verbose=False,
        )
    assert program is not None  # noqa: S101 (it is None only if torch writes the file itself)

    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"shipyard": json.dumps(metadata(model), ensure_ascii=False)})
    with atomic_file(out) as part:
        part.write_bytes(proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings, which are meant for its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _torchscript(model: Model, out: Path) -> None:
    module = ImageClassifier(model).eval()
    data = io.BytesIO()
    with _quiet(), torch.inference_mode():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, (_example(model),), check_trace=False
        )
        torch.jit.save(traced, data, _extra_files={"shipyard.json": json.dumps(metadata(model), ensure_ascii=False)})
    with atomic_file(out) as part:
        part.write_bytes(data.getvalue())


def _safetensors(model: Model, out: Path) -> None:
    tower = {f"visual.{name}": value for name, value in model.encoder.model.visual.state_dict().items()}  # type: ignore[union-attr]
    head = {f"classifier.{name}": value for name, value in model.classifier.state().items()}
    with atomic_file(out) as part:
        save_tensors(
            {**tower, **head, "offsets": model.offsets}, part, shipyard=json.dumps(metadata(model), ensure_ascii=False)
        )


def _open_clip(model: Model, out: Path) -> None:
    classifier = model.classifier
    if not isinstance(classifier, LinearClassifier):
        raise InputError(
            f"the classifier of the run {model.run!r} ({type(classifier).__name__}) is not linear, and open_clip "
            "expects one vector per class; use --to onnx, torchscript or safetensors, or another run (--run)"
        )

    # open_clip multiplies cosines by the scale of the encoder, so divide our own scale by it.
    tensors = {"classifier": (classifier.weights.T * (classifier.logit_scale / _clip_scale(model))).contiguous()}
    if model.offset:
        tensors["bias"] = -model.offsets
    with atomic_file(out) as part:
        save_tensors(tensors, part, shipyard=json.dumps(metadata(model), ensure_ascii=False))


def _clip_scale(model: Model) -> Tensor:
    """Return the logit scale of the encoder, by which open_clip multiplies cosines."""
    scale: Tensor = model.encoder.model.logit_scale.exp()  # type: ignore[operator]
    return scale.cpu()
