"""What the configuration of the encoder decides before a run: whether it can be used, and which methods can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from features.datasets.base import Listing, is_template
from features.encoding.configuration import check_supported, locate_tokenizer, model_config
from features.encoding.definition import IMPORTED, EncoderSpec
from features.encoding.text_support import text_support
from features.encoding.weights import locate
from features.errors import InputError, Problems
from features.index import ClassNames
from features.text.prompts import format_prompts, prompt_text
from features.text.tokenizer import Tokenizer
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method

# A text has at most this many tokens per byte, so that short names need no tokenizer, which takes seconds to import.
TOKENS_PER_BYTE = 2


def encoder_conflicts(params: Params, methods: Mapping[str, Method | None]) -> Iterator[str]:
    """Yield one line for each reason why the encoder, or a method with it, cannot run.

    The definition is compared with open_clip's only until its text tower is there: later stages need no weights.
    """
    name, spec = params.grid.encoder, params.encoder
    if spec.model == IMPORTED:
        reason = f"encoder {name!r} has none, because its class texts are imported"
        yield from _without_prompts(params, methods, f"needs a text tower, and {reason}")
        return

    problems = Problems()
    if not EncoderPaths(params.artifacts).text_tower.exists():
        problems.attempt(lambda: check_supported(name, spec))
        if not problems.messages:
            problems.attempt(lambda: locate(name, spec, fetch=False))
        yield from (message.replace("\n", "\n    ") for message in problems.messages)

    config = None if problems.messages else Problems().attempt(lambda: model_config(spec))
    if config is None:
        return
    support = text_support(config)
    unable = [key for key, method in methods.items() if method is not None and method.needs_shared_prefix]
    if unable and not support.shares_prefix:
        yield (
            f"grid.methods: {', '.join(unable)} cannot learn prompts of encoder {name!r}, whose text tower is "
            f"{support.kind}: it needs causal attention and pooling at the EOT. Remove it, or use another encoder"
        )


def _without_prompts(params: Params, methods: Mapping[str, Method | None], reason: str) -> Iterator[str]:
    """Yield one line for all methods, and one for all generators, that need more than the stored class texts."""
    unable = [name for name, method in methods.items() if method is not None and method.uses_text_tower]
    if unable:
        yield f"grid.methods: {', '.join(unable)} {reason}; remove it"
    if params.grid.generators:
        yield f"grid.generators: {', '.join(params.grid.generators)} {reason}; remove it"


def prompt_room(
    params: Params,
    dataset: str,
    names: ClassNames | Listing,
    methods: Mapping[str, Method | None],
    generators: Mapping[str, Generator | None],
) -> Iterator[str]:
    """Yield a line for each set of methods whose learned vectors leave too little room for class names.

    A name that does not fit a template alone refuses every method, because all need its text features.

    Args:
        params: the settings of a run.
        dataset: name of the data set.
        names: its classes.
        methods: the methods of the grid; None where a block is invalid.
        generators: the generators of the grid, likewise.
    """
    config = Problems().attempt(lambda: model_config(params.encoder))  # `encoder_conflicts` says what is wrong with it
    if config is None or text_support(config).problems:
        return
    context_length = text_support(config).context_length
    tokenizer = _tokenizer(params.grid.encoder, params.encoder)
    if tokenizer is None:
        return

    templates = [template for template in names.templates if is_template(template)]  # `mistakes` reports the others
    by_template = [format_prompts(template, names.classes, names.descriptions) for template in templates]
    texts = dict(zip(names.classes, zip(*by_template, strict=True), strict=True)) if templates else {}
    problem = _too_long(texts, context_length, tokenizer.encode)
    if problem:
        yield (
            f"data.sets.{dataset}: {problem}; the text tower of {params.grid.encoder!r} reads {context_length} tokens. "
            "Shorten the names, descriptions or templates"
        )

    by_vectors: dict[int, list[str]] = {}
    for name, learner in {**methods, **generators}.items():
        if learner is not None and learner.learned_vectors:
            by_vectors.setdefault(learner.learned_vectors, []).append(name)

    subjects = {name: [f"{prompt_text(name)}."] for name in names.classes}
    for vectors, learners in sorted(by_vectors.items()):
        problem = _too_long(subjects, context_length - vectors, tokenizer.encode_name)
        if problem:
            yield (
                f"data.sets.{dataset}: {problem}; {', '.join(learners)}: {vectors} learned vectors are beside a name, "
                f"and the text tower of {params.grid.encoder!r} reads {context_length} tokens. Shorten these names, "
                "use fewer vectors, or remove these methods; methods without learned prompts can run"
            )


def _too_long(texts: Mapping[str, Sequence[str]], room: int, encode: Callable[[str], list[int]]) -> str | None:
    """Return which class names have a text of more than `room` tokens, all of them; None if all texts fit.

    Args:
        texts: the texts of each class name.
        room: the most tokens of a text.
        encode: the tokenizer.
    """
    uncertain = {
        name: [text for text in of_name if TOKENS_PER_BYTE * len(text.encode(errors="surrogatepass")) + 2 > room]
        for name, of_name in texts.items()
    }
    lengths = {name: max((len(encode(text)) for text in of_name), default=0) for name, of_name in uncertain.items()}
    long = [f"{name!r} ({length})" for name, length in lengths.items() if length > room]
    return f"class names with more than {room} tokens: {', '.join(long)}" if long else None


def _tokenizer(name: str, spec: EncoderSpec) -> Tokenizer | None:
    """Return the tokenizer of an encoder; None if it is not on this machine yet."""
    try:
        return locate_tokenizer(name, spec, fetch=False)
    except InputError:  # not fetched yet, or the stage says what is wrong with it
        return None
