"""Formulas of the classifiers with weights on image features, against NumPy: 3 classes, 8 dimensions, float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_task import CLASSES, NO_VALIDATION, SYNTHETIC, TRAIN, fit, fit_data, method
from torch.nn import functional as F

from features.errors import InputError
from pipeline.methods._affine import affine_classifier, class_means, concat_real_synthetic
from pipeline.methods.clap import class_multipliers, constraint
from pipeline.methods.gda import Gda, GdaClassifier, discriminant, precision
from pipeline.methods.linear_probe import regression, search_peak
from pipeline.methods.lp_plus_plus import Probe
from pipeline.methods.taskres import add_residual
from pipeline.training.log import Search, log_searches_to

Array = NDArray[np.float64]


def unit(a: Array) -> Array:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


RNG = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 1, 1, 2, 2, 0, 2])
FEATURES = unit(RNG.normal(size=(3, 8))[LABELS] + 0.7 * RNG.normal(size=(9, 8)))
TEXTS = unit(RNG.normal(size=(3, 8)))
ONE_HOT = np.eye(3)[LABELS]


def tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in arrays]


def test_logistic_regression_minimises_its_objective() -> None:
    """At the minimum of c * (cross-entropies) + |W|^2 / 2 the gradient is 0."""
    w, b = (a.numpy() for a in regression(*tensors(FEATURES, LABELS), 2.0, 1000))
    error = softmax(FEATURES @ w.T + b) - ONE_HOT
    np.testing.assert_allclose(2.0 * error.T @ FEATURES + w, 0, atol=2e-3)  # L-BFGS stops at 1e-4 of the mean
    np.testing.assert_allclose(error.sum(0), 0, atol=2e-3)


def test_logistic_regression_of_two_classes_has_two_rows() -> None:
    two = LABELS < 2
    w, b = (a.numpy() for a in regression(*tensors(FEATURES[two], LABELS[two]), 2.0, 1000))
    np.testing.assert_allclose(w[0], -w[1])
    assert np.argmax(FEATURES[two] @ w.T + b, 1).tolist() == LABELS[two].tolist()


@pytest.mark.parametrize("top", [-6.0, -5.875, -0.125, 0.0, 3.25, 5.5, 6.0])
def test_the_search_for_c_ends_at_the_peak_of_a_single_hill(top: float) -> None:
    assert search_peak(lambda c: -abs(np.log10(c) - top)) == pytest.approx(10**top)


def test_the_search_for_c_takes_15_fits_and_the_c_nearest_to_1_wins_a_tie() -> None:
    tried: list[float] = []
    assert search_peak(lambda c: float(tried.append(c) or 0)) == 1.0  # type: ignore[func-returns-value]
    assert len(tried) == 15


def test_linear_probe_with_one_class_or_no_validation() -> None:
    only = replace(CLASSES, seen=torch.tensor([True] + [False] * 5))
    with pytest.raises(InputError, match=r"methods\.linear_probe"):
        fit("linear_probe", classes=only)
    w, _ = regression(TRAIN.centre, TRAIN.labels, 31.6, 1000)
    found = fit("linear_probe", validation=NO_VALIDATION).state()["weights"]
    torch.testing.assert_close(found[:4], w.float())


def test_an_affine_classifier_scores_only_its_classes() -> None:
    ids = torch.tensor([2, 0])
    found = affine_classifier(CLASSES, ids, torch.eye(32)[:2], torch.tensor([5.0, 6.0]))
    assert found.scored.nonzero().squeeze(1).tolist() == [0, 2]
    f = torch.full((1, 32), 0.5)
    assert found.logits(f, ids).tolist() == [[5.5, 6.5]]


def test_a_class_gets_as_many_synthetic_features_as_shots() -> None:
    features, labels = concat_real_synthetic(fit_data(SYNTHETIC))
    assert torch.bincount(labels).tolist() == [8] * 6
    assert torch.equal(features[:32], TRAIN.centre)
    every, labels = concat_real_synthetic(fit_data(), every_view=True)
    assert every.shape == (96, 32)
    assert torch.equal(every[3 * 7 + 2], TRAIN.unit[7, 2])
    assert labels[3 * 7 + 2] == TRAIN.labels[7]


def test_taskres_weights_are_text_plus_residual() -> None:
    base, x = 3 * TEXTS, RNG.normal(size=(3, 8))
    ours = add_residual(*tensors(base, x), 0.5).numpy()
    np.testing.assert_allclose(ours, unit(base + 0.5 * x), rtol=1e-6)


@pytest.mark.parametrize("name", ["taskres", "clap"])
def test_a_class_without_features_keeps_its_zero_shot_weight(name: str) -> None:
    weights = fit(name).state()["weights"]
    assert torch.equal(weights[4:], CLASSES.text_features[4:])
    assert not bool((weights[:4] == CLASSES.text_features[:4]).all(1).any())


def test_clap_loss_is_that_of_the_paper() -> None:
    probabilities = softmax(20 * FEATURES @ TEXTS.T)
    held = np.array([probabilities[c == LABELS, c].mean() for c in range(3)])
    ours = class_multipliers(*tensors(20 * FEATURES @ TEXTS.T, LABELS))
    np.testing.assert_allclose(ours.numpy(), held, rtol=1e-6)
    w = TEXTS + 0.1 * RNG.normal(size=(3, 8))
    penalties = held * ((w - TEXTS) ** 2).sum(1)
    args = tensors(w, TEXTS, held)
    assert float(constraint(*args, "sum")) == pytest.approx(penalties.sum(), rel=1e-6)
    assert float(constraint(*args, "mean")) == pytest.approx(penalties.mean(), rel=1e-6)


def test_lp_plus_plus_starts_and_steps_as_in_the_paper() -> None:
    similar = FEATURES @ TEXTS.T
    w, b = ONE_HOT.T @ FEATURES, np.zeros(3)
    alpha = np.full(3, 250 * np.mean([similar[k == LABELS, k].mean() for k in range(3)]))
    rate = 4 * 9 / np.linalg.eigvalsh(FEATURES.T @ FEATURES).max()
    alpha_rate = 9 / (4 * (similar**2).sum(0).max())
    probe = Probe(*tensors(FEATURES, LABELS, TEXTS))
    moved_w, moved_b = np.zeros((3, 8)), np.zeros(3)
    for step in range(1, 5):
        error = (softmax(FEATURES @ w.T + similar * alpha + b) - ONE_HOT) / 9
        moved_w = 0.9 * moved_w + error.T @ FEATURES
        moved_b = 0.9 * moved_b + error.sum(0)
        w, b = w - rate * moved_w, b - rate * moved_b
        if step % 2 == 0:
            alpha = alpha - alpha_rate * (error * similar).sum(0)
        probe.step(move_alpha=step % 2 == 0)
        np.testing.assert_allclose(probe.weights()[0].numpy(), w + alpha[:, None] * TEXTS, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(probe.weights()[1].numpy(), b, rtol=1e-6, atol=1e-9)


def test_lp_plus_plus_gradient_is_that_of_the_cross_entropy() -> None:
    features, labels, texts = tensors(FEATURES, LABELS, TEXTS)
    probe = Probe(features, labels, texts)
    w, alpha = probe.w.clone().requires_grad_(), probe.alpha.clone().requires_grad_()
    F.cross_entropy(features @ (w + alpha[:, None] * texts).T, labels).backward()  # type: ignore[no-untyped-call]
    expected = probe.w - probe.rate * w.grad, probe.alpha - probe.alpha_rate * alpha.grad
    probe.step(move_alpha=True)
    torch.testing.assert_close((probe.w, probe.alpha), expected)


def test_gda_discriminant_is_that_of_the_paper() -> None:
    means = np.stack([FEATURES[c == LABELS].mean(0) for c in range(3)])
    np.testing.assert_allclose(class_means(*tensors(FEATURES, LABELS), 3).numpy(), means, rtol=1e-6)
    off = FEATURES - means[LABELS]
    cov = off.T @ off / 8  # of deviations whose mean is 0
    inverse = 8 * np.linalg.inv(8 * cov + np.trace(cov) * np.eye(8))
    np.testing.assert_allclose(precision(*tensors(off)).numpy(), inverse, rtol=1e-6)
    w = means @ inverse
    b = np.log(1 / 3) - np.einsum("cd,de,ce->c", means, inverse, means) / 2
    ours = discriminant(*tensors(means, inverse))
    np.testing.assert_allclose(ours[0].numpy(), w, rtol=1e-6)
    np.testing.assert_allclose(ours[1].numpy(), b, rtol=1e-6)
    parts = (torch.tensor(20.0), torch.ones(3, dtype=torch.bool), *tensors(TEXTS, w, b), torch.tensor(0.1))
    found = GdaClassifier(*parts).logits(torch.from_numpy(FEATURES), torch.arange(3))
    np.testing.assert_allclose(found.numpy(), 20 * FEATURES @ TEXTS.T + 0.1 * (FEATURES @ w.T + b), rtol=1e-6)


def test_gda_takes_the_pseudo_inverse_of_the_mean_covariance_where_classes_are_only_named() -> None:
    views = TRAIN.unit[:, 1:].flatten(0, 1).double().numpy()  # the centre crop is not one of them
    labels = TRAIN.labels.repeat_interleave(2).numpy()
    inverse = np.linalg.pinv(np.mean([np.cov(views[labels == c].T) for c in range(4)], axis=0), rcond=32 * 2**-23)
    means = np.stack([views[labels == c].mean(0) for c in range(4)])
    fitted = method("gda").fit(fit_data(validation=NO_VALIDATION)).state()
    np.testing.assert_allclose(fitted["weights"][:4].numpy(), means @ inverse, rtol=1e-3)

    only_seen = CLASSES.subset(CLASSES.seen_ids)
    one, other = (
        method("gda", seen_precision=which).fit(fit_data(classes=only_seen, validation=NO_VALIDATION)).state()
        for which in ("pinv", "ridge")
    )
    assert torch.equal(one["weights"], other["weights"])


SEARCHES = {
    "clip_adapter": [("ratio", 0.2, 0.8)],
    "gda": [("alpha", 1e-4, 1e2)],
    "linear_probe": [("c", 1e-6, 1e6)],
    "tip_adapter": [("alpha", 0.1, 9.505), ("beta", 0.1, 11.9405)],
    "tip_adapter_f": [("alpha", 0.1, 9.505), ("beta", 0.1, 11.9405)],
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_validation_reports_its_value_and_its_range(name: str) -> None:
    found: list[Search] = []
    settings = {"ratios": [0.2, 0.8]} if name == "clip_adapter" else {}
    with log_searches_to(found.append):
        fitted = fit(name, epochs=2, **settings) if name.endswith("_f") else method(name, **settings).fit(fit_data())
    assert [(s.setting, s.lowest, s.highest) for s in found] == [
        (setting, pytest.approx(low), pytest.approx(high)) for setting, low, high in SEARCHES[name]
    ]
    state = fitted.state()
    assert all(s.value == pytest.approx(float(state[s.setting])) for s in found if s.setting in state)

    found.clear()
    with log_searches_to(found.append):
        method(name, **settings).fit(fit_data(validation=NO_VALIDATION))
    assert found == []


def test_a_search_ends_at_an_edge_only_if_a_range_was_tried() -> None:
    assert Search("alpha", 3.0, 0.1, 3.0).at_edge
    assert Search("alpha", 0.1, 0.1, 3.0).at_edge
    assert not Search("alpha", 1.0, 0.1, 3.0).at_edge
    assert not Search("alpha", 1.0, 1.0, 1.0).at_edge


def test_gda_refuses_one_feature_of_each_class() -> None:
    with pytest.raises(InputError, match="shots"):
        precision(torch.zeros(3, 8))


def test_gda_represents_a_class_without_features_by_views_near_its_name() -> None:
    views, texts = TRAIN.unit.flatten(0, 1).double().numpy(), CLASSES.text_features[4:].double().numpy()
    near = [views[np.argsort(-(views @ t))[:10]] for t in texts]
    means = np.stack([(n.sum(0) + 16 * t) / 26 for n, t in zip(near, texts, strict=True)])
    inverse = np.mean([precision(*tensors(n - t)).numpy() for n, t in zip(near, texts, strict=True)], axis=0)
    fitted = method("gda", neighbours=10, centre_crop=True).fit(fit_data(validation=NO_VALIDATION))
    np.testing.assert_allclose(fitted.state()["weights"][4:].numpy(), means @ inverse, rtol=1e-3, atol=1e-4)
    assert float(fitted.state()["alpha"]) == pytest.approx(Gda().alpha)
