"""A frozen CLIP as open_clip builds it, with its preprocessing as data and an identity of its weights."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from features.encoding.augment import Preprocess
from features.encoding.definition import EncoderSpec
from features.encoding.folding import fold_batch_norms
from features.encoding.weights import Source, check_downloads, locate, place_of, weight_files
from features.errors import InputError, raise_all
from features.runtime.devices import Precision, autocast, one_thread
from features.runtime.lazy_open_clip import import_hugging_face, import_open_clip

LINE = 600  # characters of a line of open_clip's message that are shown
CONTAINERS = ("state_dict_ema", "model_ema", "ema", "model", "model_state_dict")  # keys of other programs' checkpoints
PREFIXES = ("_orig_mod.", "model.", "module.", "clip.")  # that other programs put before the names of weights


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen CLIP on a device.

    Attributes:
        name: its name in `params.yaml`.
        model: open_clip's module: float32, in evaluation mode, without gradients, batch norms folded into convolutions.
        preprocess: how it wants its pixels.
        embed_dim: D of its features.
        weights_sha256: identity of all its weights, independent of the file they came from (`weights_sha256`).
        device: where the model is.
    """

    name: str
    model: nn.Module
    preprocess: Preprocess
    embed_dim: int
    weights_sha256: str
    device: torch.device

    def normalize(self, crops: Tensor) -> Tensor:
        """Convert crops (N, height, width, 3) uint8 to (N, 3, height, width) float32, bit for bit as torchvision."""
        if self.device.type == "cuda":
            # The GPU fetches the pinned copy by itself, so the caller may overwrite `crops` at once.
            crops = crops.pin_memory()

        numbers = (crops, torch.tensor(self.preprocess.mean), torch.tensor(self.preprocess.std))
        crops, mean, std = (values.to(self.device, non_blocking=True) for values in numbers)
        pixels = crops.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        return pixels.sub_(mean[:, None, None]).div_(std[:, None, None])

    def encode_crops(self, crops: Tensor, precision: Precision = "float32") -> Tensor:
        """Encode crops (N, height, width, 3) uint8 as (N, D) float32 features, not normalized."""
        with torch.inference_mode(), autocast(self.device, precision):
            encoded: Tensor = self.model.encode_image(self.normalize(crops))  # type: ignore[operator]
            return encoded.float()


def load_encoder(name: str, spec: EncoderSpec, device: torch.device | str) -> Encoder:
    """Load a model of open_clip by its definition in `params.yaml`.

    Raises:
        InputError: a name is unknown, the weights are neither on this machine nor downloadable, do not fit the model,
            or are not those of `weights_sha256`.
    """
    source, where = locate(name, spec), place_of(name, spec)
    check_downloads(source, where)
    with one_thread():
        module = _build(source, where)
        module.eval().requires_grad_(False)

        # The identity is that of the weights as published, so it is taken before batch norms are folded.
        identity, visual = weights_sha256(module), module.visual
        if spec.weights_sha256 not in (None, identity):
            raise InputError(
                f"{where}: the weights have the sha256 {identity}, but weights_sha256 is {spec.weights_sha256}. "
                "Correct weights_sha256, or name the right weights"
            )
        preprocess = Preprocess.from_open_clip(visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
        fold_batch_norms(visual, preprocess.size)  # type: ignore[arg-type]

        # A convolutional network; a ViT has one convolution, which cuts the image into patches.
        if sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) > 1:
            module.to(memory_format=torch.channels_last)  # twice as fast on CPUs
    device = torch.device(device)
    return Encoder(
        name=name,
        model=module.to(device),
        preprocess=preprocess,
        embed_dim=_embed_dim(source.model),
        weights_sha256=identity,
        device=device,
    )


def weights_sha256(module: nn.Module) -> str:
    """Return the sha256 over a module's parameters and buffers, sorted by name: name, dtype, shape, bytes."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        hasher.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def _placeholder(file: Path) -> Iterator[str]:
    """Yield what stands in place of weights, if it is what a clone without Git LFS or a failed download leaves."""
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.startswith(b"version https://git-lfs"):
        yield f"{file} is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    elif not start:
        yield f"{file} is empty; download it again"
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        yield f"{file} is a web page; download the file itself"


def _build(source: Source, where: str) -> nn.Module:
    """Build the model on the CPU and fill it with its weights; `where` names the encoder in messages."""
    open_clip = import_open_clip()
    if open_clip.get_model_config(source.model)["text_cfg"].get("hf_model_name"):
        import_hugging_face()

    options: dict[str, Any] = {"precision": "fp32", "device": "cpu", "weights_only": True, "pretrained_text": False}
    if source.preprocess:
        options["force_preprocess_cfg"] = dict(source.preprocess)

    try:
        if source.seed is None:
            checkpoint = str(source.checkpoint) if source.checkpoint else None
            with _SkipInit():
                built = open_clip.create_model(source.model, checkpoint, require_pretrained=True, **options)
        else:
            with torch.random.fork_rng(devices=[]), ZeroEmpty():
                torch.manual_seed(source.seed)
                built = open_clip.create_model(source.model, load_weights=False, **options)
    except Exception as error:  # open_clip and the formats that it reads raise many kinds of exceptions
        raise_all([line for file in weight_files(source) for line in _placeholder(file)], f"{where}: no weights there")
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(
                f"{where}: refusing to load: the checkpoint contains pickled objects other than tensors, which could "
                "execute code. Convert it to safetensors on a machine that trusts it"
            ) from error
        hint = "".join(foreign_names(file) for file in weight_files(source))
        raise InputError(f"{where}: open_clip cannot build the model: {hint}{_first_lines(error)}") from error
    module: nn.Module = built.float()
    return module


class _SkipInit(TorchFunctionMode):
    """Skips the random initialisation of new parameters: half of the time of loading.

    Only used where a checkpoint, which is loaded strictly, then fills every parameter.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class ZeroEmpty(TorchFunctionMode):
    """Fills new memory with zeros: CoCa leaves parameters as they come, so that a seed would not fix the weights."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (torch.zeros if func is torch.empty else func)(*args, **(kwargs or {}))


def foreign_names(checkpoint: Path) -> str:
    """Return a hint for a checkpoint whose weights have the names of another program; empty for open_clip's names."""
    try:
        if checkpoint.suffix == ".safetensors":
            with safe_open(checkpoint, "pt") as file:
                content: dict[str, Any] = dict.fromkeys(file.keys())
        else:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        container = next((key for key in CONTAINERS if isinstance(content.get(key), dict)), None)
        names = list(content.get("state_dict", content))
    except Exception:  # noqa: BLE001 (the error that is explained here says what is wrong with the file)
        return ""

    if container is not None and "state_dict" not in content:
        return (
            f"{checkpoint} keeps its weights under {container!r}. Save them alone: "
            f"torch.save(torch.load({checkpoint.name!r}, 'cpu', weights_only=True)[{container!r}], 'weights.pt')\n  "
        )
    prefix = next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), None)
    if prefix is not None:
        return (
            f"in {checkpoint} every name begins with {prefix!r}. Save the weights without it: "
            f"{{name.removeprefix({prefix!r}): tensor for name, tensor in weights.items()}}\n  "
        )
    return ""


def _first_lines(error: Exception, count: int = 6) -> str:
    """Return the first lines of an error; a state dict that does not fit lists hundreds of keys."""
    lines = [line[:LINE] + " ..." * (len(line) > LINE) for line in str(error).splitlines()] or [type(error).__name__]
    return "\n  ".join(lines[:count] + ["..."] * (len(lines) > count))


def _embed_dim(model: str) -> int:
    open_clip = import_open_clip()

    return int(open_clip.get_model_config(model)["embed_dim"])
