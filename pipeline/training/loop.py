"""The training loop that methods share: mixed batches of real and synthetic features, and the descent over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError
from features.runtime.interruption import raise_lost_interrupt
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.log import report_epoch

Rate = Callable[[int], float]  # step -> factor of the learning rate
Loss = Callable[[Tensor, Tensor], Tensor]  # features (B, D), labels (B,) -> ()


@dataclass(frozen=True)
class Batches:
    """Batches of one training run: real images once per epoch, in a random view, with synthetic features added.

    SHIP section 4.1: "randomly synthesize a batch of new class features and combine them with the original batch".

    Attributes:
        train: (N, K, D) real features.
        synthetic: (M, 1, D) synthetic features, or None.
        epochs: passes over the N images.
        batch: real images per step; the last batch of an epoch may be smaller.
        synthetic_ratio: synthetic features per real one in a step.
        rng: on the CPU; draws order, views and synthetic features.
        drop_last: whether that smaller batch is left out, as Dassl does if there are enough images for a full one.
        mix_views: whether the batches are drawn from all N K views instead, so that an image can come in several views
            (CLAP's code). The number of steps stays the same.
    """

    train: LabelledFeatures
    synthetic: LabelledFeatures | None
    epochs: int
    batch: int
    synthetic_ratio: float
    rng: torch.Generator
    drop_last: bool = False
    mix_views: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps in one pass over the real images."""
        count = len(self.train)
        return max(1, count // self.batch) if self.drop_last else math.ceil(count / self.batch)

    @property
    def steps(self) -> int:
        """Return the optimizer steps in the whole run."""
        return self.epochs * self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield unit features (B, D) on the device and their labels (B,) on the host, where steps are laid out."""
        for _ in range(self.epochs):
            for rows, views in islice(self._shuffled(), self.steps_per_epoch):
                raise_lost_interrupt()

                features = gather(self.train.unit, rows, views)
                labels = self.train.host_labels[rows]
                if self.synthetic is not None:
                    drawn = self._draw_synthetic(self.synthetic, len(rows))
                    features = torch.cat([features, gather(self.synthetic.centre, drawn)])
                    labels = torch.cat([labels, self.synthetic.host_labels[drawn]])
                yield features, labels

    def _shuffled(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the images (B,) of each batch of an epoch, and the view (B,) of each."""
        n, k = self.train.features.shape[:2]
        if self.mix_views:
            order = torch.randperm(n * k, generator=self.rng)
            rows, views = order // k, order % k
        else:
            rows = torch.randperm(n, generator=self.rng)
            views = torch.randint(k, (n,), generator=self.rng)[rows]
        return zip(torch.split(rows, self.batch), torch.split(views, self.batch), strict=True)

    def _draw_synthetic(self, synthetic: LabelledFeatures, real: int) -> Tensor:
        """Return rows drawn with replacement; uniform over classes, because the pool has equally many of each."""
        return torch.randint(len(synthetic), (round(self.synthetic_ratio * real),), generator=self.rng)


def trained_classes(classes: ClassSet, synthetic: LabelledFeatures | None) -> Tensor:
    """Return the classes (T,) that the loss ranges over: the seen ones, or all if there are synthetic features."""
    return classes.seen_ids if synthetic is None else torch.arange(len(classes), device=classes.seen.device)


def index_by_label(ids: Tensor, count: int) -> Tensor:
    """Return (count,) int64: the index in `ids` of each of the task's classes, -1 for a class that is not in it."""
    index = torch.full((count,), -1, dtype=torch.int64, device=ids.device)
    index[ids] = torch.arange(len(ids), device=ids.device)
    return index


def minimise(
    batches: Batches,
    logits: Callable[[Tensor], Tensor],
    target: Tensor,
    optimizer: torch.optim.Optimizer,
    rate: Rate,
) -> None:
    """Minimise the cross-entropy of `logits(features (B, D)) -> (B, T)` by one optimizer step per batch.

    Args:
        batches: features and labels.
        logits: of the T trained classes; called with gradients on.
        target: (C,) index of each class among the T (`index_by_label`).
        optimizer: over the method's own parameters.
        rate: step -> factor of the optimizer's learning rate.

    Raises:
        InputError: a parameter is not finite at the end.
    """
    descend(batches, lambda features, labels: F.cross_entropy(logits(features), target[labels]), optimizer, rate)


def descend(
    batches: Batches,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    rate: Rate,
    after_epoch: Callable[[int], None] = lambda _: None,
) -> None:
    """Minimise `loss(features (B, D), labels (B,)) -> ()` by one optimizer step per batch.

    The host waits for the device once per epoch, to report the loss. Then `after_epoch` is called with the number of
    epochs that are done.

    Raises:
        InputError: a parameter is not finite at the end.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    total: Tensor | float = 0.0

    for step, (features, labels) in enumerate(batches, 1):
        value = loss(features, labels.to(features.device, non_blocking=True))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

        total += value.detach()  # stays on the device until the epoch ends
        epoch, step_in_epoch = divmod(step, batches.steps_per_epoch)
        if step_in_epoch == 0:
            report_epoch({"epoch": epoch, "loss": float(total) / batches.steps_per_epoch}, batches.epochs)
            total = 0.0
            after_epoch(epoch)

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise InputError("training diverged: parameters are not finite; lower this method's `learning_rate`")


def cosine(steps: int) -> Rate:
    """Return a cosine decay to 0 over `steps`, with one value per step."""
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))


def warm_cosine(batches: Batches, learning_rate: float) -> Rate:
    """Return the schedule of CoOp's code: the first epoch at 1e-5, then a cosine, with one value per epoch.

    Epoch e > 0 of T has the factor (1 + cos(pi (e - 1) / T)) / 2: Dassl restarts its cosine after the warm-up epoch
    (WARMUP_RECOUNT), so the next epoch has the full rate, and the last one does not reach 0.
    """

    def rate(step: int) -> float:
        epoch = step // batches.steps_per_epoch
        return 1e-5 / learning_rate if epoch == 0 else 0.5 * (1 + math.cos(math.pi * (epoch - 1) / batches.epochs))

    return rate
