"""Ten steps and the final logits of every trained method, against the papers' equations and the authors' schedules.

3 classes, 12 images, 8 dimensions, float64 (PLOT: float32). Every step has all images, so the mean loss does not depend
on their order. Here torch gives only the gradients; optimizers, schedules and losses are written out. The text tower is
not recomputed; its own tests compare it with open_clip. `test_methods_probes.py` and `test_methods_losses.py` check
methods without an optimizer of torch (GDA, linear probe, LP++, Tip-Adapter, zero-shot CLIP).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import tiny
import torch
from small_task import method
from torch import Tensor

from features.text.text_tower import Position
from features.text.tokenizer import CLIP
from pipeline.methods.base import FitData
from pipeline.methods.tcp import encode_with_class_context
from pipeline.training.data import LabelledFeatures
from pipeline.training.log import log_epochs_to
from pipeline.training.seeds import stream

STEPS = 10
S = 20.0  # logit scale of the tiny tower
Rates = Sequence[float]
Loss = Callable[[list[Tensor]], Tensor]
Found = tuple[list[float], Tensor]  # losses of the steps, and logits (N, C) at the end


class Task:
    """Three seen classes with four images each, of one view; all in the default data type."""

    def __init__(self) -> None:
        dtype = torch.get_default_dtype()
        self.tower = tiny.tower(embed_dim=8).to(dtype)
        self.classes = tiny.classes(self.tower, seen=3, names=tiny.NAMES[:3])
        found = tiny.features([0, 1, 2], 4, 1, dim=8, noise=0.3)
        patches = tiny.with_patches(found).patches
        self.train = LabelledFeatures(found.features.to(dtype), found.labels, patches)
        self.f = unit(self.train.features[:, 0])
        self.y = found.labels
        self.t = self.classes.text_features

    def fit(self, name: str, **settings: Any) -> Found:
        """Return the losses and the final logits of the project's method."""
        none = LabelledFeatures(self.train.features[:0], self.train.labels[:0])
        rows: list[float] = []
        given = {"synthetic": None, "validation": none, "tower": self.tower, "rng": stream(1, "fit")}
        with log_epochs_to(lambda _, row: rows.append(row["loss"])):
            fitted = method(name, epochs=STEPS, batch=12, **settings).fit(FitData(self.train, self.classes, **given))
        scored = self.train.scored if name == "plot" else self.f
        return rows, fitted.with_text_tower(self.tower).logits(scored, torch.arange(3))

    def g(self, context: Tensor, position: Position = "end") -> Tensor:
        """Return unit text features (G, 3, 8) of each class's prompt with contexts (G, M, W)."""
        return unit(self.tower(context, self.classes.tokens, position))

    def words(self) -> Tensor:
        """Return the embeddings (4, W) of "a photo of a"."""
        return self.tower.token_embedding.weight[CLIP.words("a photo of a")].detach()

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return (logits.exp().sum(1).log() - logits[torch.arange(12), self.y]).mean()


@pytest.fixture
def task(label: str) -> Iterator[Task]:
    # PLOT computes patch tokens in float32.
    torch.set_default_dtype(torch.float32 if label.startswith("plot") else torch.float64)
    yield Task()
    torch.set_default_dtype(torch.float32)


def unit(a: Tensor) -> Tensor:
    return a / a.norm(dim=-1, keepdim=True)


def dassl(rate: float) -> Rates:
    """Return CoOp's: 1e-5 in the first epoch, then a cosine that starts at its full height."""
    return [1e-5, *(rate * (1 + math.cos(math.pi * e / STEPS)) / 2 for e in range(STEPS - 1))]


def per_step(rate: float) -> Rates:
    """Return a cosine to 0 over the steps."""
    return [rate * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]


def gradients(parameters: list[Tensor], loss: Loss) -> tuple[float, list[Tensor]]:
    leaves = [p.detach().requires_grad_() for p in parameters]
    value = loss(leaves)
    return float(value.detach()), list(torch.autograd.grad(value, leaves))


def sgd(parameters: list[Tensor], loss: Loss, rates: Rates, momentum: float, decay: float) -> list[float]:
    """Step the parameters in place and return the loss before each step."""
    losses, moving = [], [torch.zeros_like(p) for p in parameters]
    for rate in rates:
        value, slopes = gradients(parameters, loss)
        losses.append(value)
        for i, slope in enumerate(slopes):
            moving[i] = momentum * moving[i] + slope + decay * parameters[i]
            parameters[i] = parameters[i] - rate * moving[i]
    return losses


def adam(
    parameters: list[Tensor], loss: Loss, rates: Rates, *, eps: float = 1e-8, l2: float = 0.0, decoupled: float = 0.0
) -> list[float]:
    """Step the parameters in place (Kingma and Ba; `decoupled`: Loshchilov and Hutter) and return the losses."""
    losses, first = [], [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    for step, rate in enumerate(rates, 1):
        value, slopes = gradients(parameters, loss)
        losses.append(value)
        for i, plain in enumerate(slopes):
            slope = plain + l2 * parameters[i]
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            direction = first[i] / (1 - 0.9**step) / ((second[i] / (1 - 0.999**step)).sqrt() + eps)
            parameters[i] = parameters[i] - rate * decoupled * parameters[i] - rate * direction
    return losses


def linear(outputs: int, inputs: int, rng: torch.Generator) -> list[Tensor]:
    """Return weight and bias as torch initialises a Linear."""
    drawn = (2 * torch.rand(outputs, inputs + 1, generator=rng) - 1) / math.sqrt(inputs)
    return [drawn[:, :-1], drawn[:, -1]]


def coop(task: Task, recipe: str) -> Found:
    def logits(p: list[Tensor]) -> Tensor:
        return S * task.f @ task.g(p[0][None])[0].T

    p = [task.words()]
    rates, momentum, decay = (per_step(0.02), 0.0, 0.0) if recipe == "ship" else (dassl(0.02), 0.9, 5e-4)
    losses = sgd(p, lambda q: task.cross_entropy(logits(q)), rates, momentum, decay)
    return losses, logits(p)


def kgcoop(task: Task) -> Found:
    def loss(p: list[Tensor]) -> Tensor:
        w = task.g(p[0][None])[0]
        return task.cross_entropy(S * task.f @ w.T) + 8 * (1 - (w * task.t).sum(1)).mean()

    p = [task.words()]
    losses = sgd(p, loss, dassl(0.002), 0.9, 5e-4)
    return losses, S * task.f @ task.g(p[0][None])[0].T


def cocoop(task: Task) -> Found:
    def logits(p: list[Tensor]) -> Tensor:
        context, down, down_bias, up, up_bias = p
        shift = (task.f @ down.T + down_bias).clamp(min=0) @ up.T + up_bias
        return S * torch.einsum("nd,ncd->nc", task.f, task.g(context + shift[:, None]))

    rng = stream(1, "fit")
    p = [task.words(), *linear(1, 8, rng), *linear(16, 1, rng)]
    losses = sgd(p, lambda q: task.cross_entropy(logits(q)), dassl(0.002), 0.9, 5e-4)
    return losses, logits(p)


def tcp(task: Task) -> Found:
    def weights(p: list[Tensor]) -> Tensor:
        context, down, down_bias, up, up_bias = p
        hidden = task.t @ down.T + down_bias
        own = (hidden / (1 + (-1.702 * hidden).exp())) @ up.T + up_bias
        tokens = task.classes.tokens
        return unit(encode_with_class_context(task.tower, context, own.reshape(3, 4, 16), tokens, 1))  # of 2 blocks

    def loss(p: list[Tensor]) -> Tensor:
        w = weights(p)
        return task.cross_entropy(S * task.f @ w.T) + 8 * (1 - (w * task.t).sum(1)).mean()

    rng = stream(1, "fit")
    p = [0.02 * torch.randn(1, 4, 16, generator=rng)[0], *linear(2, 8, rng), *linear(64, 2, rng)]
    losses = adam(p, loss, dassl(0.002), eps=1e-3, l2=5e-4)
    return losses, S * task.f @ weights(p).T


def vpt(task: Task) -> Found:
    """Return the unconditional form: two free vectors, one draw of r for each image and of L = 2."""
    rng = stream(1, "fit")
    log_var = torch.rand(16, generator=rng)
    noise_of_test = torch.randn(3, 16, generator=rng)

    def log_p(p: list[Tensor], noise: Tensor, f: Tensor) -> Tensor:
        r = p[1] + noise * (p[2] / 2).exp()  # (L, N or 1, W)
        w = task.g((p[0] + r[:, :, None]).flatten(0, 1)).unflatten(0, r.shape[:2])
        return (S * (w @ f[:, :, None]).squeeze(-1)).log_softmax(-1)

    def loss(p: list[Tensor]) -> Tensor:
        order = torch.randperm(12, generator=rng)
        torch.randint(1, (12,), generator=rng)  # the only view
        found = log_p(p, torch.randn(2, 12, 16, generator=rng), task.f[order])
        likelihood = found[:, torch.arange(12), task.y[order]].exp().mean(0).log().mean()
        kl = ((p[1] ** 2 + p[2].exp() - 1 - p[2]) / 2).mean()
        return 0.001 * kl - likelihood

    p = [task.words(), torch.zeros(16), log_var]
    losses = sgd(p, loss, dassl(0.002), 0.9, 5e-4)
    return losses, log_p(p, noise_of_test[:, None], task.f).exp().mean(0).log()


def proda(task: Task) -> Found:
    places: tuple[Position, ...] = ("front", "middle", "end", "end")

    def texts(p: list[Tensor]) -> Tensor:
        return torch.stack([task.g(p[0][i][None], place)[0] for i, place in enumerate(places)])  # (K, C, D)

    def loss(p: list[Tensor]) -> Tensor:
        w = texts(p)
        mu = w.mean(0)
        flat = (w - mu).flatten(1)
        sigma = (flat.T @ flat / 4).reshape(3, 8, 3, 8).permute(0, 2, 1, 3)
        total = torch.zeros(())
        for z, y in zip(task.f, task.y.tolist(), strict=True):
            a = [sigma[c, c] + sigma[y, y] - sigma[c, y] - sigma[y, c] for c in range(3)]
            bound = torch.stack([S * z @ mu[c] + S**2 * z @ a[c] @ z / 2 for c in range(3)])
            total = total + bound.exp().sum().log() - S * z @ mu[y]
        nameless = unit(task.tower(p[0], CLIP.tokenize(["."], room=77), "end"))[:, 0]
        cosines = [(nameless[i] @ nameless[j]).abs() for i in range(4) for j in range(4) if i != j]
        return total / 12 + 0.1 * torch.stack(cosines).mean()

    p = [0.02 * torch.randn(4, 4, 16, generator=stream(1, "fit"))]
    losses = sgd(p, loss, per_step(0.001), 0.9, 0.0)
    return losses, S * task.f @ texts(p).mean(0).T


def plot(task: Task, *, pooled: bool = False) -> Found:
    assert task.train.patches is not None
    patches = unit(task.train.patches.float())  # (N, P, D)
    whole = unit(task.train.features[:, 0].half().float())

    def logits(p: list[Tensor]) -> Tensor:
        cosines = torch.einsum("npd,kcd->ncpk", patches, task.g(p[0]))
        kernel = ((cosines.detach() - 1) / 0.1).exp()
        c = torch.ones(12, 3, 2)
        for _ in range(200):  # more than the code's 100, to the fixed point
            r = 1 / (5 * torch.einsum("ncpk,nck->ncp", kernel, c))
            c = 1 / (2 * torch.einsum("ncpk,ncp->nck", kernel, r))
        plan = r[..., None] * kernel * c[:, :, None]
        mean = unit(task.tower(p[0], task.classes.tokens).mean(0))
        return S * ((plan * cosines).sum((2, 3)) + pooled * (whole @ mean.T))

    p = [0.02 * torch.randn(2, 4, 16, generator=stream(1, "fit"))]
    losses = sgd(p, lambda q: task.cross_entropy(logits(q)), dassl(0.002), 0.9, 5e-4)
    return losses, logits(p)


def clip_adapter(task: Task) -> Found:
    def logits(p: list[Tensor]) -> Tensor:
        adapted = ((task.f @ p[0].T).clamp(min=0) @ p[1].T).clamp(min=0)
        return S * unit(0.2 * adapted + 0.8 * task.f) @ task.t.T

    rng = stream(1, "fit")
    p = [(2 * torch.rand(2, 8, generator=rng) - 1) / 8**0.5, (2 * torch.rand(8, 2, generator=rng) - 1) / 2**0.5]
    losses = adam(p, lambda q: task.cross_entropy(logits(q)), per_step(0.001), decoupled=0.01)
    return losses, logits(p)


def tip_adapter_f(task: Task) -> Found:
    def logits(p: list[Tensor]) -> Tensor:
        votes = (task.f @ p[0].T - 1).exp() @ torch.eye(3)[task.y]
        return S * task.f @ task.t.T + 1.17 * votes

    p = [task.f]
    losses = adam(p, lambda q: task.cross_entropy(logits(q)), per_step(0.001), eps=1e-4, decoupled=0.01)
    return losses, logits(p)


def taskres(task: Task) -> Found:
    base = task.classes.unnormalized_text

    def logits(p: list[Tensor]) -> Tensor:
        return S * task.f @ unit(base + 0.5 * p[0]).T

    p = [torch.zeros(3, 8)]
    losses = adam(p, lambda q: task.cross_entropy(logits(q)), dassl(0.002), l2=5e-4)
    return losses, logits(p)


def clap(task: Task) -> Found:
    base = task.classes.unnormalized_text
    right = (S * task.f @ task.t.T).softmax(1)[torch.arange(12), task.y]
    multipliers = torch.stack([right[task.y == c].mean() for c in range(3)])

    def loss(p: list[Tensor]) -> Tensor:
        penalty = (multipliers * ((p[0] - base) ** 2).sum(1)).mean()
        return task.cross_entropy(S * task.f @ unit(p[0]).T) + penalty

    p = [base]
    losses = sgd(p, loss, dassl(0.1), 0.9, 0.0)
    return losses, S * task.f @ unit(p[0]).T


WRITTEN_OUT: dict[str, tuple[str, Callable[[Task], Found], dict[str, Any]]] = {
    "clap": ("clap", clap, {}),
    "clip_adapter": ("clip_adapter", clip_adapter, {"learning_rate": 0.001}),
    "cocoop": ("cocoop", cocoop, {"learning_rate": 0.002}),
    "coop, CoOp's recipe": ("coop", lambda task: coop(task, "coop"), {"recipe": "coop", "learning_rate": 0.02}),
    "coop, SHIP's recipe": ("coop", lambda task: coop(task, "ship"), {"learning_rate": 0.02}),
    "kgcoop": ("kgcoop", kgcoop, {"learning_rate": 0.002}),
    "plot": ("plot", plot, {"learning_rate": 0.002, "threshold": 0.0, "iterations": 200}),
    "plot, ImageNet": (
        "plot",
        lambda task: plot(task, pooled=True),
        {"learning_rate": 0.002, "threshold": 0.0, "iterations": 200, "pooled": True},
    ),
    "proda": ("proda", proda, {"prompts": 4, "prompt_batch": 4, "learning_rate": 0.001}),
    "taskres": ("taskres", taskres, {"learning_rate": 0.002}),
    "tcp": ("tcp", tcp, {"learning_rate": 0.002}),
    "tip_adapter_f": ("tip_adapter_f", tip_adapter_f, {}),
    "vpt": ("vpt", vpt, {"conditional": False, "learning_rate": 0.002}),
}


@pytest.mark.parametrize("label", WRITTEN_OUT)
def test_ten_steps_and_the_final_logits_are_those_of_the_equations(label: str, task: Task) -> None:
    name, written_out, settings = WRITTEN_OUT[label]
    losses, logits = task.fit(name, **settings)
    with torch.enable_grad():
        expected_losses, expected = written_out(task)
    assert losses == pytest.approx(expected_losses, abs=1e-5)
    torch.testing.assert_close(logits, expected.detach(), atol=1e-5, rtol=1e-6)
    assert expected_losses[-1] < expected_losses[0], "the steps are long enough to see a difference"
