"""Folding batch norms into convolutions keeps the function, or changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.encoding.folding import fold_batch_norms

SIZE = (32, 32)


def norms(tower: nn.Module) -> list[nn.Module]:
    return [layer for layer in tower.modules() if isinstance(layer, nn.BatchNorm2d)]


def with_statistics(tower: nn.Module) -> Any:
    """Freeze a tower and give its norms statistics like a trained network's, not the 0 and 1 of a new one."""
    rng = torch.Generator().manual_seed(0)
    for norm in norms(tower):
        for name in ("running_mean", "running_var", "weight", "bias"):
            value = getattr(norm, name)
            value.data = torch.rand(value.shape, generator=rng) * 0.5 + 0.5
    return tower.eval().requires_grad_(False)


class NormFirst(nn.Module):
    """A norm that is registered after a convolution, but applied before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convolution(self.norm(x).relu())
        return out


def test_clips_resnet_keeps_its_outputs_without_norms() -> None:
    from open_clip.modified_resnet import ModifiedResNet

    tower = with_statistics(ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=4, image_size=32, width=8))
    crops = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        before = tower(crops)
        fold_batch_norms(tower, SIZE)
        torch.testing.assert_close(tower(crops), before, atol=1e-5, rtol=1e-5)
    assert not norms(tower)


def test_liteclips_tower_keeps_its_activations() -> None:
    import open_clip

    ours = load_encoder("x", EncoderSpec(model="local-dir:assets/liteclip"), "cpu").model
    theirs = open_clip.create_model("local-dir:assets/liteclip").eval()
    crops = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(crops), theirs.encode_image(crops), atol=2e-5, rtol=1e-4)  # type: ignore[operator]
    assert norms(theirs)
    assert not norms(ours)


def test_a_norm_that_is_applied_before_its_convolution_is_restored_bit_for_bit() -> None:
    tower = with_statistics(NormFirst())
    kept = {name: value.clone() for name, value in tower.state_dict().items()}
    crops = torch.randn(2, 3, *SIZE)
    before = tower(crops)
    fold_batch_norms(tower, SIZE)
    assert torch.equal(tower(crops), before)
    assert {name: value.tolist() for name, value in tower.state_dict().items()} == {
        name: value.tolist() for name, value in kept.items()
    }


def test_a_tower_without_norms_is_not_run() -> None:
    class Silent(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            pytest.fail("nothing to fold, nothing to compare")

    fold_batch_norms(Silent(), SIZE)
