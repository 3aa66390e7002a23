"""The steps of the papers' recipe, without this project's shortcuts: no stored features and no shortened prompts.

Each training step decodes and augments the images of its batch, runs the image tower on them, and runs prompts of 77
tokens through open_clip's own text tower in float32. Nothing is slowed down on purpose: image features and synthesis
take no gradient, and batches have the same size. `tests/project/test_benchmarks.py` compares its losses with those of
this project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators._vae import elbo_terms, reparameterize


class Images:
    """Image files that are read, augmented and encoded at every call."""

    def __init__(self, model: Any, paths: Sequence[Path]) -> None:
        import torchvision.transforms.v2 as transforms

        self.model, self.paths = model, paths
        size = model.visual.image_size
        side = size if isinstance(size, int) else size[0]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(side, scale=(0.5, 1.0), interpolation=3),
                transforms.RandomHorizontalFlip(),
                transforms.PILToTensor(),
                transforms.ToDtype(torch.float32, scale=True),
                transforms.Normalize(model.visual.image_mean, model.visual.image_std),
            ]
        )

    def encode(self, rows: Sequence[int]) -> Tensor:
        """Return unit features (N, D) of fresh views."""
        crops = []
        for row in rows:
            with Image.open(self.paths[row % len(self.paths)]) as image:
                crops.append(self.transform(image.convert("RGB")))
        with torch.no_grad():
            features: Tensor = F.normalize(self.model.encode_image(torch.stack(crops)), dim=-1)
        return features


def encode_prompts(model: Any, context: Tensor, tokens: Tensor) -> Tensor:
    """Return unit features (N, D) of prompts (N, 77) with context (N or 1, L, W) in place of the L tokens after SOS."""
    embedded = model.token_embedding(tokens).detach()
    embedded = torch.cat(
        [embedded[:, :1], context.expand(len(tokens), -1, -1), embedded[:, 1 + context.shape[1] :]], dim=1
    )
    hidden = model.transformer(embedded + model.positional_embedding, attn_mask=model.attn_mask)
    at_eot = model.ln_final(hidden)[torch.arange(len(tokens)), tokens.argmax(-1)]
    return F.normalize(at_eot @ model.text_projection, dim=-1)


def full_tokens(names: Sequence[str], length: int) -> Tensor:
    """Return the tokens (C, 77) of `X .. X name.` with `length` placeholders, as the official codes tokenize."""
    import open_clip

    tokens: Tensor = open_clip.tokenize([f"{' '.join('X' * length)} {name.replace('_', ' ')}." for name in names])
    return tokens


def coop_losses(
    model: Any, context: Tensor, tokens: Tensor, batches: Iterator[tuple[Tensor, Tensor]], *, rate: float
) -> Iterator[float]:
    """Train CoOp with SGD and yield the loss of each step.

    Args:
        model: open_clip's.
        context: (1, M, W), which is trained.
        tokens: (C, 77) of all classes.
        batches: unit features (B, D) and labels (B,), one batch per step.
        rate: learning rate.
    """
    optimizer, scale = torch.optim.SGD([context], rate), float(model.logit_scale.exp())
    for features, labels in batches:
        loss = F.cross_entropy(scale * features @ encode_prompts(model, context, tokens).T, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())


def vae_losses(
    model: Any, vae: PromptVae, tokens: Tensor, batches: Iterator[tuple[Tensor, Tensor]], rng: torch.Generator
) -> Iterator[float]:
    """Train SHIP's VAE with AdamW and yield the loss of each step; arguments as of `coop_losses`."""
    optimizer = torch.optim.AdamW(vae.parameters(), 1e-3, weight_decay=0.01)
    for x, labels in batches:
        mu, log_var = vae.posterior(x)
        x_hat = encode_prompts(model, vae.context(reparameterize(mu, log_var, rng)), tokens[labels])
        reconstruction, kl = elbo_terms(x, x_hat, mu, log_var)
        optimizer.zero_grad()
        (reconstruction + kl).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float((reconstruction + kl).detach())


def synthesize(model: Any, vae: PromptVae, tokens: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Return fresh features (N, D) of the classes `labels` (N,)."""
    with torch.no_grad():
        z = torch.randn(len(labels), vae.latent, generator=rng)
        return encode_prompts(model, vae.context(z), tokens[labels])
