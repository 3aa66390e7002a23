"""`python -m benchmarks.validation_budget DATASET TASK`: LP++ by the validation images that its step is chosen on.

Prints the test accuracy, the mean over the seeds of the grid, with all validation images and with as many per class as
there are shots, drawn 200 times. `build_task` must have run; nothing is written.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from features.runtime.commandline import run_app
from pipeline.artifacts.paths import EncoderPaths, TaskPaths
from pipeline.artifacts.task import load_task, load_test, load_train
from pipeline.config.params import load
from pipeline.methods._validation import first_per_label
from pipeline.methods.lp_plus_plus import LpPlusPlus, Probe

DRAWS = 200
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def descent(cell: TaskPaths, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which validation images are right after each step (300, V), their labels (V,), and test accuracies (300,).

    Of a task in which all classes are seen.
    """
    task, settings = load_task(cell), LpPlusPlus()
    train, validation = task.seed(seed), load_train(cell.validation).seed(seed)
    test = load_test(cell.test)[1][0].rows.tensors()
    probe = Probe(train.centre, train.labels, task.classes.text_features)

    right, accuracies = [], []
    for step in range(1, settings.steps + 1):
        probe.step(move_alpha=step % settings.alpha_every == 0)
        weights, bias = probe.weights()
        right.append(F.linear(validation.centre, weights, bias).argmax(1) == validation.labels)
        accuracies.append((F.linear(test.centre, weights, bias).argmax(1) == test.labels).float().mean() * 100)
    return torch.stack(right), validation.labels, torch.stack(accuracies)


def chosen(right: Tensor, images: Tensor) -> int:
    """Return the last of the steps that are best on some of the images."""
    counts = right[:, images].sum(1)
    return int((counts == counts.max()).nonzero()[-1])


@app.command()
def main(
    dataset: Annotated[str, typer.Argument()] = "caltech101", task: Annotated[str, typer.Argument()] = "few_shot_1"
) -> None:
    """Print both."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    shots = load_train(cell.train).header.shots or 1
    rng = torch.Generator().manual_seed(0)

    whole, drawn = [], []
    for seed in params.grid.seeds:
        right, labels, accuracies = descent(cell, seed)
        whole.append(accuracies[chosen(right, torch.arange(len(labels)))])
        orders = (torch.randperm(len(labels), generator=rng) for _ in range(DRAWS))
        steps = [chosen(right, order[first_per_label(labels[order], shots)]) for order in orders]
        drawn.append(accuracies[steps])

    means = torch.stack(drawn).mean(0)
    low, high = means.quantile(torch.tensor([0.025, 0.975])).tolist()
    print(f"all {len(labels):,} validation images: {float(torch.stack(whole).mean()):.2f}")
    print(f"{shots} per class: {float(means.mean()):.2f}, 95 % of {DRAWS} draws {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    run_app(app, "nothing was written; start again")
