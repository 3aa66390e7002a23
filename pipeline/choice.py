"""Which run to use for new images: what stage `select` writes, and `predict` and `export` read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.errors import InputError
from features.settings import Settings, parse
from pipeline.scores import EncoderId, Percent


class Validated(Settings):
    """A run on validation; accuracies are means over classes and then over seeds, among all classes of the task.

    Attributes:
        run: `coop`, or `coop+ship`. seen: on images of seen classes. unseen: on held-out synthetic features of unseen
            ones. score: their harmonic mean, or the one that there is; the highest is chosen. low, high: 95 % of its
            bootstrap. reason: why there is no score.
    """

    run: str
    seen: Percent | None = None
    unseen: Percent | None = None
    score: Percent | None = None
    low: Percent | None = None
    high: Percent | None = None
    reason: str | None = None


WARNING = (
    "  take care: no photograph of an unseen class was at hand. Synthetic features flatter a run that was fitted on\n"
    "  others of the same generator, and the samples do not see it: such a run may be chosen and fail on photographs.\n"
    "  Give some unseen classes test images, and read the report before you use it"
)


class Choice(Settings):
    """The run, and the seed of it, to use.

    Attributes:
        images, draws: how many validation images and held-out synthetic features there were.
        confidence: in how many of 100 bootstrap samples the run is the best; None without validation.
        temperature: what logits are divided by; None without validation images, which calibrate it.
        runs: all that were compared, in the order of the grid.
    """

    dataset: str
    task: str
    encoder: EncoderId
    run: str
    method: str
    seed: int
    images: int
    draws: int
    confidence: Percent | None
    temperature: Annotated[float, Field(gt=0)] | None
    runs: Annotated[tuple[Validated, ...], Field(min_length=1, strict=False)]

    def of(self, run: str) -> Validated | None:
        """A run on validation, None if it was not compared."""
        return next((found for found in self.runs if found.run == run), None)


def read_choice(path: Path) -> Choice:
    """Read what `select` wrote.

    Raises:
        InputError: it is not there yet, or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"nothing is chosen yet: there is no {path}; `shipyard run {path.parent.name}` makes it"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; remove it and run `dvc repro select`") from error
    return parse(Choice, values, str(path))


def choice_text(choice: Choice) -> str:
    """What a person wants to know of it, in a few lines."""
    lines = [f"{choice.dataset}: for new images `{choice.run}`, seed {choice.seed}, is chosen"]
    if choice.confidence is None:
        return lines[0] + ", for there is no validation image to choose by"
    on = [f"{choice.images} validation images of seen classes"] * bool(choice.images)
    on += [f"{choice.draws} synthetic features of unseen ones"] * bool(choice.draws)
    lines.append(f"  judged on {' and '.join(on)}; the best in {choice.confidence:.0f} of 100 bootstrap samples")
    for run in dict.fromkeys([choice.run, "zero_shot"]):
        if (found := choice.of(run)) and found.score is not None:
            parts = [("seen", found.seen), ("unseen (synthetic)", found.unseen)]
            said = ", ".join(f"{name} {value:.1f}" for name, value in parts if value is not None)
            lines.append(f"  {run}: {found.score:.1f} (95 % of samples: {found.low:.1f} to {found.high:.1f}); {said}")
    if choice.draws:
        lines.append(WARNING)
    return "\n".join(lines)
