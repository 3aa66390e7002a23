"""A small grid of made-up score files. Their means can be checked by hand."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from features.formats.files import write_mark
from features.formats.seal import write_sealed_json
from pipeline.artifacts.generator_scores import GeneratorQuality, SeedQuality
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.scores import EncoderId, Scores, SeedScores, SplitScore, grid_runs, score_path, write_scores
from pipeline.config.params import Params, load

ROOT = Path(__file__).parents[2]
TAKEN = (("cat", 30), ("sea <horse>", 10))
POINTS = [(name, kind, i) for name in ("kite", "drum") for kind in ("real", "synthetic") for i in range(3)]
NO_NEW = "a cache of <images> cannot score a class without images"
Pair = tuple[float, float | None, float | None]  # base, new and H, computed by hand
RUNS: dict[str, tuple[Pair, Pair]] = {  # seeds 1 and 2
    "zero_shot": ((80.0, 80.0, 80.0), (80.0, 80.0, 80.0)),
    "coop": ((90.0, 60.0, 72.0), (90.0, 45.0, 60.0)),
    "coop+ship": ((80.0, 80.0, 80.0), (90.0, 72.0, 80.0)),
    "tip_adapter_f": ((95.0, None, None), (93.0, None, None)),
    "tip_adapter_f+ship": ((96.0, 48.0, 64.0), (60.0, 30.0, 40.0)),
}


def made_params(**grid: Any) -> Params:
    params = load(ROOT / "params.yaml")
    small = {
        "datasets": ["caltech101"],
        "methods": ["zero_shot", "coop", "tip_adapter_f"],
        "synthetic_methods": ["coop", "tip_adapter_f"],
        "seeds": [1, 2],
    }
    return Params.model_validate({**params.model_dump(), "grid": {**params.grid.model_dump(), **small, **grid}})


def seed_scores(seed: int, pair: Pair, n: int = 40) -> SeedScores:
    def score(accuracy: float | None) -> SplitScore:
        reason = NO_NEW if accuracy is None else None
        return SplitScore(accuracy=accuracy, n=n, classes=4, average="micro", reason=reason)

    return SeedScores(seed=seed, eval_splits={"base": score(pair[0]), "new": score(pair[1])}, harmonic_mean=pair[2])


def put_scores(params: Params, **changed: Any) -> None:
    """Write every score file of the grid; `changed` replaces fields of the scores of `coop`."""
    for cell in grid_runs(params):
        scores = Scores(
            dataset=cell.dataset,
            trained_on=cell.dataset,
            task=cell.task,
            protocol="base_to_new",
            run=cell.run,
            method=cell.method,
            generator=cell.generator,
            shots=None if cell.method == "zero_shot" else 16,
            encoder=EncoderId(name=params.grid.encoder, weights_sha256="0" * 64),
            harmonic=("base", "new"),
            seeds=tuple(seed_scores(seed, RUNS[cell.run][seed - 1]) for seed in (1, 2)),
        )
        if cell.run == "coop":
            scores = scores.model_copy(update=changed)
        write_scores(score_path(params.artifacts, cell), scores)
        put_diagnostics(cell.run, EncoderPaths(params.artifacts).cell(cell.dataset, cell.task).diagnostics(cell.run))
    put_qualities(params)


def put_diagnostics(run: str, folder: Path) -> None:
    """Write the diagnostics of `evaluate`: two evaluation splits, and a learning curve of CoOp's runs."""
    folder.mkdir(parents=True)
    lines = [f"{eval_split},cat,{other},{n}\n" for eval_split in ("base", "new") for other, n in TAKEN]
    (folder / "confusion.csv").write_text("eval_split,class,predicted,images\n" + "".join(lines))
    bins = [
        f"{eval_split},{b},10,{c},{a}\n" for eval_split in ("base", "new") for b, c, a in ((3, 25, 20), (14, 97, 90))
    ]
    (folder / "reliability.csv").write_text("eval_split,bin,images,confidence,accuracy\n" + "".join(bins))
    if "tip_adapter_f" in run:
        ended = "1,alpha,9.505,0.1,9.505\n1,beta,3,0.1,7\n2,alpha,9.505,0.1,9.505\n"
        (folder / "searches.csv").write_text("seed,setting,value,lowest,highest\n" + ended)
    if "coop" in run:
        near = [f"1,,,0,{vector},{rank},7,word{vector}{rank},0.5\n" for vector in (0, 1) for rank in (2, 1)]
        (folder / "words.csv").write_text("seed,class,image,context,vector,rank,token,word,distance\n" + "".join(near))
        (folder / "training.csv").write_text("seed,epoch,loss\n1,1,2.0\n1,2,1.0\n2,1,4.0\n2,2,0.5\n")
    write_mark(folder)


def put_qualities(params: Params) -> None:
    """Write the measures of every generator and the diagnostics of `visualize_features`."""
    for dataset, task, name in product(params.grid.datasets, params.grid.tasks, params.grid.generators):
        folder = EncoderPaths(params.artifacts).cell(dataset, task).generator_diagnostics(name)
        folder.mkdir(parents=True)
        points = [f"{how},{c},{kind},{i},{i * i}\n" for how in ("pca", "umap") for c, kind, i in POINTS]
        (folder / "projection.csv").write_text("projection,class,kind,x,y\n" + "".join(points))
        (folder / "training.csv").write_text("seed,epoch,reconstruction,kl\n1,1,1.7,0.03\n1,2,1.5,0.01\n")
        write_mark(folder)
        quality = GeneratorQuality(
            dataset=dataset,
            task=task,
            generator=name,
            encoder=EncoderId(name=params.grid.encoder, weights_sha256="0" * 64),
            images=40,
            classes=2,
            named=3,
            per_class=8,
            seeds=tuple(
                SeedQuality(
                    seed=seed,
                    unseen={"frechet": frechet, "nearest_mean_accuracy": accuracy},
                    nearest_mean={"cat": 70.0, "sea <horse>": 2 * accuracy - 70.0},
                    seen={"spread_real": 0.037},
                    latent={"kl": 0.02},
                    kl_by_latent=[0.02, 0.0],
                )
                for seed, frechet, accuracy in ((1, 0.25, 60.0), (2, 0.45, 70.0))
                if seed in params.grid.seeds
            ),
        )
        path = EncoderPaths(params.artifacts).cell(dataset, task).quality(name)
        write_sealed_json(path, quality.model_dump(mode="json"))


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter an empty project with the published tables and without scores."""
    (folder / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(folder)
