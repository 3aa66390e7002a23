"""What a model's configuration says before its weights are there: whether it is supported, and its tokenizer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from features.encoding.definition import IMPORTED, EncoderSpec
from features.encoding.text_support import text_support
from features.encoding.weights import CONFIG, HUB, MissingWeightsError, place_of, unreachable
from features.errors import InputError, raise_all
from features.runtime.lazy_open_clip import INSTALL, TRANSFORMERS, import_open_clip
from features.text import tokenizer
from features.text.tokenizer import CLIP, ClipTokenizer, Tokenizer, read_tokenizer


def model_config(spec: EncoderSpec) -> dict[str, Any] | None:
    """Return open_clip's configuration of a model (`model_cfg`), without a download.

    It is None if it is not on this machine, or if there is no model.

    Raises:
        InputError: the file of the configuration cannot be read.
    """
    if spec.model == IMPORTED:
        return None
    if spec.model.startswith(HUB):
        cached = try_to_load_from_cache(spec.model.removeprefix(HUB), CONFIG)
        if not isinstance(cached, str):
            return None
        file = Path(cached)
    elif spec.folder:
        file = spec.folder / CONFIG
    else:
        # Its own models are files of the package, which can be read without importing it.
        package = importlib.util.find_spec("open_clip")
        folder = Path((package.submodule_search_locations or [""])[0]) if package else Path()
        file = folder / "model_configs" / f"{spec.model}.json"
        if not file.is_file():
            config: dict[str, Any] | None = import_open_clip().get_model_config(spec.model)
            return config
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        values: dict[str, Any] = content.get("model_cfg", content)
        return values
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def check_supported(name: str, spec: EncoderSpec) -> None:
    """Check by its configuration that an encoder can be used at all, before anything is fetched or extracted.

    Raises:
        InputError: lists every reason why it cannot.
    """
    config = model_config(spec)
    if config is None:
        return
    support = text_support(config)
    problems = list(support.problems)
    if support.hugging_face and importlib.util.find_spec(TRANSFORMERS) is None:
        problems.append(INSTALL)
    image_model = str(config.get("vision_cfg", {}).get("timm_model_name") or "")
    if image_model.startswith("naflexvit"):
        problems.append(f"its image tower reads images in their own resolution ({image_model}, NaFlex)")
    raise_all(problems, f"{place_of(name, spec)} is not supported")


def locate_tokenizer(name: str, spec: EncoderSpec, *, fetch: bool = True) -> Tokenizer:
    """Return the tokenizer that an encoder was trained with, from this machine or, to `fetch` it, from the network.

    Raises:
        InputError: it is neither on this machine nor downloadable, or is not a tokenizer.
    """
    where = place_of(name, spec)
    config = model_config(spec) or {}
    support = text_support(config)
    if support.tokenizer is None:
        return CLIP if support.clean == CLIP.clean else ClipTokenizer(support.clean)

    folder = spec.folder
    repository = spec.model.removeprefix(HUB) if spec.model.startswith(HUB) else support.tokenizer
    if spec.tokenizer is not None:
        place = Path(spec.tokenizer).expanduser()
    elif folder is not None and (folder / tokenizer.FILE).is_file():
        place = folder
    else:
        place = _hub_tokenizer(repository, where, fetch=fetch)
    return read_tokenizer(place, support.clean, where)


def _hub_tokenizer(repository: str, where: str, *, fetch: bool) -> Path:
    """Return the folder of a repository's tokenizer, from the cache or the network."""
    cached = try_to_load_from_cache(repository, tokenizer.FILE)
    if isinstance(cached, str):
        return Path(cached).parent
    reason = unreachable(constants.ENDPOINT) if fetch else "not looked for"
    if reason is None:
        try:
            for file in (tokenizer.SETTINGS, tokenizer.FILE):
                found = hf_hub_download(repository, file)
            return Path(found).parent
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error)
    raise MissingWeightsError(
        f"{where}: its tokenizer is not on this machine and cannot be downloaded ({reason}).\n"
        f"  Download {tokenizer.FILE} and {tokenizer.SETTINGS} of the Hugging Face repository {repository} on another\n"
        f"  machine (without them: transformers.AutoTokenizer.from_pretrained('{repository}').save_pretrained('x')),\n"
        f"  and set {where.partition(' ')[0]}.tokenizer: <folder>"
    )
