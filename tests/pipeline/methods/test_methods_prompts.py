"""Formulas of the methods that learn prompts, against NumPy: 3 classes, 8 dimensions, float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from small_task import CLASSES, NO_VALIDATION, TOWER, TRAIN, VALIDATION, fit
from torch.nn import functional as F

from features.errors import InputError
from features.settings import parse
from pipeline.methods._prompt_learning import class_weights, initial_linear, knowledge_distance
from pipeline.methods.proda import mean_overlap, position_of, upper_bound
from pipeline.methods.tcp import Tcp, class_prompts, encode_with_class_context
from pipeline.methods.vpt import negative_elbo
from pipeline.training.seeds import stream

Array = NDArray[np.float64]
RNG = np.random.default_rng(0)


def unit(a: Array) -> Array:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in arrays]


FEATURES, TEXTS = unit(RNG.normal(size=(5, 8))), unit(RNG.normal(size=(3, 8)))
LABELS = np.array([0, 1, 2, 2, 0])
WIDE = tiny.tower().double()


def wide(fitted: Any) -> Any:
    """Return the classifier and its tower in float64."""
    state = {key: value.double() for key, value in fitted.state().items() if value.is_floating_point()}
    return replace(fitted, **state, tower=WIDE)


def test_kgcoop_distances_are_those_of_paper_and_code() -> None:
    w = unit(TEXTS + 0.3 * RNG.normal(size=(3, 8)))
    squared = ((w - TEXTS) ** 2).sum(1).mean()
    assert float(knowledge_distance(*tensors(w, TEXTS), "squared")) == pytest.approx(squared, rel=1e-6)
    cosine = 1 - (w * TEXTS).sum(1).mean()
    assert float(knowledge_distance(*tensors(w, TEXTS), "cosine")) == pytest.approx(cosine, rel=1e-6)


def test_a_larger_weight_keeps_kgcoop_nearer_to_the_zero_shot_weights() -> None:
    def drift(weight: float) -> float:
        return 1 - float((fit("kgcoop", weight=weight).state()["weights"] * CLASSES.text_features).sum(1).mean())

    assert drift(100.0) < drift(0.0)


def test_tcp_net_is_linear_quickgelu_linear() -> None:
    down, down_bias, up, up_bias = (RNG.normal(size=size) for size in ((2, 8), (2,), (6, 2), (6,)))
    hidden = TEXTS @ down.T + down_bias
    expected = (hidden / (1 + np.exp(-1.702 * hidden))) @ up.T + up_bias
    ours = class_prompts(*tensors(TEXTS, down, down_bias, up, up_bias)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_tcp_gives_unseen_classes_the_text_features_of_an_earlier_epoch() -> None:
    after_four, early = (fit("tcp", epochs=4, unseen_epoch=e).state()["weights"] for e in (None, 1))
    after_one = fit("tcp", epochs=1).state()["weights"]  # the first epoch has the same rate in either schedule
    assert torch.equal(early[CLASSES.seen], after_four[CLASSES.seen])
    assert torch.equal(early[~CLASSES.seen], after_one[~CLASSES.seen])
    assert not torch.equal(early[~CLASSES.seen], after_four[~CLASSES.seen])
    with pytest.raises(InputError, match="unseen_epoch 5 is after the last of 4 epochs"):
        parse(Tcp, {"epochs": 4, "unseen_epoch": 5}, "methods.tcp")


def test_tcp_inserts_the_states_of_each_class_before_its_block() -> None:
    context = TOWER.token_embedding.weight[[320, 1125, 539, 320]]
    own = torch.randn(6, 4, 16, generator=stream(0, "x"))
    shared = TOWER(context[None], CLASSES.tokens)[0]
    never = encode_with_class_context(TOWER, context, own, CLASSES.tokens, TOWER.config.layers)
    torch.testing.assert_close(never, shared)
    # Before block 0 `own` replaces the embedded context, positions included.
    first = encode_with_class_context(TOWER, context, own, CLASSES.tokens, 0)
    expected = TOWER(own - TOWER.positional_embedding[1:5], CLASSES.tokens[:, None])[:, 0]
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-4)
    second = encode_with_class_context(TOWER, context, own, CLASSES.tokens, 1)
    assert not torch.allclose(second, first)
    alone = encode_with_class_context(TOWER, context, own[2:3], CLASSES.tokens[2:3], 1)
    torch.testing.assert_close(alone[0], second[2])


def test_cocoop_logits_are_equation_3_image_by_image() -> None:
    """v_m(x) = v_m + h(x), and each image scored against its own text features."""
    fitted = wide(fit("cocoop", epochs=1))
    s = {key: value.numpy() for key, value in fitted.state().items()}
    for image in VALIDATION.centre[:3].double().numpy():
        hidden = np.maximum(s["down"] @ image + s["down_bias"], 0)
        context = s["context"] + s["up"] @ hidden + s["up_bias"]
        texts = WIDE(torch.from_numpy(context)[None], CLASSES.tokens)[0].numpy()
        expected = 20.0 * unit(texts) @ image
        ours = fitted.logits(torch.from_numpy(image)[None], torch.arange(6))[0].numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_cocoop_trains_the_context_and_the_whole_meta_net() -> None:
    before, after = fit("cocoop", epochs=1, learning_rate=1e-9).state(), fit("cocoop", learning_rate=0.05).state()
    for name in ("context", "down", "down_bias", "up", "up_bias"):
        assert not torch.allclose(before[name], after[name]), name
    assert before["down"].shape == (2, 32)


def test_proda_loss_is_the_upper_bound_of_the_paper() -> None:
    scale, k = 20.0, 4
    w = unit(TEXTS + 0.2 * RNG.normal(size=(k, 3, 8)))
    mu = w.mean(0)
    flat = (w - mu).reshape(k, 24)
    sigma = (flat.T @ flat / k).reshape(3, 8, 3, 8).transpose(0, 2, 1, 3)  # sigma[c, e]: (8, 8)
    losses = []
    for z, y in zip(FEATURES, LABELS, strict=True):
        a = [sigma[c, c] + sigma[y, y] - sigma[c, y] - sigma[y, c] for c in range(3)]
        bound = [scale * z @ mu[c] + scale**2 * z @ a[c] @ z / 2 for c in range(3)]
        losses.append(np.log(np.exp(bound).sum()) - scale * z @ mu[y])
    ours = upper_bound(*tensors(FEATURES, LABELS, w), torch.tensor(scale, dtype=torch.float64))
    assert float(ours) == pytest.approx(np.mean(losses), rel=1e-6)
    sampled = [np.mean(_cross_entropy(scale * FEATURES @ w[i].T)) for i in range(k)]
    assert float(ours) > np.mean(sampled)  # it bounds the expectation from above


def _cross_entropy(logits: Array) -> Array:
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(LABELS)), LABELS]


def test_proda_penalises_overlap_and_has_three_positions_of_the_class_name() -> None:
    expected = np.mean([abs(TEXTS[i] @ TEXTS[j]) for i in range(3) for j in range(3) if i != j])
    assert float(mean_overlap(*tensors(TEXTS))) == pytest.approx(expected, rel=1e-6)
    stand = [position_of(prompt, 32) for prompt in range(32)]
    assert [stand.count(place) for place in ("front", "middle", "end")] == [8, 8, 16]


def test_proda_scores_by_the_mean_of_its_prompts() -> None:
    """A step with a learning rate of almost 0 leaves the prompts at their start."""
    settings: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-30, "init": "a photo of a", "orthogonality": 0.0}
    means = fit("proda", **settings).state()["weights"]
    start = TOWER.token_embedding.weight[[320, 1125, 539, 320]][None]
    places = ("front", "middle", "end", "end")
    expected = torch.stack([class_weights(TOWER, start, CLASSES.tokens, place)[0] for place in places]).mean(0)  # type: ignore[arg-type]
    torch.testing.assert_close(means, expected)


def test_vpt_loss_is_the_bound_of_the_paper() -> None:
    log_p = np.log(np.abs(RNG.normal(size=(4, 5, 3))))
    mean, log_var = RNG.normal(size=(5, 6)), RNG.normal(size=(5, 6))
    right = np.exp(log_p[:, np.arange(5), LABELS]).mean(0)
    kl = (0.5 * (mean**2 + np.exp(log_var) - 1 - log_var)).mean(1)
    ours = negative_elbo(*tensors(log_p, LABELS, mean, log_var), 0.3)
    assert float(ours) == pytest.approx(float(np.mean(-np.log(right) + 0.3 * kl)), rel=1e-6)


def test_vpt_scores_are_mean_probabilities_over_the_drawn_contexts() -> None:
    fitted = wide(fit("vpt", epochs=1))
    rows, ids = VALIDATION.centre[:2].double(), torch.arange(6)
    mean, log_var = fitted.posterior(rows)
    torch.testing.assert_close(fitted.logits(rows, ids).exp().sum(1), torch.ones(2).double())
    for i, image in enumerate(rows):
        contexts = fitted.context + (mean[i] + fitted.noise * (log_var[i] / 2).exp())[:, None]
        scores = 20.0 * unit(WIDE(contexts, CLASSES.tokens).numpy()) @ image.numpy()  # (L, 6)
        probability = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).mean(0)
        ours = fitted.logits(image[None], ids)[0].exp().numpy()
        np.testing.assert_allclose(ours, probability, rtol=1e-6)


def test_vpt_posterior_net_is_three_layers_with_elu() -> None:
    fitted = wide(fit("vpt", epochs=1))
    x = VALIDATION.centre[:2].double().numpy()
    for net, ours in enumerate(fitted.posterior(VALIDATION.centre[:2].double())):
        hidden = x
        for name in ("inner", "middle"):
            layer = getattr(fitted, name)[net].numpy()
            hidden = hidden @ layer[:, :-1].T + layer[:, -1]
            hidden = np.where(hidden > 0, hidden, np.exp(np.minimum(hidden, 0)) - 1)
        layer = fitted.outer[net].numpy()
        np.testing.assert_allclose(ours.numpy(), hidden @ layer[:, :-1].T + layer[:, -1], rtol=1e-6)


def test_vpt_without_the_image_has_two_free_vectors() -> None:
    start = wide(fit("vpt", conditional=False, epochs=1, learning_rate=1e-12, validation=NO_VALIDATION))
    mean, log_var = start.posterior(VALIDATION.centre.double())
    assert mean.shape == log_var.shape == (1, 16)
    assert sum(getattr(start, name).numel() for name in ("inner", "middle", "outer")) == 2 * 16
    assert float(mean.abs().max()) < 1e-3  # the first epoch is at 1e-5
    assert 0 <= float(log_var.min()) < 0.3
    assert 0.7 < float(log_var.max()) <= 1

    trained = wide(fit("vpt", conditional=False, epochs=3, validation=NO_VALIDATION))
    moved_mean, moved_log_var = trained.posterior(VALIDATION.centre.double())
    assert bool((moved_mean != mean).all())
    assert bool((moved_log_var != log_var).all())
    assert trained.dimension == 32
    assert trained.logits(TRAIN.centre.double(), torch.arange(6)).shape == (32, 6)


def test_linear_layers_are_initialised_as_by_torch() -> None:
    weight, bias = initial_linear(400, 25, stream(0, "x"))
    assert weight.shape == (400, 25)
    drawn = torch.cat([weight.flatten(), bias])
    assert float(drawn.abs().max()) <= 0.2
    assert float(drawn.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)
    assert F.linear(torch.zeros(1, 25), weight, bias).shape == (1, 400)
