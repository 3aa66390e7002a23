"""open_clip without torch's compiler: what is left out must still be there when it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRIED = """
import sys
from features.runtime.lazy_open_clip import import_open_clip
open_clip = import_open_clip()
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
assert "ViT-B-16" in open_clip.list_models()

import torch
from torchvision.ops import roi_align  # with gradients and the deterministic switch it asks what the compiler supports
torch.use_deterministic_algorithms(True)
pooled = roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]), 2)
assert torch.equal(pooled, torch.ones(1, 1, 2, 2))
doubled = torch.compile(lambda values: 2 * values, backend="eager")(torch.ones(2))
assert torch.equal(doubled, torch.full((2,), 2.0))
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") in (True, False)
"""


def test_open_clip_comes_without_the_compiler_and_the_compiler_when_it_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIED], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
