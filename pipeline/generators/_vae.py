"""The evidence lower bound of a VAE on features, its training loop, and measures of what the latent carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from pipeline.generators.base import FittedGenerator, Generator, Log
from pipeline.metrics.covariance import largest_eigenvalues
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.loop import Batches

Reduction = Literal["sum", "mean"]

# Latents (B, Z) and labels (B,), on the host -> unit features (B, D), with gradients.
Decode = Callable[[Tensor, Tensor], Tensor]

ACTIVE_UNIT = 0.01  # a latent is active when the variance of its posterior mean exceeds this (Burda et al. 2016)


class VaeGenerator(Generator):
    """Base of the generators that are trained as a VAE alone: the settings of `train_vae`, with SHIP's values."""

    reconstruction: Reduction = "sum"  # squared error over the D dimensions (paper: "MSE"; code: sum)
    kl_weight: NonNegativeFloat = 1.0  # factor of the KL term (paper and code)
    epochs: PositiveInt = 50  # passes over the seen images (code; 10 for ImageNet)
    batch: PositiveInt = 256  # images per step (code)
    learning_rate: PositiveFloat = 0.001  # AdamW (paper)
    weight_decay: NonNegativeFloat = 0.01  # AdamW (code: torch's default)


def collapse_note(settings: VaeGenerator, train: LabelledFeatures) -> str | None:
    """Return a note if the posterior of a VAE on these features must collapse, else None.

    For a squared error summed over D and a KL weight b, a latent direction pays only if b < 2 lambda. Here lambda is
    the largest eigenvalue of the covariance that the class leaves unexplained (exact for linear decoders: Lucas et al.
    2019). docs/latent.md derives it.

    Args:
        settings: of the loss.
        train: real features of seen classes, on the host or a device.
    """
    labels = train.host_labels
    if len(set(labels.tolist())) == len(labels) or getattr(settings, "free_bits", 0.0) > 0:
        return None

    within, _ = largest_eigenvalues(train.centre.cpu(), labels)
    dimension = train.centre.shape[1]
    weight = settings.kl_weight * (dimension if settings.reconstruction == "mean" else 1)
    if weight < 2 * within:
        return None
    return (
        f"the posterior will collapse: the KL weight {weight:g} is {weight / (2 * within):.0f} times the largest with "
        f"which a latent pays, 2 x {within:.4f} (docs/latent.md)"
    )


class Vae(FittedGenerator):
    """A fitted generator with an encoder: D -> 2 Z, the mean and log variance of the latent."""

    encoder: nn.Module

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma^2 (N, Z) of the latents of unit features (N, D)."""
        mu, log_var = self.encoder(x).chunk(2, dim=-1)
        return mu, log_var

    def encode(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the posterior (N, Z), (N, Z) of each image's centre crop."""
        return self.posterior(images.centre)


def kl_by_unit(mu: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mu, sigma^2) || N(0, 1)) of each latent (N, Z), in nats: (N, Z)."""
    return -0.5 * (1 + log_var - mu.square() - log_var.exp())


def elbo_terms(
    x: Tensor, x_hat: Tensor, mu: Tensor, log_var: Tensor, reduction: Reduction = "sum"
) -> tuple[Tensor, Tensor]:
    """Return the two terms of SHIP's Eq. 2, averaged over the batch.

    Args:
        x: (N, D) features.
        x_hat: (N, D) reconstructions.
        mu: (N, Z) posterior means.
        log_var: (N, Z) posterior log variances.
        reduction: of the squared error over D.

    Returns:
        The reconstruction error (), squared error reduced over D, and KL(N(mu, sigma^2) || N(0, I)) (), summed over Z.
    """
    error = (x_hat - x).square()
    by_image = error.sum(-1) if reduction == "sum" else error.mean(-1)
    return by_image.mean(), kl_by_unit(mu, log_var).sum(-1).mean()


def free_bits_kl(mu: Tensor, log_var: Tensor, free_bits: float) -> Tensor:
    """Return the sum over latents of max(free_bits, E[KL]) (Kingma et al. 2016): ().

    The first `free_bits` nats of each latent cost the same as none, so they are free to carry information.

    Args:
        mu: (N, Z) posterior means.
        log_var: (N, Z) posterior log variances.
        free_bits: nats per latent.
    """
    # The mean over the batch comes before the maximum: the floor holds for a latent on average, not for each image.
    return kl_by_unit(mu, log_var).mean(0).clamp(min=free_bits).sum()


def reparameterize(mu: Tensor, log_var: Tensor, rng: torch.Generator) -> Tensor:
    """Draw one latent (N, Z) from each posterior; gradients flow to mu and log sigma^2."""
    # The noise is drawn on the CPU, so that a seed gives the same latents on every device.
    noise = torch.randn(mu.shape, generator=rng).to(mu.device, non_blocking=True)
    return mu + (0.5 * log_var).exp() * noise


def latent_summary(mu: Tensor, log_var: Tensor) -> dict[str, float]:
    """Summarise how much the latents of N images carry; a KL of zero means that the posterior has collapsed.

    Args:
        mu: (N, Z) posterior means.
        log_var: (N, Z) posterior log variances.

    Returns:
        `kl`: nats per image, summed over latents. `kl_unit_median` and `kl_unit_max`: over the latents' mean KL, in
        nats. `active_units`: number of latents with a posterior mean that varies from image to image (`ACTIVE_UNIT`).
    """
    by_unit = kl_by_unit(mu, log_var).mean(0)
    active = (mu.var(0, correction=0) > ACTIVE_UNIT).sum()
    return {
        "kl": float(by_unit.sum()),
        "kl_unit_median": float(by_unit.median()),
        "kl_unit_max": float(by_unit.max()),
        "active_units": float(active),
    }


def train_vae(
    model: Vae,
    train: LabelledFeatures,
    settings: VaeGenerator,
    *,
    decode: Decode,
    rng: torch.Generator,
    log: Log,
    free_bits: float = 0.0,
) -> None:
    """Maximise the evidence lower bound (SHIP Eq. 2).

    Args:
        model: the module whose parameters are trained.
        train: real features of seen classes.
        settings: of the loss and of AdamW.
        decode: latents (B, Z) and labels (B,), on the host, to unit features (B, D), with gradients.
        rng: the source of order, views and latents, on the CPU.
        log: receives the epoch's last reconstruction error and the summary of all images' latents.
        free_bits: nats per latent that the KL term does not penalise; 0 for the plain KL.
    """
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    batches = Batches(train, None, settings.epochs, settings.batch, 0.0, rng)
    for step, (x, labels) in enumerate(batches, 1):
        mu, log_var = model.posterior(x)
        x_hat = decode(reparameterize(mu, log_var, rng), labels)
        reconstruction, kl = elbo_terms(x, x_hat, mu, log_var, settings.reconstruction)
        if free_bits > 0:
            kl = free_bits_kl(mu, log_var, free_bits)

        optimizer.zero_grad()
        (reconstruction + settings.kl_weight * kl).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

        if step % batches.steps_per_epoch == 0:
            # Measured on every image, because the last batch may hold a single one.
            with torch.no_grad():
                latent = latent_summary(*model.posterior(train.centre))
            log({"epoch": step // batches.steps_per_epoch, "reconstruction": float(reconstruction.detach()), **latent})
