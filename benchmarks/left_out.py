"""`python -m benchmarks.left_out`: what compiling, and fitting seeds in one pass, would save.

LiteCLIP on one thread, CPU time, medians. Compiling needs a C++ compiler. docs/performance.md says why neither is done.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.extraction import LITECLIP
from benchmarks.material import caltech_names, text_tower
from features.encoding.encoder import load_encoder
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower

CONTEXT, SEEDS, CROPS, REPEATS = 4, 4, 16, 7


def cpu_seconds() -> float:
    """Of this process and the compilers that it ran."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def first_and_median(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call, which compiles what is to be compiled, and the median of those that follow."""
    times = []
    for _ in range(1 + REPEATS):
        start = cpu_seconds()
        work()
        times.append(cpu_seconds() - start)
    return times[0], statistics.median(times[1:])


def passes(tower: TextTower) -> Callable[[Tensor], Tensor]:
    """Forward and backward of Caltech101's names for contexts (G, M, W); gives the contexts' gradient."""
    tokens = class_tokens(caltech_names(), context_length=tower.config.context_length, prompt=CONTEXT)

    def run(start: Tensor) -> Tensor:
        context = start.clone().requires_grad_()
        F.normalize(tower(context, tokens), dim=-1)[..., 0].sum().backward()  # type: ignore[no-untyped-call]
        assert context.grad is not None  # noqa: S101
        return context.grad

    return run


def main() -> None:
    """Print a line for each comparison."""
    import open_clip

    torch.set_num_threads(1)
    torch.compiler.config.force_disable_caches = True  # or a second run would compile nothing
    encoder = load_encoder("liteclip", LITECLIP, None, "cpu")
    tower = text_tower(open_clip.create_model(LITECLIP).eval().requires_grad_(False))
    run, rng = passes(tower), torch.Generator().manual_seed(0)
    contexts = 0.02 * torch.randn(SEEDS, CONTEXT, tower.config.width, generator=rng)
    crops = torch.randint(256, (CROPS, 224, 224, 3), dtype=torch.uint8, generator=rng)

    _, together = first_and_median(lambda: run(contexts))
    _, alone = first_and_median(lambda: [run(context[None]) for context in contexts])
    apart = torch.cat([run(context[None]) for context in contexts]) - run(contexts)
    print(f"{SEEDS} contexts through the text tower: {alone:.3f} s one after another, {together:.3f} s in one pass;")
    print(
        f"  their gradients differ by up to {float(apart.abs().max() / run(contexts).abs().max()):.1e} of the largest"
    )

    _, plain = first_and_median(lambda: run(contexts[:1]))
    tower._one_pass = torch.compile(tower._one_pass, dynamic=False)  # type: ignore[method-assign]
    first, compiled = first_and_median(lambda: run(contexts[:1]))
    print(f"text tower, a step: {plain:.3f} s, compiled {compiled:.3f} s after {first:.0f} s")

    with torch.inference_mode():
        _, plain = first_and_median(lambda: encoder.encode_crops(crops))
        encoder.model.get_submodule("visual").compile()
        first, compiled = first_and_median(lambda: encoder.encode_crops(crops))
    print(f"image tower, {CROPS} crops: {plain:.3f} s, compiled {compiled:.3f} s after {first:.0f} s")


if __name__ == "__main__":
    main()
