"""SHIP against its equations, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from pipeline.generators._vae import elbo_terms, free_bits_kl, latent_summary
from pipeline.generators.ship import Ship
from pipeline.training.seeds import stream

SMALL = Ship(encoder_width=32, generator_width=32, epochs=3, batch=16, learning_rate=0.003)


def test_loss_is_equation_2_with_sums_over_dimensions() -> None:
    rng = np.random.default_rng(0)
    x, x_hat, mu, log_var = (rng.normal(size=(3, 8)).astype(np.float32) for _ in range(4))
    reconstruction = np.mean(np.sum((x_hat - x) ** 2, axis=1))
    kl = np.mean(np.sum(0.5 * (np.exp(log_var) + mu**2 - 1 - log_var), axis=1))
    ours = elbo_terms(*(torch.from_numpy(a) for a in (x, x_hat, mu, log_var)))
    np.testing.assert_allclose([float(term) for term in ours], [reconstruction, kl], rtol=1e-6)
    by_mean = elbo_terms(*(torch.from_numpy(a) for a in (x, x_hat, mu, log_var)), "mean")[0]
    np.testing.assert_allclose(float(by_mean), reconstruction / 8, rtol=1e-6)


def test_prompt_is_sos_then_p_plus_r_then_name_dot_eos() -> None:
    tower = tiny.tower()
    classes = tiny.classes(tower)
    model = SMALL.build(32, tower, stream(0, "test"))
    z = torch.randn(2, 16, generator=stream(0, "z"))
    ids = torch.tensor([1, 3])
    rows = []
    for latent, class_id in zip(z, ids, strict=True):
        w_1, b_1, w_2, b_2 = (parameter.detach() for parameter in model.bias.parameters())
        r = w_2 @ torch.relu(w_1 @ latent + b_1) + b_2
        table = tower.token_embedding.weight
        length = int(classes.tokens[class_id].argmax())  # EOT's place; [SOS] name . [EOT]
        name = classes.tokens[class_id, 1 : length + 1]
        prefix = torch.cat([table[classes.tokens[class_id, :1]], model.prompt.detach() + r])
        suffix = table[name]
        assert name[-1] == 49407
        assert name[-2] == 269  # "."
        eot = torch.tensor([[len(name) - 1]])
        rows.append(tower.encode_embedded(prefix[None], suffix[None, None], eot)[0, 0])
    expected = F.normalize(torch.stack(rows), dim=-1)
    torch.testing.assert_close(model.decode(z, classes.tokens[ids], tower), expected, atol=1e-5, rtol=1e-5)


def test_prompt_forms_are_the_four_of_table_5() -> None:
    z = torch.randn(2, 5, generator=stream(0, "z"))
    for global_prompt in (True, False):
        for sequential in (True, False):
            update = {"global_prompt": global_prompt, "sequential": sequential, "latent": 5}
            model = SMALL.model_copy(update=update).build(32, tiny.tower(), stream(0, "test"))
            w_1, b_1, w_2, b_2 = (parameter.detach().numpy() for parameter in model.bias.parameters())
            r = np.maximum(z.numpy() @ w_1.T + b_1, 0) @ w_2.T + b_2
            assert r.shape == (2, 4 * 16 if sequential else 16)
            local = r.reshape(2, 4, 16) if sequential else np.stack([r] * 4, axis=1)
            p = model.prompt.detach().numpy()
            assert p.any() == global_prompt
            np.testing.assert_allclose(model.context(z).detach().numpy(), p + local, atol=1e-6)


def test_without_a_global_prompt_none_is_learned() -> None:
    off = SMALL.model_copy(update={"global_prompt": False})
    fitted = off.fit(
        tiny.features([0, 1], 8, 1), tiny.classes(tiny.tower()), tiny.tower(), stream(1, "x"), lambda _: None
    )
    assert not fitted.prompt.any()


def test_latent_summary_is_kl_and_active_units() -> None:
    rng = np.random.default_rng(0)
    mu, log_var = (rng.normal(size=(9, 5)) for _ in range(2))
    mu[:, :2] = 0.3  # two units that carry nothing about the image, although their KL is not 0
    kl = (0.5 * (np.exp(log_var) + mu**2 - 1 - log_var)).mean(0)
    summary = latent_summary(torch.from_numpy(mu), torch.from_numpy(log_var))
    expected = {"kl": kl.sum(), "kl_unit_median": np.median(kl), "kl_unit_max": kl.max(), "active_units": 3}
    assert summary == pytest.approx(expected)


def test_free_bits_are_a_floor_under_each_units_kl() -> None:
    rng = np.random.default_rng(0)
    mu, log_var = (0.5 * rng.normal(size=(9, 5)) for _ in range(2))
    kl = (0.5 * (np.exp(log_var) + mu**2 - 1 - log_var)).mean(0)
    floor = float(np.median(kl))
    loss = free_bits_kl(torch.from_numpy(mu), torch.from_numpy(log_var), floor)
    assert float(loss) == pytest.approx(np.maximum(kl, floor).sum())


def test_initial_weights_follow_the_official_code() -> None:
    model = Ship().build(32, tiny.tower(), stream(0, "test"))
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            assert not parameter.any(), name
        elif parameter.numel() > 1000:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.1), name
    assert model.encoder[0].out_features == 4096
    assert model.encoder[2].out_features == 2 * 16
    assert model.prompt.shape == (4, 16)


def test_training_lowers_the_reconstruction_and_leaves_the_tower_alone() -> None:
    tower = tiny.tower(std=0.3)  # so smooth that a few steps can move it
    before = {name: parameter.clone() for name, parameter in tower.named_parameters()}
    log: list[dict[str, float]] = []
    classes, train = tiny.classes(tower), tiny.features([0, 1, 2, 3], 8, 3)
    SMALL.model_copy(update={"epochs": 30}).fit(train, classes, tower, stream(1, "x"), log.append)
    assert [row["epoch"] for row in log] == list(range(1, 31))
    assert log[-1]["reconstruction"] < 0.8 * log[0]["reconstruction"]
    assert all(torch.equal(parameter, before[name]) for name, parameter in tower.named_parameters())
