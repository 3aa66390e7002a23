"""One file with the image tower and a run's classifier, for programs that do not have this project.

onnx, torchscript: pixels (N, 3, height, width) float32 in [0, 1], after resizing and cropping, to `logits` (N, C),
divided by the temperature, and `probabilities` (N, C), their softmax; the normalisation of pixels is inside.
safetensors: the tensors of both, the tower's with batch norms folded into convolutions. open_clip: the classifier
alone, (D, C), as open_clip's zero-shot evaluation takes it. Each says in its metadata what resizing and cropping must
do, and the class names.
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
    """The image tower, the classifier and the temperature as one module."""

    def __init__(self, model: Model) -> None:
        """On the CPU, from a model whose classifier reads features alone."""
        super().__init__()
        self.tower: nn.Module = model.encoder.model.visual  # type: ignore[assignment]
        self.mean = nn.Buffer(torch.tensor(model.encoder.preprocess.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(model.encoder.preprocess.std)[:, None, None])
        self.ids = nn.Buffer(torch.arange(len(model.names)))
        self.classifier, self.temperature = model.classifier, model.temperature or 1.0

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities (N, C) of (N, 3, height, width) pixels in [0, 1]."""
        features = self.tower((pixels - self.mean) / self.std)
        # Without the checks of `logits`, whose outcome no graph can hold.
        logits = self.classifier._logits(F.normalize(features, dim=-1), self.ids) / self.temperature
        return logits, logits.softmax(dim=1)


def export(model: Model, to: Format, out: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        InputError: the format cannot hold the run's classifier; the message names those that can.
    """
    writers: Mapping[Format, Callable[[Model, Path], None]] = {
        "onnx": _onnx,
        "torchscript": _torchscript,
        "safetensors": _safetensors,
        "open_clip": _open_clip,
    }
    if to in ("onnx", "torchscript"):
        more = {
            "patch tokens": model.reads_patches,
            "the text tower": type(model.classifier).bound is not Classifier.bound,
        }
        if needed := [what for what, reads in more.items() if reads]:
            raise InputError(
                f"the run {model.run!r} scores with {needed[0]}, which {to} cannot hold: take --to safetensors, or "
                "another run (--run)"
            )
    writers[to](model, out)


def metadata(model: Model) -> dict[str, Any]:
    """What a program needs to know to use the file; the order of `classes` is that of the columns."""
    return {
        "task": model.task,
        "run": model.run,
        "seed": model.seed,
        "encoder": model.encoder.name,
        "weights_sha256": model.encoder.weights_sha256,
        "classes": list(model.names),
        "seen": list(model.seen),
        "preprocess": asdict(model.encoder.preprocess),
        "temperature": model.temperature or 1.0,
        "calibrated": model.temperature is not None,
    }


def _example(model: Model) -> Tensor:
    return torch.rand(2, 3, *model.encoder.preprocess.size, generator=torch.Generator().manual_seed(0))


def _onnx(model: Model, out: Path) -> None:
    try:
        import onnx  # noqa: PLC0415 (of an extra)
        import onnxscript  # noqa: F401, PLC0415 (torch's exporter needs it, and says so late)
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
    assert program is not None  # noqa: S101 (no file was asked for)
    made = program.model_proto
    onnx.helper.set_model_props(made, {"shipyard": json.dumps(metadata(model), ensure_ascii=False)})
    with atomic_file(out) as part:
        part.write_bytes(made.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes for its developers from the user."""
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
        save_tensors({**tower, **head}, part, shipyard=json.dumps(metadata(model), ensure_ascii=False))


def _open_clip(model: Model, out: Path) -> None:
    found = model.classifier
    if not isinstance(found, LinearClassifier):
        raise InputError(
            f"open_clip's classifier is one vector a class, and that of the run {model.run!r} "
            f"({type(found).__name__}) is more; take --to onnx, torchscript or safetensors, or another run (--run)"
        )
    weights = (found.weights.T * (found.logit_scale / _clip_scale(model))).contiguous()
    with atomic_file(out) as part:
        save_tensors({"classifier": weights}, part, shipyard=json.dumps(metadata(model), ensure_ascii=False))


def _clip_scale(model: Model) -> Tensor:
    """What open_clip multiplies a cosine by: that of the encoder."""
    scale: Tensor = model.encoder.model.logit_scale.exp()  # type: ignore[operator]
    return scale.cpu()
