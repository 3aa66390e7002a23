"""When the latent of a VAE on unit features is used: only with a KL weight below twice the variance within classes."""

from __future__ import annotations

import pytest
import torch
from small_task import CLASSES, TOWER
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.generators._vae import Vae, VaeGenerator, collapse_note, latent_summary, train_vae
from pipeline.generators.ship import Ship
from pipeline.metrics.covariance import largest_eigenvalues
from pipeline.training.data import LabelledFeatures
from pipeline.training.seeds import stream


def features(variance: float) -> LabelledFeatures:
    """Return 400 features of four classes (400, 1, 32) that vary within a class along one direction."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    means = F.normalize(torch.randn(4, 32, generator=rng), dim=-1)
    direction = F.normalize(torch.randn(32, generator=rng), dim=0)
    along = variance**0.5 * torch.randn(400, 1, generator=rng)
    return LabelledFeatures((means[labels] + along * direction)[:, None], labels)


class Linear(Vae):
    """A VAE with a linear encoder and a linear decoder beside the class means, for which the condition is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(32, 4)
        self.decoder = nn.Linear(2, 32, bias=False)
        self.means = nn.Parameter(torch.zeros(4, 32))

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        decoded: Tensor = self.means[labels] + self.decoder(z)
        return decoded


class LinearSettings(VaeGenerator):
    """Settings of the loss alone."""

    def build(self, *_: object) -> Vae:  # type: ignore[override]
        return Linear()

    def fit(self, *_: object) -> Vae:  # type: ignore[override]
        return Linear()


def kl_after_training(images: LabelledFeatures, weight: float) -> float:
    """Return the KL, in nats per image, of a linear VAE after training."""
    torch.manual_seed(0)
    model = Linear()
    settings = LinearSettings(kl_weight=weight, epochs=300, batch=100, learning_rate=0.02, weight_decay=0.0)
    train_vae(model, images, settings, decode=model.decode, rng=stream(0, "x"), log=lambda _: None)
    with torch.no_grad():
        return latent_summary(*model.posterior(images.centre))["kl"]


def test_a_linear_vae_uses_its_latent_only_below_twice_the_variance_within_classes() -> None:
    images = features(0.02)
    within, total = largest_eigenvalues(images.centre, images.labels)
    assert 0.005 < within < total
    assert kl_after_training(images, 4 * within) < 0.01
    assert kl_after_training(images, 0.5 * within) > 0.3


def test_ship_uses_its_latent_only_with_a_small_weight() -> None:
    images = features(0.02)
    seen = CLASSES.subset(CLASSES.seen_ids)
    active = {}
    for weight in (1.0, 1e-4):
        generator = Ship.model_validate(
            {"encoder_width": 32, "generator_width": 32, "latent": 4, "epochs": 60, "batch": 100, "kl_weight": weight}
        )
        rows: list[dict[str, float]] = []
        generator.fit(images, seen, TOWER, stream(0, "x"), rows.append)
        active[weight] = rows[-1]["active_units"]
        assert (collapse_note(generator, images) is not None) == (weight == 1.0)
    assert active[1.0] == 0
    assert active[1e-4] > 0


def test_the_note_names_the_weight_and_how_many_times_it_is_too_large() -> None:
    images = features(0.02)
    within, _ = largest_eigenvalues(images.centre, images.labels)
    note = collapse_note(LinearSettings(kl_weight=1.0), images)
    assert note is not None
    assert f" {1 / (2 * within):.0f} times" in note
    # The mean over D dimensions divides the error, so the same weight counts D times as much.
    assert collapse_note(LinearSettings(kl_weight=within), images) is None
    assert collapse_note(LinearSettings(kl_weight=within, reconstruction="mean"), images) is not None


def test_the_eigenvalues_are_those_of_the_covariance_matrices() -> None:
    images = features(0.02)
    x = images.centre.double()
    means = torch.stack([x[images.labels == label].mean(0) for label in range(4)])
    within = x - means[images.labels]
    expected = (torch.linalg.eigvalsh(within.T @ within / (400 - 4))[-1], torch.linalg.eigvalsh(x.T.cov())[-1])
    assert largest_eigenvalues(images.centre, images.labels) == pytest.approx([float(v) for v in expected])
    few = largest_eigenvalues(images.centre[:20], images.labels[:20])
    assert few[1] == pytest.approx(float(torch.linalg.eigvalsh(x[:20].T.cov())[-1]))
    with pytest.raises(ValueError, match="4 features of 4 classes"):
        largest_eigenvalues(images.centre[:4], images.labels[:4])
