"""The benchmarks are fair: on the same features the reference has the losses of this project."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from project_root import ROOT
from torch import Tensor
from torch.nn import functional as F

from benchmarks import __main__, balance, loading, tip_grid
from benchmarks.material import class_set, features, photographs, text_tower
from benchmarks.measure import Row, in_turn, table, verdict
from benchmarks.reference import Images, coop_losses, encode_prompts, full_tokens, vae_losses
from features.errors import InputError
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower
from pipeline.generators._vae import elbo_terms, reparameterize
from pipeline.generators.ship import Ship
from pipeline.methods._prompt_learning import class_weights
from pipeline.training.seeds import stream

NAMES = ["cat", "grand piano", "sea_horse", "joshua tree"]
LABELS = torch.arange(8) % 4


@pytest.fixture(scope="module")
def model() -> Any:
    import open_clip

    torch.manual_seed(0)
    liteclip = ROOT / "assets" / "liteclip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_clip.create_model(f"local-dir:{liteclip}").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tower(model: Any) -> TextTower:
    return text_tower(model)


def batches(dim: int) -> Iterator[tuple[Tensor, Tensor]]:
    given = features(LABELS, 1, dim)
    while True:
        yield given.centre, LABELS


def test_full_and_shortened_prompts_give_the_same_features(model: Any, tower: TextTower) -> None:
    context = torch.randn(1, 4, tower.config.width, generator=stream(0, "x"))
    ours = class_weights(tower, context, class_tokens(NAMES, context_length=77, prompt=4))[0]
    torch.testing.assert_close(encode_prompts(model, context, full_tokens(NAMES, 4)), ours, atol=1e-5, rtol=1e-5)


def test_the_reference_has_the_first_losses_of_coop(model: Any, tower: TextTower) -> None:
    classes, scale = class_set(tower, NAMES), tower.config.logit_scale
    start = 0.02 * torch.randn(1, 4, tower.config.width, generator=stream(0, "x"))
    theirs = coop_losses(
        model, start.clone().requires_grad_(), full_tokens(NAMES, 4), batches(tower.config.embed_dim), rate=0.02
    )
    ours, context = [], start.clone().requires_grad_()
    for (given, labels), _ in zip(batches(tower.config.embed_dim), range(3), strict=False):
        loss = F.cross_entropy(scale * given @ class_weights(tower, context, classes.tokens)[0].T, labels)
        (gradient,) = torch.autograd.grad(loss, context)
        context = (context - 0.02 * gradient).detach().requires_grad_()
        ours.append(float(loss.detach()))
    assert [next(theirs) for _ in range(3)] == pytest.approx(ours, rel=1e-4)
    assert ours[0] != pytest.approx(ours[2], rel=1e-3)


def test_the_reference_has_the_first_losses_of_the_vae(model: Any, tower: TextTower) -> None:
    classes = class_set(tower, NAMES)
    start, again = (Ship(encoder_width=64, generator_width=64).build(384, tower, stream(1, "x")) for _ in range(2))
    theirs = vae_losses(model, start, full_tokens(NAMES, 4), batches(384), stream(2, "x"))
    ours, rng = [], stream(2, "x")
    optimizer = torch.optim.AdamW(again.parameters(), 1e-3, weight_decay=0.01)
    for (x, labels), _ in zip(batches(384), range(3), strict=False):
        mu, log_var = again.posterior(x)
        x_hat = again.decode(reparameterize(mu, log_var, rng), classes.tokens[labels], tower)
        terms = elbo_terms(x, x_hat, mu, log_var)
        optimizer.zero_grad()
        sum(terms, torch.zeros(())).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ours.append(float(sum(terms, torch.zeros(())).detach()))
    assert [next(theirs) for _ in range(3)] == pytest.approx(ours, rel=1e-4)
    assert ours[0] != pytest.approx(ours[2], rel=1e-3)


def test_images_are_encoded_in_fresh_views(model: Any, tmp_path: Path) -> None:
    images = Images(model, photographs(tmp_path, 1))
    first, second = images.encode([0, 0])
    assert first.shape == (384,)
    assert float(first @ first) == pytest.approx(1, rel=1e-5)
    assert not torch.equal(first, second)


@pytest.fixture
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tip_grid, "VALIDATION", 50)
    monkeypatch.setattr(tip_grid, "CLASSES", 10)
    monkeypatch.setattr(tip_grid, "in_turn", partial(in_turn, repeats=1))
    monkeypatch.setattr(loading, "COUNT", 20_000)


def test_cheap_benchmarks_run_and_fill_the_table(smaller: None) -> None:
    rows = [*tip_grid.rows(small=True), *loading.rows(small=True)]
    assert all(row.ratio > 0 and row.machine for row in rows)
    assert f" {rows[0].ratio:g} " in table(rows)


@pytest.fixture
def kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep rows in a folder of the test; return the page of the table."""
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    monkeypatch.setattr(__main__, "LATEST", tmp_path / "latest.json")
    monkeypatch.setattr(__main__, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("".join(["before\n", *__main__.MARKS, "after\n"]), encoding="utf-8")
    return tmp_path / "page.md"


def test_a_run_of_all_comparisons_removes_older_rows_of_its_machine(
    kept_elsewhere: Path, smaller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(__main__, "NAMES", ("tip_grid",))
    older = Row.of("measured by an older program", 2, 10, at_least=4)
    __main__.keep([older, replace(older, machine="another")])
    __main__.main(["tip_grid"])
    assert len(__main__.read_latest()) == 3
    __main__.main()
    other, row = __main__.read_latest()
    assert other.machine == "another"
    assert row.name.startswith("alpha, beta")


def test_the_ratio_is_how_many_times_better_this_project_is() -> None:
    assert Row.of("time", 2, 10, at_least=4).ratio == 5
    assert Row.of("speed", 30, 10, unit="images/s", at_least=4).ratio == 3
    assert [verdict(Row.of("x", 2, 10, at_least=least)) for least in (5, 6)] == ["ok", "MISSED"]


def test_works_run_in_turn() -> None:
    order: list[str] = []
    in_turn(lambda: order.append("a"), lambda: order.append("b"), repeats=2)
    assert order == ["a", "b"] * 3


def test_new_rows_replace_those_of_their_name_and_machine(kept_elsewhere: Path) -> None:
    one, two = Row.of("one", 2, 10, at_least=4), Row.of("two", 2, 10, at_least=6)
    __main__.keep([one, two])
    __main__.keep([Row.of("two", 1, 10, at_least=6), replace(one, machine="another")])
    assert [(row.name, row.ratio) for row in __main__.read_latest()] == [("one", 5), ("two", 10), ("one", 5)]


def test_the_page_has_a_row_for_each_benchmark_and_a_column_for_each_machine(kept_elsewhere: Path) -> None:
    one, two = Row.of("one", 2, 10, at_least=4), Row.of("two", 2, 10, at_least=6)
    __main__.keep([one, two, replace(two, machine="another", ours=1.0, ratio=10.0)])
    page = kept_elsewhere.read_text(encoding="utf-8")
    before, *lines, after = [line for line in page.splitlines() if line and not line.startswith("<!--")]
    assert (before, after) == ("before", "after")
    assert lines[2:4] == ["| one | s | 4 | 2 / 10: 5 | - |", "| two | s | 6 | 2 / 10: 5 MISSED | 1 / 10: 10 |"]
    assert [line.startswith(f"Machine {number}: ") for number, line in enumerate(lines[4:], 1)] == [True, True]


def test_committed_numbers_are_complete_and_equal_to_the_page() -> None:
    rows = json.loads(__main__.LATEST.read_text(encoding="utf-8"))
    assert rows
    assert all(list(row) == [field.name for field in fields(Row)] for row in rows)
    page = __main__.PAGE.read_text(encoding="utf-8")
    assert __main__.in_page(page, __main__.read_latest()) == page


def test_the_tables_of_balance_compare_runs_and_generators() -> None:
    alone = balance.Row("taskres", plain=40, chosen=50, keep=45, best=52, predicted=60, area=30)
    more = balance.Row("taskres+ship", plain=20, chosen=48.5, keep=46, best=53, predicted=70, area=31)
    head, of_task, of_all = balance.summary({"a": [alone, more]}, {"a": "taskres+ship"})
    cells = dict(zip(head, of_task, strict=True))
    assert [cells[key] for key in ("plain", "chosen", "best", "chosen / best")] == ["30.0", "49.2", "52.5", "0.938"]
    assert [cells[key] for key in ("lose > 1", "worst", "selected", "share", "order")] == [
        *("0", "+10.0", "taskres+ship", "0.970", "-1.00")
    ]
    assert of_all[1:8] == of_task[1:8]
    assert balance.gains({"a": [alone, more]})[1:] == [["a", "taskres+ship", "-20.0", "-1.5", "+1.0"]]


def test_selections_are_found_in_several_folders_and_a_task_of_two_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / name / "liteclip/selection/textures-10" for name in "ab"]
    for folder, task in zip(paths, ("few_shot", "class_incremental"), strict=True):
        folder.mkdir(parents=True)
        (folder / f"{task}.json").touch()
    folders = [tmp_path / name for name in "ab"]
    found = balance.find_selections(folders)
    assert [(name, cell.selection) for name, cell in found.items()] == [
        ("liteclip, textures-10, few_shot", paths[0] / "few_shot.json"),
        ("liteclip, textures-10, class_incremental", paths[1] / "class_incremental.json"),
    ]

    (paths[1] / "few_shot.json").touch()
    with pytest.raises(InputError, match=r"b/liteclip/selection/textures-10/few_shot\.json"):
        balance.find_selections(folders)
    with pytest.raises(InputError, match="no selection"):
        balance.find_selections([tmp_path / "c"])
