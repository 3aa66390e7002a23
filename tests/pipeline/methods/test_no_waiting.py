"""No training step reads a value from the device: the host would wait for the GPU, and then the GPU for the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import small_generators
import small_task
import torch
from far_device import FarDevice, WaitingError
from torch import Tensor

import pipeline.methods
from features.lookup import find
from features.text import text_tower
from pipeline.methods.base import FitData, Method
from pipeline.training.loop import Batches
from pipeline.training.seeds import stream

HERE = torch.device("cpu")
STEPS = {"epochs": 1, "batch": 8, "classifier_epochs": 4, "regressor_epochs": 4, "critic_steps": 2}
STEPS |= {"alpha_points": 1, "beta_points": 1}
BY_STEPS = [name for name in small_task.ALL if "epochs" in find(pipeline.methods, name, Method).model_fields]
WAITS = {"plot": "Sinkhorn's iterations end when all plans have converged; running all 100 would cost more than a wait"}
NEVER = [name for name in BY_STEPS if name not in WAITS]


def watch(monkeypatch: pytest.MonkeyPatch, watched: Callable[[bool], None]) -> None:
    """Call `watched` with True at the first step of a run and with False at its last, which reports the loss."""
    batches = Batches.__iter__

    def steps(self: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        assert self.steps >= 4
        for step, batch in enumerate(batches(self), 1):
            watched(step < self.steps)
            yield batch

    monkeypatch.setattr(Batches, "__iter__", steps)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[FarDevice]:
    far = FarDevice()
    watch(monkeypatch, far.watch)
    with far:
        yield far


def settings(kind: Any) -> dict[str, Any]:
    return {name: value for name, value in STEPS.items() if name in kind.model_fields}


def fit(name: str, *, on: torch.device = HERE, synthetic: bool = False, **changed: Any) -> None:
    kind = find(pipeline.methods, name, Method)
    given = {
        "synthetic": small_task.SYNTHETIC.to(on) if synthetic else None,
        "validation": small_task.VALIDATION.to(on),
        "tower": copy.deepcopy(small_task.TOWER).to(on),
        "rng": stream(1, "fit"),
    }
    small_task.method(name, **settings(kind) | changed).fit(
        FitData(small_task.TRAIN.to(on), small_task.CLASSES.to(on), **given)
    )


@pytest.mark.parametrize("name", NEVER)
def test_no_step_of_a_method_waits(name: str, device: FarDevice) -> None:
    fit(name)


@pytest.mark.parametrize("name", [name for name in NEVER if name in small_task.WITH_SYNTHETIC])
def test_no_step_with_synthetic_features_waits(name: str, device: FarDevice) -> None:
    fit(name, synthetic=True)


@pytest.mark.parametrize(
    "changed", [{"class_token_position": "middle"}, {"class_token_position": "front", "class_specific": True}]
)
def test_no_step_waits_at_any_position_of_the_class_name(changed: dict[str, Any], device: FarDevice) -> None:
    fit("coop", **changed)


def test_no_step_waits_when_prompts_take_several_passes(device: FarDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_tower, "PASS_BYTES", 100_000)
    fit("coop")


@pytest.mark.parametrize("name", small_generators.ALL)
def test_no_step_of_a_generator_waits(name: str, device: FarDevice) -> None:
    generator = small_generators.generator(name)
    generator = generator.model_copy(update=settings(type(generator)))
    tower, classes = copy.deepcopy(small_generators.TOWER).to(HERE), small_generators.CLASSES.to(HERE)
    generator.fit(small_generators.TRAIN.to(HERE), classes, tower, stream(1, "train_generator"), lambda _: None)


@pytest.mark.parametrize("name", WAITS)
def test_methods_that_must_wait_are_detected(name: str, device: FarDevice) -> None:
    with pytest.raises(WaitingError, match="_local_scalar_dense"):
        fit(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch itself reports waits for it")
@pytest.mark.parametrize("name", NEVER)
def test_no_step_waits_for_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    fit(name, on=cuda)  # one-time work, such as allocating workspaces, may wait
    watch(monkeypatch, lambda watched: torch.cuda.set_sync_debug_mode("error" if watched else "default"))
    try:
        fit(name, on=cuda)
    finally:
        torch.cuda.set_sync_debug_mode("default")
