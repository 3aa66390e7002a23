"""What every VAE here shares: the two terms of its bound, the draw of a latent, what it carries, and the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.generators.base import FittedGenerator, Log
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.loop import Batches

Decode = Callable[[Tensor, Tensor], Tensor]

ACTIVE_UNIT = 0.01  # a latent is active when the variance of its posterior mean exceeds this (Burda et al. 2016)


def kl_by_unit(mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of each of the latents (N, W), in nats: (N, W)."""
    return -0.5 * (1 + log_var - mu.square() - log_var.exp())


def elbo_terms(x: Tensor, x_hat: Tensor, mu: Tensor, log_var: Tensor, reduction: str = "sum") -> tuple[Tensor, Tensor]:
    """The two terms of SHIP's Eq. 2, averaged over the batch.

    Args:
        x: (N, D) features.
        x_hat: (N, D) reconstructions.
        mu: (N, W) of the posterior.
        log_var: (N, W) of the posterior.
        reduction: of the squared error over D.

    Returns:
        Reconstruction: squared error, by sum or mean over D. KL(N(mu, sigma^2) || N(0, I)), summed over W.
    """
    error = (x_hat - x).square()
    reconstruction = (error.sum(-1) if reduction == "sum" else error.mean(-1)).mean()
    return reconstruction, kl_by_unit(mu, log_var).sum(-1).mean()


def freed(mu: Tensor, log_var: Tensor, free_bits: float) -> Tensor:
    """KL of latents (N, W), averaged over the batch, where each unit's first `free_bits` nats cost the same as none.

    Kingma et al. 2016: the sum over units of max(free_bits, E[KL]). A unit below pays nothing for what it says.
    """
    return kl_by_unit(mu, log_var).mean(0).clamp(min=free_bits).sum()


def drawn(mu: Tensor, log_var: Tensor, rng: torch.Generator) -> Tensor:
    """One latent (N, W) from each posterior; gradients flow to mu and log sigma^2."""
    return mu + (0.5 * log_var).exp() * torch.randn(mu.shape, generator=rng).to(mu.device, non_blocking=True)


def latent_summary(mu: Tensor, log_var: Tensor) -> dict[str, float]:
    """What the latents (N, W) of N images say of them: a VAE whose KL is zero has told us nothing.

    Returns:
        `kl`: nats an image, over all units. `kl_unit_median`, `kl_unit_max`: of the units' own KL.
        `active_units`: how many have a posterior mean that varies from image to image.
    """
    by_unit = kl_by_unit(mu, log_var).mean(0)
    active = (mu.var(0, correction=0) > ACTIVE_UNIT).sum()
    numbers = {"kl": by_unit.sum(), "kl_unit_median": by_unit.median(), "kl_unit_max": by_unit.max()}
    return {name: float(number) for name, number in (numbers | {"active_units": active}).items()}


class VaeSettings(Protocol):
    """What `train_vae` reads of a generator's settings; their files say where the values come from."""

    @property
    def reconstruction(self) -> str:
        """Reduction of the squared error over D, `sum` or `mean`."""

    @property
    def kl_weight(self) -> float:
        """Factor of the KL term."""

    @property
    def epochs(self) -> int:
        """Passes over the seen images."""

    @property
    def batch(self) -> int:
        """Images a step."""

    @property
    def learning_rate(self) -> float:
        """Of AdamW."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


class Vae(FittedGenerator):
    """A generator that reads features back into latents."""

    encoder: nn.Module

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unit features (N, D) to mu and log sigma^2 (N, Z) of the latent."""
        mu, log_var = self.encoder(x).chunk(2, dim=-1)
        return mu, log_var

    def latents(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The posterior of each image's centre crop."""
        return self.posterior(images.centre)


def train_vae(
    model: Vae,
    train: LabelledFeatures,
    settings: VaeSettings,
    *,
    decode: Decode,
    rng: torch.Generator,
    log: Log,
    free_bits: float = 0.0,
) -> None:
    """Maximise the evidence lower bound (SHIP Eq. 2).

    Args:
        model: whose parameters are trained.
        train: real features of seen classes.
        settings: of the loss and of AdamW.
        decode: latents (B, Z) and labels (B,), on the host, to unit features (B, D), with gradients.
        rng: on the CPU; draws order, views and latents.
        log: takes the epoch's last reconstruction error and what the latents of all images carry.
        free_bits: nats a unit that the KL term lets pass.
    """
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    batches = Batches(train, None, settings.epochs, settings.batch, 0.0, rng)
    for step, (x, labels) in enumerate(batches, 1):
        mu, log_var = model.posterior(x)
        x_hat = decode(drawn(mu, log_var, rng), labels)
        reconstruction, kl = elbo_terms(x, x_hat, mu, log_var, settings.reconstruction)
        if free_bits > 0:
            kl = freed(mu, log_var, free_bits)
        optimizer.zero_grad()
        (reconstruction + settings.kl_weight * kl).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % batches.steps_per_epoch == 0:
            # The latent is judged on every image, for the last batch may hold one alone.
            with torch.no_grad():
                latent = latent_summary(*model.posterior(train.centre))
            log({"epoch": step // batches.steps_per_epoch, "reconstruction": float(reconstruction.detach()), **latent})
