"""The loss that each method minimises, against NumPy: 3 classes, 8 dimensions, float64.

One step over all images at once reports its loss, which is that of the start. The text tower `g` is not recomputed; its
own tests compare it with open_clip. Equations of other methods: `test_methods_first.py`, `_probes.py`, `_prompts.py`
and `test_plot.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from small_task import method
from torch import Tensor

from features.text.text_tower import TextTower
from features.text.tokenizer import CLIP
from pipeline.methods._prompt_learning import Position, class_weights
from pipeline.methods.base import Classifier, FitData
from pipeline.methods.linear_probe import regression
from pipeline.methods.tcp import encode_with_class_context
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.log import log_epochs_to
from pipeline.training.seeds import stream

Array = NDArray[np.float64]
SCALE = 20.0  # the tiny tower's


class Task:
    """Three seen classes with four images each, of one view, and a tower of 8 dimensions; all in float64."""

    def __init__(self) -> None:
        self.tower: TextTower = tiny.tower(embed_dim=8).double()
        self.classes: ClassSet = tiny.classes(self.tower, seen=3, names=tiny.NAMES[:3])
        found = tiny.features([0, 1, 2], 4, 1, dim=8, noise=0.3)
        self.train = LabelledFeatures(found.features.double(), found.labels)
        self.f: Array = self.train.centre.numpy()
        self.y: Array = found.labels.numpy()
        self.t: Array = self.classes.text_features.numpy()

    def fit(self, name: str, **settings: Any) -> tuple[float, Classifier]:
        """Return the loss of the only step, and the classifier after it."""
        none = LabelledFeatures(self.train.features[:0], self.train.labels[:0])
        rows: list[float] = []
        with log_epochs_to(lambda _, row: rows.append(row["loss"])):
            fitted = method(name, epochs=1, batch=12, learning_rate=1e-9, **settings).fit(
                FitData(
                    self.train, self.classes, synthetic=None, validation=none, tower=self.tower, rng=stream(1, "fit")
                )
            )
        (loss,) = rows
        return loss, fitted

    def start(self, name: str, *given: Any) -> Any:
        """Return the initial parameters of a method with nets of its own."""
        return method(name)._start(self.tower, *given, stream(1, "fit"))  # type: ignore[attr-defined]

    def words(self) -> Tensor:
        """Return the embeddings (4, W) of "a photo of a"."""
        return self.tower.token_embedding.weight[CLIP.words("a photo of a")]

    def texts(self, context: Tensor, position: Position = "end") -> Array:
        """Return unit text features (G, 3, 8) of each class's prompt with contexts (G, M, W)."""
        found: Array = class_weights(self.tower, context, self.classes.tokens, position).numpy()
        return found


@pytest.fixture
def task() -> Iterator[Task]:
    torch.set_default_dtype(torch.float64)
    yield Task()
    torch.set_default_dtype(torch.float32)


def unit(a: Array) -> Array:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def cross_entropy(logits: Array, labels: Array) -> float:
    """Return -log softmax at the labels, averaged over images."""
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]))


def zero_shot(task: Task) -> float:
    """Return CE(s f t^T), from which TaskRes and CLAP start with a residual and a distance of 0."""
    return cross_entropy(SCALE * task.f @ task.t.T, task.y)


def coop(task: Task) -> float:
    """Return CoOp Eq. 1: CE(s f g(v_1 .. v_M, class)^T)."""
    return cross_entropy(SCALE * task.f @ task.texts(task.words()[None])[0].T, task.y)


def kgcoop(task: Task) -> float:
    """Return CoOp's loss plus 8 times the mean of 1 - cos between learned and zero-shot text features."""
    learned = task.texts(task.words()[None])[0]
    return coop(task) + 8 * float(np.mean(1 - (learned * task.t).sum(1)))


def clip_adapter(task: Task) -> float:
    """Return CE(s f' t^T), where f' is the normalized mix of 0.2 ReLU(W_2 ReLU(W_1 f)) and 0.8 f."""
    rng = stream(1, "fit")
    down = ((2 * torch.rand(2, 8, generator=rng) - 1) / 8**0.5).numpy()
    up = ((2 * torch.rand(8, 2, generator=rng) - 1) / 2**0.5).numpy()
    mixed = 0.2 * np.maximum(np.maximum(task.f @ down.T, 0) @ up.T, 0) + 0.8 * task.f
    return cross_entropy(SCALE * unit(mixed) @ task.t.T, task.y)


def tip_adapter_f(task: Task) -> float:
    """Return CE(s f t^T + alpha exp(-beta (1 - f K^T)) V) with the images as keys, alpha 1.17, beta 1."""
    cached = 1.17 * np.exp(-(1 - task.f @ task.f.T)) @ np.eye(3)[task.y]
    return cross_entropy(SCALE * task.f @ task.t.T + cached, task.y)


def cocoop(task: Task) -> float:
    """Return CoCoOp Eq. 3: each image against the prompts whose context its Meta-Net shifts."""
    start = {name: value.detach() for name, value in task.start("cocoop", 8).items()}
    n = {name: value.numpy() for name, value in start.items()}
    hidden = np.maximum(task.f @ n["down"].T + n["down_bias"], 0)
    contexts = n["context"] + (hidden @ n["up"].T + n["up_bias"])[:, None]
    texts = task.texts(torch.from_numpy(contexts))  # (N, 3, 8)
    return cross_entropy(SCALE * np.einsum("nd,ncd->nc", task.f, texts), task.y)


def tcp(task: Task) -> float:
    """Return CE of the classes' own prompts, inserted midway, plus 8 times KgCoOp's distance."""
    context, *net = (value.detach() for value in task.start("tcp", 8))
    down, down_bias, up, up_bias = (value.numpy() for value in net)
    hidden = task.t @ down.T + down_bias
    own = (hidden / (1 + np.exp(-1.702 * hidden))) @ up.T + up_bias
    given = torch.from_numpy(own).reshape(3, 4, -1)
    block = 1  # two thirds of the tower's 2 blocks
    learned = unit(encode_with_class_context(task.tower, context, given, task.classes.tokens, block).numpy())
    distance = float(np.mean(1 - (learned * task.t).sum(1)))
    return cross_entropy(SCALE * task.f @ learned.T, task.y) + 8 * distance


def proda(task: Task) -> float:
    """Return ProDA's bound over all four prompts plus 0.1 times their mean |cosine| without a class name."""
    drawn = (0.02 * torch.randn(4, 4, 16, generator=stream(1, "fit")))[:, None]
    places: tuple[Position, ...] = ("front", "middle", "end", "end")
    w = np.stack([task.texts(context, place)[0] for context, place in zip(drawn, places, strict=True)])  # (4, 3, 8)
    mu = w.mean(0)
    flat = (w - mu).reshape(4, 24)
    sigma = (flat.T @ flat / 4).reshape(3, 8, 3, 8).transpose(0, 2, 1, 3)  # sigma[c, e]: (8, 8)
    losses = []
    for z, y in zip(task.f, task.y, strict=True):
        a = [sigma[c, c] + sigma[y, y] - sigma[c, y] - sigma[y, c] for c in range(3)]
        bound = [SCALE * z @ mu[c] + SCALE**2 * z @ a[c] @ z / 2 for c in range(3)]
        losses.append(np.log(np.exp(bound).sum()) - SCALE * z @ mu[y])
    nameless = class_weights(task.tower, drawn[:, 0], CLIP.tokenize(["."], room=77))[:, 0].numpy()
    cosines = [abs(nameless[i] @ nameless[j]) for i in range(4) for j in range(4) if i != j]
    return float(np.mean(losses)) + 0.1 * float(np.mean(cosines))


LOSSES: dict[str, tuple[Callable[[Task], float], dict[str, Any]]] = {
    "clap": (zero_shot, {}),
    "clip_adapter": (clip_adapter, {}),
    "cocoop": (cocoop, {}),
    "coop": (coop, {}),
    "kgcoop": (kgcoop, {}),
    "proda": (proda, {"prompts": 4, "prompt_batch": 4, "context": 4}),
    "taskres": (zero_shot, {}),
    "tcp": (tcp, {}),
    "tip_adapter_f": (tip_adapter_f, {}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_the_first_step_is_that_of_the_paper(name: str, task: Task) -> None:
    written_out, settings = LOSSES[name]
    found, _ = task.fit(name, **settings)
    with torch.no_grad():
        assert found == pytest.approx(written_out(task), rel=1e-6)


def test_the_loss_includes_synthetic_features(task: Task) -> None:
    """With them the loss ranges over all three classes, of which two are seen."""
    classes = tiny.classes(task.tower, seen=2, names=tiny.NAMES[:3])
    real = task.train.labels < 2
    train = LabelledFeatures(task.train.features[real], task.train.labels[real])
    synthetic = LabelledFeatures(task.train.features[~real][:1], task.train.labels[~real][:1])  # one, so drawn again
    rows: list[float] = []
    with log_epochs_to(lambda _, row: rows.append(row["loss"])):
        method("coop", epochs=1, batch=8, learning_rate=1e-9, synthetic_ratio=0.5).fit(
            FitData(train, classes, synthetic=synthetic, validation=synthetic, tower=task.tower, rng=stream(1, "fit"))
        )
    f = np.concatenate([train.centre.numpy(), np.repeat(synthetic.centre.numpy(), 4, axis=0)])
    y = np.concatenate([train.labels.numpy(), np.repeat(synthetic.labels.numpy(), 4)])
    with torch.no_grad():
        expected = cross_entropy(SCALE * f @ task.texts(task.words()[None])[0].T, y)
    assert rows == [pytest.approx(expected, rel=1e-6)]


def test_coop_scores_with_its_learned_prompts(task: Task) -> None:
    _, fitted = task.fit("coop", init=None, context=3)
    with torch.no_grad():
        expected = SCALE * task.f @ task.texts(fitted.state()["context"])[0].T
    np.testing.assert_allclose(fitted.logits(task.train.centre, torch.arange(3)).numpy(), expected, rtol=1e-6)


def test_zero_shot_logits_are_equation_1(task: Task) -> None:
    none = LabelledFeatures(task.train.features[:0], task.train.labels[:0])
    fitted = method("zero_shot").fit(
        FitData(task.train, task.classes, synthetic=None, validation=none, tower=task.tower, rng=stream(1, "x"))
    )
    ours = fitted.logits(task.train.centre, torch.arange(3)).numpy()
    np.testing.assert_allclose(ours, SCALE * unit(task.f) @ unit(task.t).T, rtol=1e-6)


def test_taskres_and_clap_move_text_features_of_the_towers_length(task: Task) -> None:
    """LOSSES cannot see this at the start, so it is checked after one step."""
    long = task.classes.unnormalized_text.numpy()
    for name in ("taskres", "clap"):
        _, fitted = task.fit(name)
        np.testing.assert_allclose(fitted.state()["weights"].numpy(), unit(long), atol=1e-3)


def test_the_linear_probe_reaches_the_minimum_of_its_objective(task: Task) -> None:
    """Newton's method finds the same minimum of c * (sum of cross-entropies) + |W|^2 / 2."""
    c, one_hot = 2.0, np.eye(3)[task.y]
    x = np.hstack([task.f, np.ones((12, 1))])
    ridge = np.diag([1.0] * 8 + [1e-9])  # the bias is free; a trace of it fixes the softmax's spare direction

    def objective(theta: Array) -> float:
        return 12 * c * cross_entropy(x @ theta.T, task.y) + float((theta[:, :8] ** 2).sum()) / 2

    theta = np.zeros((3, 9))
    for _ in range(30):
        logits = x @ theta.T
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope = c * (p - one_hot).T @ x + theta @ ridge
        blocks = [[c * (x.T * (p[:, i] * ((i == j) - p[:, j]))) @ x for j in range(3)] for i in range(3)]
        theta = theta - np.linalg.solve(np.block(blocks) + np.kron(np.eye(3), ridge), slope.ravel()).reshape(3, 9)
    w, b = regression(task.train.centre, task.train.labels, c, 1000)
    found = objective(np.hstack([w.numpy(), b.numpy()[:, None]]))
    assert found == pytest.approx(objective(theta), rel=1e-6)
