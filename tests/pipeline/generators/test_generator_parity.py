"""The losses of ten steps of every generator, against a plain transcription of its equations and its schedule.

A transcription starts from the same weights and draws in the same order. It shares the batches and the text tower with
the generator, and no equation, network or optimizer setting: weights are tensors by name, layers are matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small_generators import CLASSES, TOWER, TRAIN
from torch import Tensor
from torch.nn import functional as F

import pipeline.generators
from features.lookup import find, names
from pipeline.generators.base import Generator
from pipeline.training.loop import Batches
from pipeline.training.seeds import stream

STEPS, SEEN, D, SCALE = 10, 4, 32, CLASSES.logit_scale
WIDTHS = {"encoder_width": 16, "generator_width": 16, "critic_width": 16}
TEXTS = CLASSES.text_features
Weights = dict[str, Tensor]
Losses = list[dict[str, float]]


def settings(name: str, **changes: Any) -> Any:
    """Return the generator with one batch to an epoch, so that its log has a row per step."""
    kind = find(pipeline.generators, name, Generator)
    given = {**WIDTHS, "epochs": STEPS, "batch": len(TRAIN), **changes}
    return kind.model_validate({key: value for key, value in given.items() if key in kind.model_fields})


def logged(name: str, **changes: Any) -> Losses:
    log: Losses = []
    settings(name, **changes).fit(TRAIN, CLASSES, TOWER, stream(1, "train_generator"), log.append)
    return log


def weights_of(module: torch.nn.Module) -> Weights:
    return {name: value.detach().clone().requires_grad_() for name, value in module.state_dict().items()}


def start(name: str, **changes: Any) -> tuple[Weights, torch.Generator]:
    rng = stream(1, "train_generator")
    return weights_of(settings(name, **changes).build(D, TOWER, rng)), rng


def draw(weights: Weights, rng: torch.Generator, *, xavier: bool = False) -> Weights:
    """Draw first weights in the order of their names; biases are 0."""
    for name, value in weights.items():
        bound = (6 / sum(value.shape)) ** 0.5
        with torch.no_grad():
            if name.endswith("bias"):
                value.zero_()
            elif xavier:
                value.uniform_(-bound, bound, generator=rng)
            else:
                value.normal_(0, 0.02, generator=rng)
    return weights


def layers(prefix: str, *widths: int) -> Weights:
    """Return tensors of linear layers, named as those of a sequence with activations between."""
    made: Weights = {}
    for i in range(len(widths) - 1):
        made[f"{prefix}{2 * i}.weight"] = torch.empty(widths[i + 1], widths[i], requires_grad=True)
        made[f"{prefix}{2 * i}.bias"] = torch.empty(widths[i + 1], requires_grad=True)
    return made


def net(w: Weights, prefix: str, x: Tensor, slope: float) -> Tensor:
    numbers = sorted(int(name.split(".")[-2]) for name in w if name.startswith(prefix) and name.endswith("weight"))
    for number in numbers:
        x = x if number == numbers[0] else torch.where(x > 0, x, slope * x)
        x = x @ w[f"{prefix}{number}.weight"].T + w[f"{prefix}{number}.bias"]
    return x


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


def of(w: Weights, *prefixes: str) -> list[Tensor]:
    return [value for name, value in w.items() if name.startswith(prefixes)]


def step(optimizer: torch.optim.Optimizer, loss: Tensor, parameters: list[Tensor]) -> None:
    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True):
        parameter.grad = grad
    optimizer.step()


def batches(rng: torch.Generator, epochs: int, batch: int = len(TRAIN)) -> Iterator[tuple[Tensor, Tensor]]:
    yield from Batches(TRAIN, None, epochs, batch, 0.0, rng)


def vae_terms(x: Tensor, x_hat: Tensor, mu: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    kl = 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(-1).mean()
    return ((x - x_hat) ** 2).sum(-1).mean(), kl


# The VAEs: AdamW at 0.001 with weight decay 0.01.


def vae(name: str, decode: Callable[[Weights, Tensor, Tensor], Tensor]) -> Losses:
    w, rng = start(name)
    w = {key: value for key, value in w.items() if key not in ("offset", "slope", "root")}
    optimizer = torch.optim.AdamW([*w.values()], 0.001, weight_decay=0.01)
    rows = []
    for x, labels in batches(rng, STEPS):
        mu, log_var = net(w, "encoder.", x, 0.0).chunk(2, -1)
        z = mu + (log_var / 2).exp() * torch.randn(mu.shape, generator=rng)
        reconstruction, kl = vae_terms(x, decode(w, z, labels), mu, log_var)
        step(optimizer, reconstruction + kl, [*w.values()])
        mu, log_var = net(w, "encoder.", TRAIN.centre, 0.0).chunk(2, -1)
        total = vae_terms(x, x, mu, log_var)[1]
        rows.append({"reconstruction": float(reconstruction.detach()), "kl": float(total.detach())})
    return rows


def prompted(w: Weights, z: Tensor, labels: Tensor) -> Tensor:
    """SHIP's Eq. 3 and 4: the text feature of p + r before the class's name."""
    r = net(w, "bias.", z, 0.0)
    return unit(TOWER(w["prompt"] + r[:, None], CLASSES.tokens[labels][:, None])[:, 0])


def from_scratch(w: Weights, z: Tensor, labels: Tensor) -> Tensor:
    return unit(net(w, "decoder.", torch.cat([z, TEXTS[labels]], -1), 0.2))


# WGAN-GP and what its descendants add: five critic steps, Adam at 0.0001 with betas 0.5 and 0.999, penalty times 10.


def adam(parameters: list[Tensor], rate: float = 0.0001, beta: float = 0.5) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, rate, (beta, 0.999))


def wgan(
    rng: torch.Generator,
    fakes: Callable[[Tensor, Tensor], Tensor],
    generator_step: Callable[[Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]],
    *,
    critic_steps: int = 5,
    critic_rate: float = 0.0001,
    beta: float = 0.5,
    mixes_numbers: bool = False,
    xavier: bool = False,
    on_real: Callable[[Tensor, Tensor], None] | None = None,
) -> Losses:
    d = draw(layers("", 2 * D, 16, 1), rng, xavier=xavier)
    optimizer = adam([*d.values()], critic_rate, beta)

    def score(x: Tensor, a: Tensor) -> Tensor:
        return net(d, "", torch.cat([x, a], -1), 0.2)[:, 0]

    rows = []
    for number, (x, labels) in enumerate(batches(rng, STEPS * critic_steps), 1):
        a = TEXTS[labels]
        if on_real:
            on_real(x, labels)
        fake = fakes(x, labels).detach()
        distance = score(x, a).mean() - score(fake, a).mean()
        e = torch.rand(len(x), D if mixes_numbers else 1, generator=rng)
        mixed = (e * x + (1 - e) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(score(mixed, a).sum(), mixed, create_graph=True)
        penalty = ((slope.pow(2).sum(-1).sqrt() - 1) ** 2).mean()
        step(optimizer, 10 * penalty - distance, [*d.values()])
        if number % critic_steps == 0:
            fake = fakes(x, labels)
            losses = generator_step(x, labels, fake, score(fake, a).mean())
            losses |= {"wasserstein": distance, "penalty": penalty}
            rows.append({key: float(value.detach()) for key, value in losses.items()})
    return rows


def plain_gan(name: str, decode: Callable[[Weights, Tensor, Tensor], Tensor], latent: int) -> Losses:
    w, rng = start(name)
    optimizer = adam([*w.values()])

    def fakes(x: Tensor, labels: Tensor) -> Tensor:
        return decode(w, torch.randn(len(x), latent, generator=rng), labels)

    def generator_step(x: Tensor, labels: Tensor, fake: Tensor, score: Tensor) -> dict[str, Tensor]:
        step(optimizer, -score, [*w.values()])
        return {"adversarial": -score}

    return wgan(rng, fakes, generator_step)


def classifier(rng: torch.Generator, epochs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The softmax classifier of seen classes: Adam at 0.001 with betas 0.5 and 0.999, batches of 100."""
    p = draw(layers("", D, SEEN), rng)
    optimizer = adam([*p.values()], 0.001)

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(SCALE * net(p, "", x, 0.0), labels)

    for x, labels in batches(rng, epochs, 100):
        step(optimizer, loss(x, labels), [*p.values()])
    return loss


def f_clswgan() -> Losses:
    w, rng = start("f_clswgan")
    loss = classifier(rng, 50)
    optimizer = adam([*w.values()])

    def fakes(x: Tensor, labels: Tensor) -> Tensor:
        return from_scratch(w, torch.randn(len(x), D, generator=rng), labels)

    def generator_step(x: Tensor, labels: Tensor, fake: Tensor, score: Tensor) -> dict[str, Tensor]:
        terms = {"adversarial": -score, "classification": 0.01 * loss(fake, labels)}
        step(optimizer, sum(terms.values(), torch.zeros(())), [*w.values()])
        return terms

    return wgan(rng, fakes, generator_step)


def cycle_wgan() -> Losses:
    w, rng = start("cycle_wgan")
    r = draw(layers("", D, D), rng, xavier=True)
    regressing = adam([*r.values()], 0.001, 0.9)
    for x, labels in batches(rng, 100, 64):
        step(regressing, ((TEXTS[labels] - net(r, "", x, 0.0)) ** 2).mean(), [*r.values()])
    optimizer = adam([*w.values()], beta=0.9)

    def fakes(x: Tensor, labels: Tensor) -> Tensor:
        return from_scratch(w, torch.randn(len(x), D, generator=rng), labels)

    def generator_step(x: Tensor, labels: Tensor, fake: Tensor, score: Tensor) -> dict[str, Tensor]:
        cycle = 0.01 * ((TEXTS[labels] - net(r, "", fake, 0.0)) ** 2).mean()
        step(optimizer, cycle - score, [*w.values()])
        return {"adversarial": -score, "cycle": cycle}

    return wgan(
        rng, fakes, generator_step, critic_steps=1, critic_rate=0.001, beta=0.9, mixes_numbers=True, xavier=True
    )


def lisgan() -> Losses:
    w, rng = start("lisgan")
    loss = classifier(rng, 100)
    souls = []
    for label in range(SEEN):
        own = TRAIN.centre[TRAIN.labels == label]
        means = own[torch.randperm(len(own), generator=rng)[:3]]
        for _ in range(20):
            nearest = ((own[:, None] - means) ** 2).sum(-1).argmin(1)
            means = torch.stack([own[nearest == k].mean(0) if (nearest == k).any() else means[k] for k in range(3)])
        souls.append(means)
    optimizer = adam([*w.values()])

    def fakes(x: Tensor, labels: Tensor) -> Tensor:
        return from_scratch(w, torch.randn(len(labels), D, generator=rng), labels)

    def nearest_soul(x: Tensor, label: int) -> Tensor:
        return ((x - souls[label]) ** 2).sum(-1).min()

    def generator_step(x: Tensor, labels: Tensor, fake: Tensor, score: Tensor) -> dict[str, Tensor]:
        drawn = fakes(x, torch.arange(SEEN).repeat_interleave(20)).view(SEEN, 20, D).mean(1)
        terms = {
            "adversarial": -score,
            "classification": 0.01 * loss(fake, labels),
            "souls": 0.001 * torch.stack([nearest_soul(f, int(c)) for f, c in zip(fake, labels, strict=True)]).mean(),
            "mean_souls": 0.01 * torch.stack([nearest_soul(drawn[c], c) for c in range(SEEN)]).mean(),
        }
        step(optimizer, sum(terms.values(), torch.zeros(())), [*w.values()])
        return terms

    return wgan(rng, fakes, generator_step)


class VaeGan:
    """f-VAEGAN; with an attribute decoder, and with feedback in every other step from the second on, TF-VAEGAN."""

    def __init__(self, name: str, *, encoded_noise: bool = True, freeze_dec: bool = False) -> None:
        self.w, self.rng = start(name, encoded_noise=encoded_noise, freeze_dec=freeze_dec)
        self.encoded_noise, self.freeze_dec, self.feeds_back = encoded_noise, freeze_dec, False
        self.dec, self.f = of(self.w, "attribute_decoder."), of(self.w, "feedback.")
        self.rest = [*of(self.w, "encoder."), *of(self.w, "decoder.")]
        self.optimizers = [adam(of(self.w, "encoder."), beta=0.9), adam(of(self.w, "decoder."))]
        if self.dec:
            self.dec_optimizer, self.f_optimizer = adam(self.dec), adam(self.f, 0.00001)

    def losses(self) -> Losses:
        return wgan(self.rng, self.fakes, self.generator_step, on_real=self.on_real)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def decode(self, z: Tensor, a: Tensor) -> Tensor:
        hidden = leaky(self.linear("decoder.0", torch.cat([z, a], -1)))
        first = unit(self.linear("decoder.2", hidden))
        if not self.feeds_back:
            return first
        correction = leaky(net(self.w, "feedback.0.", leaky(self.linear("attribute_decoder.0", first)).detach(), 0.2))
        return unit(self.linear("decoder.2", hidden + correction))

    def attribute_loss(self, x: Tensor, a: Tensor) -> Tensor:
        error = unit(net(self.w, "attribute_decoder.", x, 0.2)) - a
        return (error**2 / error.pow(2).sum(-1, keepdim=True).sqrt() * error.abs()).sum(-1).mean()

    def posterior(self, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = net(self.w, "encoder.", torch.cat([x, a], -1), 0.2).chunk(2, -1)
        return mu, log_var

    def reconstruct(self, x: Tensor, a: Tensor) -> Tensor:
        mu, log_var = self.posterior(x, a)
        return self.decode(mu + (log_var / 2).exp() * torch.randn(mu.shape, generator=self.rng), a)

    def fakes(self, x: Tensor, labels: Tensor) -> Tensor:
        a = TEXTS[labels]
        return (
            self.reconstruct(x, a) if self.encoded_noise else self.decode(torch.randn(a.shape, generator=self.rng), a)
        )

    def on_real(self, x: Tensor, labels: Tensor) -> None:
        if self.dec:
            step(self.dec_optimizer, self.attribute_loss(x, TEXTS[labels]), self.dec)

    def generator_step(self, x: Tensor, labels: Tensor, fake: Tensor, score: Tensor) -> dict[str, Tensor]:
        a = TEXTS[labels]
        x_hat = fake if self.encoded_noise else self.reconstruct(x, a)
        reconstruction, kl = vae_terms(x, x_hat, *self.posterior(x, a))
        terms = {"adversarial": -10 * score, "reconstruction": reconstruction, "kl": kl}
        stepping = [*self.optimizers]
        if self.dec:
            terms["attributes"] = 0.01 * self.attribute_loss(fake, a)
            stepping += [] if self.freeze_dec else [self.dec_optimizer]
            stepping += [self.f_optimizer] if self.feeds_back else []
            self.feeds_back = not self.feeds_back

        learning = [p for optimizer in stepping for group in optimizer.param_groups for p in group["params"]]
        total = sum(terms.values(), torch.zeros(()))
        for parameter, grad in zip(learning, torch.autograd.grad(total, learning), strict=True):
            parameter.grad = grad
        for optimizer in stepping:
            optimizer.step()
        return terms


def case(name: str, **changes: Any) -> tuple[str, dict[str, Any], Callable[[], Losses]]:
    return name, changes, lambda: VaeGan(name, **changes).losses()


CASES: dict[str, tuple[str, dict[str, Any], Callable[[], Losses]]] = {
    "ship": ("ship", {}, lambda: vae("ship", prompted)),
    "ship_plus": ("ship_plus", {}, lambda: vae("ship_plus", prompted)),
    "vae_scratch": ("vae_scratch", {}, lambda: vae("vae_scratch", from_scratch)),
    "gan_clip": ("gan_clip", {}, lambda: plain_gan("gan_clip", prompted, TOWER.config.width)),
    "gan_scratch": ("gan_scratch", {}, lambda: plain_gan("gan_scratch", from_scratch, TOWER.config.width)),
    "f_clswgan": ("f_clswgan", {}, f_clswgan),
    "cycle_wgan": ("cycle_wgan", {}, cycle_wgan),
    "lisgan": ("lisgan", {}, lisgan),
    "f_vaegan": case("f_vaegan"),
    "f_vaegan on FLO": case("f_vaegan", encoded_noise=False),
    "tf_vaegan": case("tf_vaegan"),
    "tf_vaegan on AWA": case("tf_vaegan", freeze_dec=True),
    "tf_vaegan on FLO": case("tf_vaegan", encoded_noise=False),
}


@pytest.mark.parametrize("which", CASES)
def test_ten_steps_are_those_of_the_equations(which: str) -> None:
    name, changes, transcription = CASES[which]
    ours, plain = logged(name, **changes), transcription()
    assert len(ours) == STEPS
    for row, expected in zip(ours, plain, strict=True):
        found = {key: row[key] for key in expected}
        assert found == pytest.approx(expected, rel=1e-5, abs=5e-6)


def test_every_generator_has_a_case() -> None:
    assert {name for name, _, _ in CASES.values()} == {*names(pipeline.generators)}
