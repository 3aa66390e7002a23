"""What the report says, against numbers computed by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_up_scores import NO_NEW, RUNS, enter, made_params, put_scores, seed_scores

from features.encoding.definition import EncoderSpec
from features.errors import InputError
from pipeline.artifacts.scores import EncoderId, SeedScores, grid_runs, read_scores, score_path, write_scores
from pipeline.config.params import Params
from pipeline.report import published
from pipeline.report.build import read_grid, summarize, write_report
from pipeline.report.console import read_summary, results_text, table_text
from pipeline.report.figures import Figure
from pipeline.report.formatting import caption, gain_sentences, notes
from pipeline.report.generators import far_sentences, generator_caption, read_qualities
from pipeline.report.published import ENCODERS, Identity, identify
from pipeline.report.summary import GeneratorRow, Measure, Table


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)


def made_table(params: Params | None = None, **changed: Any) -> Table:
    params = params or made_params()
    put_scores(params, **changed)
    return summarize(params, read_grid(params), read_qualities(params), []).tables[0]


def test_means_and_sample_standard_deviations() -> None:
    table = made_table()
    assert [row.run for row in table.rows] == list(RUNS)
    assert table.columns == ("base", "new", "harmonic_mean")
    new = table.rows[1].values["new"]
    assert new.mean == 52.5
    assert new.std == pytest.approx(15 / 2**0.5)  # sample: divided by n - 1; the population's would be 7.5
    assert table.rows[0].values["new"].std == 0


def test_h_is_computed_per_seed_and_then_averaged() -> None:
    h = made_table().rows[1].values["harmonic_mean"]
    assert h.mean == 66  # of the averaged accuracies it would be 2 * 90 * 52.5 / 142.5 = 66.32
    assert h.std == pytest.approx(12 / 2**0.5)


def test_a_single_seed_has_no_standard_deviation() -> None:
    params = made_params(seeds=[1])
    put_scores(params)
    for cell in grid_runs(params):
        path = score_path(params.artifacts, cell)
        scores = read_scores(path)
        write_scores(path, scores.model_copy(update={"seeds": scores.seeds[:1]}))
    write_report(params, Path("report"))
    summary = summarize(params, read_grid(params), read_qualities(params), [])
    assert summary.tables[0].rows[1].values["base"].std is None
    for text in (results_text(summary, Path("report"), Path("page")), Path("report/summary.md").read_text("utf-8")):
        assert "±" not in text.splitlines()[0] + text.splitlines()[2]
        assert "seed 1" in text
    assert "±" not in Path("report/summary.md").read_text("utf-8").split("## ")[1]


def test_without_test_images_every_run_is_listed_and_the_report_says_that_nothing_was_evaluated() -> None:
    put_scores(params := made_params())
    for cell in grid_runs(params):
        path = score_path(params.artifacts, cell)
        scores = read_scores(path)
        seeds = tuple(SeedScores(seed=seed.seed, eval_splits={}) for seed in scores.seeds)
        write_scores(path, scores.model_copy(update={"seeds": seeds, "harmonic": None}))
    write_report(params, Path("report"))
    (table,) = read_summary(Path("report")).tables
    assert (table.columns, table.best.run, table.scored) == ((), "zero_shot", table.rows)
    for text in (
        table_text(table),
        *(Path("report", name).read_text("utf-8") for name in ("index.html", "summary.md")),
    ):
        assert "Nothing was evaluated" in text
        assert "coop+ship" in text


def test_a_run_that_can_be_scored_nowhere_is_named_below_the_table_with_the_reason() -> None:
    put_scores(params := made_params())
    path = next(score_path(params.artifacts, cell) for cell in grid_runs(params) if cell.run == "tip_adapter_f")
    scores = read_scores(path)
    nowhere = tuple(seed_scores(seed.seed, (None, None, None)) for seed in scores.seeds)
    write_scores(path, scores.model_copy(update={"seeds": nowhere}))
    (table,) = summarize(params, read_grid(params), read_qualities(params), []).tables
    assert [row.run for row in table.unscored] == ["tip_adapter_f"]
    lines = table_text(table).splitlines()
    assert not [line for line in lines if line.startswith("tip_adapter_f ")]
    (named,) = [line for line in lines if "Not in the table: tip_adapter_f" in line]
    assert NO_NEW in named


def test_a_missing_accuracy_keeps_its_reason_and_is_not_averaged() -> None:
    tip = made_table().rows[3]
    assert tip.values["base"].mean == 94
    assert (tip.values["new"].mean, tip.values["new"].reason) == (None, NO_NEW)
    assert tip.values["harmonic_mean"].reason is not None
    assert "new" in tip.values["harmonic_mean"].reason


def test_gains_are_computed_seed_by_seed() -> None:
    table = made_table()
    gain = table.rows[2].gains["base"]
    assert (gain.mean, gain.raised, gain.lowered, gain.seeds) == (-5, 0, 1, 2)
    assert gain.std == pytest.approx(10 / 2**0.5)
    assert not table.rows[1].gains
    coop, tip = gain_sentences(table)
    assert coop.startswith("coop+ship ")
    numbers = ["lowers base", "5.00", "1 of 2", "raises new", "23.50", "2 of 2", "raises H", "14.00", "2 of 2"]
    assert re.search(".*".join(map(re.escape, numbers)), coop)
    assert tip.startswith("tip_adapter_f+ship ")
    assert re.search(r"lowers base.*16\.00.*1 of 2.*new and H.*tip_adapter_f", tip)


def test_published_values_are_compared_with_the_same_protocol_data_set_and_run() -> None:
    table = made_table()
    ours = table.rows[2].values["new"]
    assert (ours.published, ours.difference) == (95.20, pytest.approx(76 - 95.20))
    assert table.rows[0].values["harmonic_mean"].published == 95.40  # the paper's row is called clip
    assert table.rows[3].values["base"].published is None  # the paper has tip_adapter_f only with SHIP
    assert table.published is not None
    assert table.published.same_encoder is False


def test_published_values_are_of_16_shots_and_of_named_data_sets() -> None:
    assert made_table(shots=4).rows[1].values["base"].published is None
    assert made_table(made_params(datasets=["twemoji"])).published is None


def test_the_papers_encoder_is_recognized() -> None:
    params = made_params(encoder="vit_b16")
    table = made_table(params)
    assert table.published is not None
    assert table.published.same_encoder is True
    (note,) = notes(params, [table])
    assert "weights.csv" in note
    for encoder in ENCODERS:
        found = [name for name, spec in params.encoders.items() if identify(spec, "0" * 64).encoder == encoder]
        assert found == [encoder.name]


@pytest.mark.parametrize("name", [encoder.name for encoder in ENCODERS])
def test_known_weights_decide_whatever_the_definition_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = next(encoder for encoder in ENCODERS if encoder.name == name)
    monkeypatch.setattr(published, "known_weights", lambda: {"a" * 64: encoder, "b" * 64: None})
    file = EncoderSpec(model="RN50", pretrained="rn50.safetensors")
    tag = EncoderSpec(model="RN50-quickgelu", pretrained="openai")
    for spec in (file, tag, EncoderSpec(model="local-dir:x")):
        assert identify(spec, "a" * 64) == Identity(encoder, checked=True)
        assert identify(spec, "b" * 64) == Identity(None, checked=True)
    assert identify(file, "c" * 64) == Identity(None, checked=False)
    stated = file.model_copy(update={"published_as": name})
    assert identify(stated, "c" * 64) == Identity(encoder, checked=False)


def test_a_table_names_what_its_runs_selected_at_the_end_of_a_range() -> None:
    table = made_table()
    assert set(table.at_edge) == {"tip_adapter_f", "tip_adapter_f+ship"}
    (sentence,) = table.at_edge["tip_adapter_f"]
    assert "alpha ended at 9.505" in sentence
    assert "seed 1, 2" in sentence
    assert any(sentence in line for line in caption(table))


def test_a_table_says_that_settings_were_selected_on_test_images() -> None:
    params = made_params()
    put_scores(params, validation_from="test")
    summary = summarize(params, read_grid(params), read_qualities(params), [])
    assert summary.tables[0].selected_on_test
    assert any("validation_from: test" in line for line in caption(summary.tables[0]))
    assert any("validation_from: test" in note for note in summary.notes)


def test_an_average_over_a_data_set_whose_test_images_chose_settings_says_so() -> None:
    params = made_params(datasets=["twemoji", "caltech101"])
    put_scores(params)
    of_both = read_grid(params)
    of_both = [s.model_copy(update={"validation_from": "test"}) if s.dataset == "twemoji" else s for s in of_both]
    tables = {table.dataset: table for table in summarize(params, of_both, [], []).tables}
    assert {name: table.selected_on_test for name, table in tables.items()} == {
        "average": True,
        "twemoji": True,
        "caltech101": False,
    }


def test_stand_ins_and_other_encoders_are_noted() -> None:
    params = made_params(datasets=["twemoji", "caltech101"])
    put_scores(params)
    encoder, data_set, published = summarize(params, read_grid(params), read_qualities(params), []).notes
    assert "liteclip" in encoder
    assert "twemoji" in data_set
    assert "emoji" in data_set.replace("twemoji", "")
    assert "OpenAI's CLIP ViT-B/16" in published
    assert "liteclip" in published


def test_a_grid_without_zero_shot_is_rejected() -> None:
    with pytest.raises(InputError, match=r"grid\.methods.*zero_shot"):
        read_grid(made_params(methods=["coop"]))


def test_all_missing_scores_are_listed_with_the_stage_to_run() -> None:
    put_scores(params := made_params())
    for run in ("coop", "coop+ship"):
        Path(f"artifacts/liteclip/scores/caltech101/base_to_new/{run}.json").unlink()
    with pytest.raises(InputError) as caught:
        write_report(params, Path("report"))
    _, first, second = str(caught.value).splitlines()
    assert "base_to_new/coop.json" in first
    assert "`dvc repro evaluate`" in first
    assert "base_to_new/coop+ship.json" in second
    assert "`dvc repro evaluate_synthetic`" in second
    assert not Path("report").exists()


def test_scores_outside_the_grid_are_not_read() -> None:
    put_scores(params := made_params())
    Path("artifacts/liteclip/scores/caltech101/base_to_new/old.json").write_text("{")
    assert len(read_grid(params)) == 5


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"seeds": (seed_scores(3, RUNS["coop"][0]),)}, r"coop.*\[3\].*\[1, 2\]"),
        ({"encoder": EncoderId(name="x", weights_sha256="1" * 64)}, "coop.*111111111111….*000000000000…"),
        ({"seeds": tuple(seed_scores(s, RUNS["coop"][0], n=39) for s in (1, 2))}, "coop .*n=39"),
    ],
)
def test_scores_of_other_seeds_encoders_or_images_are_rejected(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        made_table(**changed)


def test_synthetic_features_that_lie_far_from_images_are_said_to_with_the_number() -> None:
    rows = [
        GeneratorRow(
            generator=name, images=40, classes=2, named=2, measures={"precision": Measure(mean=precision, std=None)}
        )
        for name, precision in (("gan_clip", 3.2), ("ship", 80.0))
    ]
    [sentence] = far_sentences(rows)
    assert [part for part in ("gan_clip", "97 %", "3.2 %") if part not in sentence] == []
    assert sentence in generator_caption(rows)
    assert sentence in Figure("projection", "t", [], {}, sentence).text
