"""PLOT's transport, logits and training against NumPy: 3 classes, 8 dimensions, 5 patches, 2 prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_task import CLASSES, TOWER, TRAIN, VALIDATION, fit, method
from torch.nn import functional as F

from pipeline.methods._prompt_learning import class_weights, initial_context
from pipeline.methods.base import FitData
from pipeline.methods.plot import PromptSets, transport, transported_similarity
from pipeline.training.data import LabelledFeatures
from pipeline.training.seeds import stream

Array = NDArray[np.float64]
RNG = np.random.default_rng(0)
EPSILON, ITERATIONS, THRESHOLD = 0.1, 100, 0.01


def unit(a: Array) -> Array:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


PATCHES, PROMPTS = unit(RNG.normal(size=(4, 5, 8))), unit(RNG.normal(size=(2, 3, 8)))


def sinkhorn(cost: Array) -> Array:
    """Return the plan of the paper's iterations for one image and class, cost (P, N), with the stop of its code."""
    p, n = cost.shape
    kernel, r, c = np.exp(-cost / EPSILON), np.ones(p), np.ones(n)
    for _ in range(ITERATIONS):
        before = r
        r = (1 / p) / (kernel @ c)
        c = (1 / n) / (kernel.T @ r)
        if np.abs(r - before).mean() < THRESHOLD:
            break
    return np.diag(r) @ kernel @ np.diag(c)


def expected_scores() -> Array:
    """Return 1 - <T, C> of every image and class."""
    scores = np.empty((4, 3))
    for image, patches in enumerate(PATCHES):
        for label in range(3):
            cost = 1 - patches @ PROMPTS[:, label].T
            scores[image, label] = 1 - (sinkhorn(cost) * cost).sum()
    return scores


def test_logits_are_one_minus_the_transport_distance() -> None:
    ours = transported_similarity(torch.from_numpy(PATCHES), torch.from_numpy(PROMPTS), EPSILON, ITERATIONS, THRESHOLD)
    np.testing.assert_allclose(ours.numpy(), expected_scores(), rtol=1e-6)
    sinkhorns = [torch.tensor(value) for value in (EPSILON, ITERATIONS, THRESHOLD)]
    weights = torch.from_numpy(PROMPTS).float()
    features, ids = RNG.normal(size=(4, 8)), torch.tensor([2, 0])
    images = torch.from_numpy(np.concatenate([features[:, None], 3 * PATCHES], 1))  # as stored: not of unit length
    for pooled in (np.zeros((3, 8)), unit(PROMPTS.mean(0))):
        fitted = PromptSets(
            *(torch.tensor(20.0), torch.ones(3).bool(), weights, torch.empty(2, 4, 16)),
            *(*sinkhorns, torch.from_numpy(pooled).float()),
        )
        expected = 20 * (expected_scores() + unit(features) @ pooled.T)
        np.testing.assert_allclose(fitted.logits(images, ids).numpy(), expected[:, [2, 0]], rtol=1e-5)


def test_the_plan_moves_all_mass_and_a_smaller_entropy_weight_costs_less() -> None:
    similarity = torch.from_numpy(PATCHES @ PROMPTS[:, 0].T)
    plan = transport(similarity, EPSILON, 10_000, 1e-12).numpy()
    np.testing.assert_allclose(plan.sum(2), np.full((4, 5), 1 / 5), atol=1e-9)
    np.testing.assert_allclose(plan.sum(1), np.full((4, 2), 1 / 2), atol=1e-9)
    sharp = (transport(similarity, 0.01, 10_000, 1e-12).numpy() * similarity.numpy()).sum((1, 2))
    even = similarity.numpy().mean((1, 2))  # the plan of infinite entropy
    blurred = (plan * similarity.numpy()).sum((1, 2))
    assert (sharp >= blurred).all()
    assert (blurred > even).all()


def test_no_gradient_passes_through_the_plan() -> None:
    prompts = torch.from_numpy(PROMPTS).requires_grad_()
    patches = torch.from_numpy(PATCHES)
    transported_similarity(patches, prompts, EPSILON, ITERATIONS, THRESHOLD).sum().backward()  # type: ignore[no-untyped-call]
    plan = transport(torch.einsum("bpd,ncd->bcpn", patches, prompts), EPSILON, ITERATIONS, THRESHOLD)
    assert not plan.requires_grad
    assert prompts.grad is not None
    torch.testing.assert_close(prompts.grad, torch.einsum("bcpn,bpd->ncd", plan, patches))


def test_plot_separates_images_by_the_prompts_in_their_patches() -> None:
    """Half of the patches of a class are near the text feature of one hidden prompt, half near that of another."""
    hidden = initial_context(TOWER, None, 4, stream(5, "hidden"), method="plot", contexts=2) * 50
    with torch.no_grad():
        texts = class_weights(TOWER, hidden, CLASSES.tokens)  # (2, C, D)
    labels = torch.arange(4).repeat_interleave(6)

    def images(seed: int) -> LabelledFeatures:
        shown = texts[:, labels].transpose(0, 1).repeat_interleave(3, dim=1)  # (N, 6, D)
        noise = 0.02 * torch.randn(shown.shape, generator=stream(seed, "noise"))
        return LabelledFeatures(shown.mean(1, keepdim=True), labels, (shown + noise).half())

    chosen = method("plot", epochs=25, learning_rate=0.05)
    empty = LabelledFeatures(torch.empty(0, 1, 32), torch.empty(0, dtype=torch.int64))
    rng = stream(1, "fit")
    fitted = chosen.fit(FitData(images(0), CLASSES, synthetic=None, validation=empty, tower=TOWER, rng=rng))
    right = fitted.logits(images(1).scored, CLASSES.seen_ids).argmax(1) == labels
    assert float(right.float().mean()) >= 0.99


def test_scoring_in_passes_of_bounded_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, ids = fit("plot"), torch.arange(6)
    whole = fitted.logits(VALIDATION.scored, ids)
    monkeypatch.setattr("pipeline.methods.plot.SIMILARITIES_PER_PASS", 1)
    torch.testing.assert_close(fitted.logits(VALIDATION.scored, ids), whole)


def test_one_prompt_scores_the_mean_patch() -> None:
    """With N = 1 the only plan is uniform."""
    fitted = fit("plot", prompts=1)
    assert TRAIN.patches is not None
    mean = F.normalize(TRAIN.patches.float(), dim=-1).mean(1)
    expected = 20 * mean @ fitted.state()["weights"][0].T
    torch.testing.assert_close(fitted.logits(TRAIN.scored, torch.arange(6)), expected, atol=1e-3, rtol=1e-4)
