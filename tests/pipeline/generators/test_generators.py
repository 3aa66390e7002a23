"""Every generator: the contract that all of them keep, and the loss terms of each against NumPy."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from small_generators import ALL, CLASSES, TOWER, TRAIN, fit, generator, sample
from torch import nn

from features.errors import InputError
from features.formats.tensors import load_tensors, save_tensors
from pipeline.artifacts.task import Header, Rows, load_train, save_train
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import freeze_trained, mlp
from pipeline.generators._wgan import Critic, SeenClassifier, fit_seen_classifier, gradient_penalty
from pipeline.generators.cycle_wgan import cycle_loss
from pipeline.generators.f_vaegan import FVaeGan
from pipeline.generators.lisgan import cluster_means, soul_distance
from pipeline.generators.ship_plus import ShipPlus, class_sample_means, class_statistics, fit_line, shrunk_root
from pipeline.generators.tf_vaegan import TfVaeGan, weighted_l1
from pipeline.steps.train_generator import train_generator
from pipeline.training.seeds import stream


@pytest.mark.parametrize("name", ALL)
def test_samples_are_unit_features_and_determined_by_the_seed(name: str) -> None:
    first = sample(fit(name))
    assert first.shape == (5, 32)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    assert torch.equal(first, sample(fit(name)))
    assert not torch.equal(first, sample(fit(name), seed=2))
    assert not torch.equal(first, sample(fit(name, seed=2)))


@pytest.mark.parametrize("name", ALL)
def test_samples_of_a_class_differ(name: str) -> None:
    features = sample(fit(name))
    assert not torch.equal(features[2], features[3])


@pytest.mark.parametrize("name", ALL)
def test_a_saved_and_loaded_generator_samples_the_same_bits(name: str, tmp_path: Path) -> None:
    fitted = fit(name)
    save_tensors(fitted.state_dict(), tmp_path / "a", weights_sha256="0")
    again = generator(name).build(32, TOWER, stream(7, "build"))
    again.load_state_dict(load_tensors(tmp_path / "a", torch.device("cpu"), weights_sha256="0"))
    assert torch.equal(sample(again), sample(fitted))


@pytest.mark.parametrize("name", ALL)
def test_fit_leaves_its_inputs_unchanged_and_the_generator_frozen(name: str) -> None:
    before = [TRAIN.features.clone(), CLASSES.text_features.clone()]
    tower = {key: value.clone() for key, value in TOWER.state_dict().items()}
    fitted = fit(name)
    assert torch.equal(TRAIN.features, before[0])
    assert torch.equal(CLASSES.text_features, before[1])
    assert all(torch.equal(value, tower[key]) for key, value in TOWER.state_dict().items())
    assert not any(parameter.requires_grad for parameter in [*TOWER.parameters(), *fitted.parameters()])


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_learned_from_the_names_of_unseen_classes(name: str) -> None:
    rng = stream(1, "train_generator")
    without_unseen = (
        generator(name).fit(TRAIN, CLASSES.subset(CLASSES.seen_ids), TOWER, rng, lambda _: None).state_dict()
    )
    with_unseen = fit(name).state_dict()
    assert without_unseen.keys() == with_unseen.keys()
    assert all(torch.equal(without_unseen[key], with_unseen[key]) for key in with_unseen)


@pytest.mark.parametrize("name", ALL)
def test_every_epoch_is_logged_with_finite_numbers(name: str) -> None:
    log: list[dict[str, float]] = []
    fit(name, log=log)
    assert [row["epoch"] for row in log] == [1, 2]
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert len({tuple(row) for row in log}) == 1  # the same columns in every row of log.csv


@pytest.mark.parametrize("name", ALL)
def test_training_changes_the_samples(name: str) -> None:
    untrained = generator(name).build(32, TOWER, stream(1, "train_generator"))
    assert not torch.equal(sample(untrained), sample(fit(name)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ALL)
def test_a_generator_trains_and_samples_on_a_gpu(name: str) -> None:
    cuda = torch.device("cuda")
    tower, classes, rng = copy.deepcopy(TOWER).to(cuda), CLASSES.to(cuda), stream(1, "train_generator")
    fitted = generator(name).fit(TRAIN.to(cuda), classes, tower, rng, lambda _: None)
    with torch.inference_mode():
        features = fitted.sample(torch.tensor([0, 4, 5], device=cuda), classes, tower, stream(1, "synthesize"))
    assert features.device.type == "cuda"
    torch.testing.assert_close(features.norm(dim=1).cpu(), torch.ones(3))


def test_features_of_a_wrong_dimension_or_with_nan_are_rejected_together(tmp_path: Path) -> None:
    broken = np.random.default_rng(0).normal(size=(8, 1, 31)).astype(np.float16)
    broken[2, 0, 3] = np.nan
    rows = Rows(broken, np.zeros(8, np.int64), np.arange(8))
    header = Header("d", "d", "t", "base_to_new", 2, ("base", "new"), "tiny", TOWER.config.weights_sha256)
    save_train(tmp_path / "train.h5", header, CLASSES, {1: rows})
    task, out, cpu = load_train(tmp_path / "train.h5"), tmp_path / "out", torch.device("cpu")
    with pytest.raises(InputError) as caught:
        train_generator(generator("ship"), task, seeds=[1], tower=TOWER, device=cpu, out=out)
    assert all(datum in str(caught.value) for datum in ("train", "31", "32", "1 of 8"))
    assert not out.exists()


def test_a_generator_with_nan_weights_is_rejected() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(InputError, match=r"generators\.lisgan.*learning_rate"):
        freeze_trained(model, "lisgan")


def test_mlp_is_linear_layers_with_leaky_relu_between() -> None:
    net = mlp(4, 5, 3, 2, leak=0.2)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    h = x
    for i, layer in enumerate(layer for layer in net if isinstance(layer, nn.Linear)):
        h = np.where(h > 0, h, 0.2 * h) if i else h
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach().numpy(), h, atol=1e-6)


def test_attribute_generator_takes_noise_followed_by_attributes() -> None:
    model = AttributeGenerator(8, [6], latent=3)
    z, a = torch.randn(4, 3, generator=stream(0, "z")), torch.randn(4, 8, generator=stream(0, "a"))
    w_1, b_1, w_2, b_2 = (parameter.detach().numpy() for parameter in model.decoder.parameters())
    h = np.concatenate([z.numpy(), a.numpy()], axis=1) @ w_1.T + b_1
    out = np.where(h > 0, h, 0.2 * h) @ w_2.T + b_2
    expected = out / np.linalg.norm(out, axis=1, keepdims=True)
    np.testing.assert_allclose(model.decode(z, a).detach().numpy(), expected, atol=1e-6)


def test_gradient_penalty_follows_wgan_gp() -> None:
    rng = np.random.default_rng(0)
    real, fake, a, share = (
        rng.normal(size=(3, 8)),
        rng.normal(size=(3, 8)),
        rng.normal(size=(3, 8)),
        rng.random((3, 1)),
    )
    critic = Critic(8, 5).double()
    w_1, b_1, w_2, _ = (parameter.detach().numpy() for parameter in critic.parameters())
    x = share * real + (1 - share) * fake
    slope = np.where(np.concatenate([x, a], axis=1) @ w_1.T + b_1 > 0, 1.0, 0.2)
    gradient = (slope * w_2) @ w_1[:, :8]  # of the leaky ReLU network to x alone
    expected = np.mean((np.linalg.norm(gradient, axis=1) - 1) ** 2)
    ours = gradient_penalty(critic, *(torch.from_numpy(array) for array in (real, fake, a, share)))
    np.testing.assert_allclose(float(ours.detach()), expected, rtol=1e-6)


def test_only_the_critic_gets_a_gradient_of_the_penalty() -> None:
    critic = Critic(8, 5)
    real, fake, a = torch.randn(3, 4, 8, generator=stream(0, "x"))
    gradient_penalty(critic, real, fake, a, torch.rand(4, 1, generator=stream(0, "s"))).backward()  # type: ignore[no-untyped-call]
    assert critic.net[0].weight.grad is not None
    assert critic.net[0].weight.grad.any()
    assert real.grad is None
    assert fake.grad is None


def test_classification_loss_follows_f_clswgan() -> None:
    classifier = SeenClassifier(32, CLASSES)
    nn.init.normal_(classifier.linear.weight, std=0.1, generator=stream(0, "w"))
    x, labels = TRAIN.centre[:3], TRAIN.labels[:3]
    w, b = classifier.linear.weight.detach().numpy(), classifier.linear.bias.detach().numpy()
    p = np.exp(20.0 * (x.numpy() @ w.T + b))  # 20: the tiny tower's logit scale
    p /= p.sum(1, keepdims=True)
    expected = -np.mean([np.log(p[i, label]) for i, label in enumerate(labels.tolist())])  # the seen are 0 to 3
    np.testing.assert_allclose(float(classifier.loss(x, labels).detach()), expected, rtol=1e-5)


def test_the_seen_classifier_learns_the_seen_classes() -> None:
    before = float(SeenClassifier(32, CLASSES).loss(TRAIN.centre, TRAIN.labels).detach())
    fitted = fit_seen_classifier(TRAIN, CLASSES, 60, stream(0, "c"))
    assert float(fitted.loss(TRAIN.centre, TRAIN.labels)) < 0.2 * before


def test_cycle_loss_is_the_mean_squared_distance_to_the_attributes() -> None:
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(2, 3, 8)).astype(np.float32)
    regressor = nn.Linear(8, 8)
    w, b = regressor.weight.detach().numpy(), regressor.bias.detach().numpy()
    expected = np.mean((a - (x @ w.T + b)) ** 2)
    ours = cycle_loss(regressor, torch.from_numpy(x), torch.from_numpy(a))
    np.testing.assert_allclose(float(ours.detach()), expected, rtol=1e-5)


def test_soul_distance_is_the_distance_to_the_nearest_soul_of_the_class() -> None:
    rng = np.random.default_rng(0)
    x, souls = rng.normal(size=(4, 8)), rng.normal(size=(4, 3, 8))
    expected = np.mean([min(np.sum((x[i] - soul) ** 2) for soul in souls[i]) for i in range(4)])
    ours = soul_distance(torch.from_numpy(x), torch.from_numpy(souls))
    np.testing.assert_allclose(float(ours), expected, rtol=1e-6)


def test_souls_are_the_means_of_clusters() -> None:
    x = torch.cat([tiny.features([i], 5, 1).centre for i in (0, 1, 2)])
    souls = cluster_means(x, 3, stream(3, "souls"))
    nearest = torch.cdist(x, souls).argmin(1)
    for i in nearest.unique():
        torch.testing.assert_close(souls[i], x[nearest == i].mean(0))
    assert cluster_means(x[:2], 3, stream(0, "souls")).isfinite().all()  # fewer images than clusters


def test_weighted_l1_follows_tf_vaegan() -> None:
    rng = np.random.default_rng(0)
    decoded, a = rng.normal(size=(2, 3, 8))
    e = decoded - a
    w = e**2 / np.linalg.norm(e, axis=1, keepdims=True)  # e^2 / sqrt(sum of e^2)
    np.testing.assert_allclose(
        float(weighted_l1(torch.from_numpy(decoded), torch.from_numpy(a))), np.mean(np.sum(w * np.abs(e), 1)), rtol=1e-6
    )


def test_tf_vaegan_feeds_the_attribute_decoders_hidden_layer_back() -> None:
    model = TfVaeGan(generator_width=6, encoder_width=6).build(32, TOWER, stream(0, "build"))
    for parameter in model.parameters():  # large enough that the feedback shows
        nn.init.normal_(parameter, generator=stream(0, "w"))
    z, a = torch.randn(4, 32, generator=stream(0, "z")), CLASSES.text_features[:4]

    def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
        return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    def leaky(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, 0.2 * x)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    g_1, g_2 = (layer for layer in model.decoder if isinstance(layer, nn.Linear))
    f_1, f_2 = (layer for layer in model.feedback[0] if isinstance(layer, nn.Linear))
    hidden = leaky(linear(g_1, np.concatenate([z.numpy(), a.numpy()], axis=1)))
    first = unit(linear(g_2, hidden))
    dec = leaky(linear(model.attribute_decoder[0], first))
    second = unit(linear(g_2, hidden + leaky(linear(f_2, leaky(linear(f_1, dec))))))
    np.testing.assert_allclose(model.decode(z, a).detach().numpy(), second, atol=1e-4)
    model.feeds_back = False
    np.testing.assert_allclose(model.decode(z, a).detach().numpy(), first, atol=1e-4)


def test_tf_vaegan_ends_with_feedback_and_logs_every_term() -> None:
    log: list[dict[str, float]] = []
    settings = TfVaeGan(generator_width=8, encoder_width=8, critic_width=8, epochs=1, batch=16)
    assert settings.fit(TRAIN, CLASSES, TOWER, stream(1, "x"), log.append).feeds_back
    assert {"reconstruction", "kl", "attributes", "adversarial"} <= set(log[0])


def test_vaegan_losses_are_squared_error_and_kl_of_the_conditional_posterior() -> None:
    model = FVaeGan(generator_width=6, encoder_width=6).build(32, TOWER, stream(0, "build"))
    for parameter in model.encoder.parameters():  # large enough that the posterior is not the prior
        nn.init.normal_(parameter, std=0.5, generator=stream(0, "w"))
    x, a = TRAIN.centre[:3], CLASSES.text_features[:3]
    x_hat = torch.roll(x, 1, dims=0)
    w_1, b_1, w_2, b_2 = (parameter.detach().numpy() for parameter in model.encoder.parameters())
    h = np.concatenate([x.numpy(), a.numpy()], axis=1) @ w_1.T + b_1
    mu, log_var = np.split(np.where(h > 0, h, 0.2 * h) @ w_2.T + b_2, 2, axis=1)
    kl = np.mean(np.sum(0.5 * (np.exp(log_var) + mu**2 - 1 - log_var), axis=1))
    reconstruction = np.mean(np.sum((x_hat.numpy() - x.numpy()) ** 2, axis=1))
    losses = {name: float(value.detach()) for name, value in model.vae_losses(x, x_hat, a).items()}
    assert losses == pytest.approx({"reconstruction": reconstruction, "kl": kl}, rel=1e-5)


def test_ship_plus_samples_are_ships_with_an_offset_a_slope_and_a_residual() -> None:
    settings = ShipPlus(encoder_width=8, generator_width=8, residual_scale=0.5)
    model = settings.build(32, TOWER, stream(0, "build"))
    model.offset.normal_(generator=stream(0, "b"))
    model.slope.fill_(0.4)
    model.root.normal_(generator=stream(0, "S"))
    ids = torch.tensor([4, 5, 5])
    rng = stream(3, "synthesize")
    z = torch.randn(3, 16, generator=rng)
    ship = model.decode(z, CLASSES.tokens[ids], TOWER).detach().numpy()
    residual = torch.randn(3, 32, generator=rng).numpy() @ model.root.numpy()
    mixed = model.offset.numpy() + 0.4 * ship + 0.5 * residual
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    with torch.inference_mode():
        ours = model.sample(ids, CLASSES, TOWER, stream(3, "synthesize"))
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


def test_ship_plus_line_is_least_squares_with_one_slope() -> None:
    rng = np.random.default_rng(0)
    ship = rng.normal(size=(6, 8))
    real = 0.3 * ship + rng.normal(size=8) + 0.1 * rng.normal(size=(6, 8))
    design = np.concatenate([ship.reshape(-1, 1), np.tile(np.eye(8), (6, 1))], axis=1)  # k, then b
    expected = np.linalg.lstsq(design, real.reshape(-1), rcond=None)[0]
    offset, slope = fit_line(torch.from_numpy(ship), torch.from_numpy(real), None)
    np.testing.assert_allclose(np.concatenate([[float(slope)], offset.numpy()]), expected, atol=1e-9)
    offset, slope = fit_line(torch.from_numpy(ship), torch.from_numpy(real), 0.7)
    assert float(slope) == 0.7
    np.testing.assert_allclose(offset.numpy(), (real - 0.7 * ship).mean(0))
    alone = fit_line(torch.from_numpy(ship[:1]), torch.from_numpy(real[:1]), None)
    np.testing.assert_allclose((alone[0] + alone[1] * torch.from_numpy(ship[0])).numpy(), real[0])


def test_ship_plus_means_and_covariance_are_those_of_the_seen_classes() -> None:
    x, labels = TRAIN.centre, TRAIN.labels
    means, covariance = class_statistics(x, labels, CLASSES.seen_ids)
    own = [x.numpy()[labels.numpy() == i] for i in range(4)]
    np.testing.assert_allclose(means.numpy(), [part.mean(0) for part in own], atol=1e-6)
    pooled = sum((len(part) - 1) * np.cov(part.T) for part in own) / (len(x) - 4)
    np.testing.assert_allclose(covariance.numpy(), pooled, atol=1e-6)
    alone = class_statistics(x[:1], labels[:1], labels[:1])[1]
    assert not alone.any()  # one image has no spread, and no NaN


def test_shrunk_root_squared_is_the_shrunk_covariance() -> None:
    x = np.random.default_rng(0).normal(size=(5, 8))
    s = x.T @ x / 5  # of rank 5
    expected = 0.7 * s + 0.3 * np.trace(s) / 8 * np.eye(8)
    root = shrunk_root(torch.from_numpy(s), 0.3).numpy()
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ root, expected, atol=1e-10)


def test_ship_plus_measures_the_seen_classes_after_training() -> None:
    fitted = ShipPlus(encoder_width=8, generator_width=8, epochs=1).fit(
        TRAIN, CLASSES, TOWER, stream(1, "x"), lambda _: None
    )
    means, covariance = class_statistics(TRAIN.centre, TRAIN.labels, CLASSES.seen_ids)
    sample_means = class_sample_means(fitted, CLASSES, TOWER, stream(2, "z"))  # other draws than those of the fit
    torch.testing.assert_close(fitted.offset + fitted.slope * sample_means.mean(0), means.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(fitted.root, shrunk_root(covariance, 0.1))
