"""What every trained method shares: mixed batches of real and synthetic features, and the loop over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.log import report_epoch

Rate = Callable[[int], float]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Batches:
    """Batches of one training run: every real image once an epoch, in a random view, and synthetic ones beside them.

    SHIP section 4.1: "randomly synthesize a batch of new class features and combine them with the original batch".

    Attributes:
        train: (N, K, D) real features. synthetic: (M, 1, D) or None.
        epochs: passes over the N images. batch: real images a step; the last, smaller batch is kept.
        synthetic_ratio: synthetic features a real one in a step.
        rng: on the CPU; draws order, views and synthetic features.
    """

    train: LabelledFeatures
    synthetic: LabelledFeatures | None
    epochs: int
    batch: int
    synthetic_ratio: float
    rng: torch.Generator

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the real images."""
        return math.ceil(len(self.train) / self.batch)

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole run."""
        return self.epochs * self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield unit features (B, D) of each step and, on the host, which lays the step out, their labels (B,)."""
        n, views = self.train.features.shape[:2]
        for _ in range(self.epochs):
            order = torch.randperm(n, generator=self.rng)
            view = torch.randint(views, (n,), generator=self.rng)
            for rows in torch.split(order, self.batch):
                features, labels = gather(self.train.unit, rows, view[rows]), self.train.host_labels[rows]
                if self.synthetic is not None:
                    drawn = self._draw_synthetic(self.synthetic, len(rows))
                    features = torch.cat([features, gather(self.synthetic.centre, drawn)])
                    labels = torch.cat([labels, self.synthetic.host_labels[drawn]])
                yield features, labels

    def _draw_synthetic(self, synthetic: LabelledFeatures, real: int) -> Tensor:
        """Rows drawn with replacement; uniform over classes, for the pool holds as many of each."""
        return torch.randint(len(synthetic), (round(self.synthetic_ratio * real),), generator=self.rng)


def trained_classes(classes: ClassSet, synthetic: LabelledFeatures | None) -> Tensor:
    """(T,) positions of the classes that the loss ranges over: the seen, or all when synthetic features stand in."""
    return classes.seen_ids if synthetic is None else torch.arange(len(classes), device=classes.seen.device)


def index_by_label(ids: Tensor, count: int) -> Tensor:
    """(count,) int64: where each of the task's classes stands among `ids`; -1 where it does not."""
    found = torch.full((count,), -1, dtype=torch.int64, device=ids.device)
    found[ids] = torch.arange(len(ids), device=ids.device)
    return found


def minimise(
    batches: Batches,
    logits: Callable[[Tensor], Tensor],
    target: Tensor,
    optimizer: torch.optim.Optimizer,
    rate: Rate,
) -> None:
    """Minimise the cross-entropy of `logits(features (B, D)) -> (B, T)` by one optimizer step a batch.

    Args:
        batches: of features and labels.
        logits: of the T trained classes; called with gradients on.
        target: (C,) place of each class among the T.
        optimizer: over the method's own parameters.
        rate: step -> factor of the optimizer's learning rate.

    Raises:
        InputError: a parameter is no longer finite at the end.
    """
    descend(batches, lambda features, labels: F.cross_entropy(logits(features), target[labels]), optimizer, rate)


def descend(batches: Batches, loss: Loss, optimizer: torch.optim.Optimizer, rate: Rate) -> None:
    """Minimise `loss(features (B, D), labels (B,)) -> ()` by one optimizer step a batch.

    The host waits for the device once an epoch, to tell the loss.

    Raises:
        InputError: a parameter is no longer finite at the end.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    total: Tensor | float = 0.0
    for step, (features, labels) in enumerate(batches, 1):
        value = loss(features, labels.to(features.device, non_blocking=True))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += value.detach()
        if step % batches.steps_per_epoch == 0:
            report_epoch(
                {"epoch": step // batches.steps_per_epoch, "loss": float(total) / batches.steps_per_epoch},
                batches.epochs,
            )
            total = 0.0
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise InputError("training diverged: parameters are not finite; lower this method's `learning_rate`")


def cosine(steps: int) -> Rate:
    """Cosine decay to 0 over `steps`, one value a step."""
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))


def warm_cosine(batches: Batches, learning_rate: float) -> Rate:
    """Dassl's schedule: the first epoch at 1e-5, then the cosine over all epochs, one value an epoch."""

    def rate(step: int) -> float:
        epoch = step // batches.steps_per_epoch
        return 1e-5 / learning_rate if epoch == 0 else 0.5 * (1 + math.cos(math.pi * epoch / batches.epochs))

    return rate
