"""open_clip is imported without torch's compiler, which is imported when it is used."""

from __future__ import annotations

import subprocess
import sys

from project_root import ROOT

PROGRAM = """
import sys
from features.runtime.lazy_open_clip import import_open_clip
open_clip = import_open_clip()
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
assert "ViT-B-16" in open_clip.list_models()

import torch
from torchvision.ops import roi_align  # in deterministic mode it asks which operations the compiler supports
torch.use_deterministic_algorithms(True)
pooled = roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]), 2)
assert torch.equal(pooled, torch.ones(1, 1, 2, 2))
doubled = torch.compile(lambda values: 2 * values, backend="eager")(torch.ones(2))
assert torch.equal(doubled, torch.full((2,), 2.0))
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") in (True, False)
"""


def test_the_compiler_is_imported_only_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITHOUT_DISABLE_DYNAMO = """
import torch._compile
del torch._compile._disable_dynamo  # as a later torch may, for it is private
from features.runtime.lazy_open_clip import import_open_clip
assert "ViT-B-16" in import_open_clip().list_models()
"""


def test_a_torch_without_the_private_function_gets_a_plain_import() -> None:
    program = [sys.executable, "-c", WITHOUT_DISABLE_DYNAMO]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
