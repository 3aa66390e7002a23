"""Tests of the files of the report: tidy tables, reproducible bytes, and a page that needs no network."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_up_scores import NO_NEW, ROOT, enter, made_params, put_scores

from features.errors import InputError
from features.formats.files import atomic_folder
from features.formats.seal import write_sealed_json
from pipeline.artifacts.balanced_scores import BalancedRun, BalancedScores, ReliabilityBin
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.scores import Balance, grid_runs, read_scores, score_path, write_scores
from pipeline.artifacts.selection import Candidate, Predicted, Selection
from pipeline.config.params import Params
from pipeline.report.build import read_grid, summarize, write_report
from pipeline.report.console import read_summary, results_text, table_text
from pipeline.report.diagnostics_data import read_diagnostics
from pipeline.report.docs_results import update_results_page
from pipeline.report.figures import FIELDS, TEXTS, shots_figures, template
from pipeline.report.formatting import signed
from pipeline.report.generators import read_qualities
from pipeline.report.page import vega_library


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)


def test_results_are_tidy() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    with Path("report/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = ["task", "dataset", "method", "seed", "eval_split", "accuracy", "n"]
    assert list(rows[0]) == [*known, "missing_images", "unreadable_images"]
    assert len(rows) == 5 * 2 * 3
    accuracies = {(r["method"], r["seed"], r["eval_split"]): (r["accuracy"], r["n"]) for r in rows}
    assert accuracies["coop+ship", "2", "new"] == ("72.0", "40")
    assert accuracies["coop+ship", "2", "harmonic_mean"] == ("80.0", "80")
    assert accuracies["tip_adapter_f", "1", "new"] == ("", "40")


def test_the_same_scores_give_the_same_bytes() -> None:
    put_scores(params := made_params())
    write_report(params, Path("a"))
    write_report(params, Path("b"))
    files = sorted(p.relative_to("a") for p in Path("a").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to("b") for p in Path("b").rglob("*") if p.is_file())
    assert {"results.csv", "summary.json", "summary.md", "index.html"} <= {str(f) for f in files}
    assert Path("metrics/caltech101/base_to_new/coop+ship.json") in files
    assert all((Path("a") / f).read_bytes() == (Path("b") / f).read_bytes() for f in files)


def test_the_page_loads_nothing_and_escapes_its_data() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    page = Path("report/index.html").read_text().replace(vega_library(), "")
    assert not re.search(r"https?://|//cdn|@import|url\(|<link|<img|<iframe", page)
    assert re.findall(r'\bsrc\s*=|href="[^#]', page) == []
    assert "a cache of &lt;images&gt; cannot" in page
    assert "<images>" not in page
    assert "root: data" not in page  # nothing that differs by machine
    # One number of shots makes no curve over shots, and base-to-new compares no seen with unseen classes.
    assert page.count("<figure") == len(FIELDS) - 2


def test_plots_have_the_records_of_the_figures() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    records = {}
    for name, fields in FIELDS.items():
        with Path(f"report/plots/{name}.csv").open(newline="") as file:
            records[name] = list(csv.DictReader(file))
        assert all(tuple(row) == ("table", *fields) for row in records[name])
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', Path("report/index.html").read_text())[1])
    for id_, spec in charts.items():
        drawn = [{k: str(v) for k, v in row.items()} for row in spec["data"]["values"]]
        written = [{k: v for k, v in row.items() if k != "table"} for row in records[id_.rpartition("-")[2]]]
        assert drawn == written
    assert records["training"][1] == {"table": "caltech101, base_to_new", "run": "coop", "epoch": "2", "loss": "0.75"}
    cat = {"run": "coop", "eval_split": "new", "class": "cat", "images": "40", "accuracy": "75.0"}
    assert cat in [{k: v for k, v in row.items() if k != "table"} for row in records["classes"]]


def test_dvc_draws_the_same_figures() -> None:
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    assert [title for plot in plots for title in plot] == [title for title, _ in TEXTS.values()]
    assert [options["template"] for plot in plots for options in plot.values()] == list(FIELDS)
    for name in FIELDS:
        kept = json.loads((ROOT / f".dvc/plots/{name}.json").read_text(encoding="utf-8"))
        assert kept == template(name), f"write canonical_json(template({name!r})) to .dvc/plots/{name}.json"


def test_the_calibration_error_is_the_weighted_mean_distance_of_its_bins() -> None:
    put_scores(params := made_params())
    table = summarize(params, read_grid(params), read_qualities(params), []).tables[0]
    assert read_diagnostics(params, table).ece["coop"]["base"] == pytest.approx((10 * 5 + 10 * 7) / 20)


def test_accuracy_by_shots_is_drawn_over_tasks_with_different_shots() -> None:
    put_scores(params := made_params())
    summary = summarize(params, read_grid(params), read_qualities(params), [])
    assert shots_figures(summary) == []
    fewer = summary.tables[0].model_copy(update={"shots": 4, "task": "fewer"})
    (figure,) = shots_figures(summary.model_copy(update={"tables": (*summary.tables, fewer)}))
    coop = [(r["shots"], r["accuracy"]) for r in figure.records if (r["run"], r["eval_split"]) == ("coop", "H")]
    assert coop == [(4, 66.0), (16, 66.0)]


def test_words_near_a_prompt_are_ordered_by_distance() -> None:
    put_scores(params := made_params())
    table = summarize(params, read_grid(params), read_qualities(params), []).tables[0]
    assert {"of": "coop", "vector": "1", "words": "word11, word12"} in read_diagnostics(params, table).words


CURVE = b"offset,seen,unseen\n-1.0,90.0,0.0\n0.0,80.0,20.0\n9.0,0.0,50.0\n"


def balanced_report() -> Params:
    """Write curves and balanced scores of all runs but `tip_adapter_f`, beside their plain scores."""
    put_scores(params := made_params(select=["base_to_new"]))
    cell = EncoderPaths(params.artifacts).cell("caltech101", "base_to_new")
    runs = []
    for grid_cell in grid_runs(params):
        path = score_path(params.artifacts, grid_cell)
        run_scores = read_scores(path)
        if grid_cell.run == "tip_adapter_f":
            runs.append(BalancedRun(run=grid_cell.run, offsets={}, reason="it cannot score every class", seeds={}))
            continue
        plain = Balance(seen=80.0, unseen=20.0, harmonic_mean=32.0)
        seeds = [seed.model_copy(update={"plain": plain, "ausuc": 30.0 + seed.seed}) for seed in run_scores.seeds]
        write_scores(path, run_scores.model_copy(update={"seeds": tuple(seeds)}))
        balanced = {
            1: Balance(seen=60.0, unseen=40.0, harmonic_mean=48.0),
            2: Balance(seen=60.0, unseen=30.0, harmonic_mean=40.0),
        }
        bins = ReliabilityBin(eval_split="new", images=40, confidence=60.0, accuracy=57.0)
        offsets = {1: 1.0, 2: 2.0}
        runs.append(BalancedRun(run=grid_cell.run, offsets=offsets, reason=None, seeds=balanced, reliability=(bins,)))
        folder = cell.diagnostics(grid_cell.run)
        kept = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
        with atomic_folder(folder) as part:
            for name, content in {**kept, "curve.csv": CURVE}.items():
                (part / name).write_bytes(content)
    coop = Candidate(run="coop", balanced=Predicted(seen=60.0, unseen=40.0), score=48.0, low=41.0, high=53.0)
    selection = Selection(
        dataset="caltech101", task="base_to_new", run="coop", seed=1, images=80, confidence=93.0, runs=(coop,)
    )
    scores = BalancedScores(dataset="caltech101", task="base_to_new", runs=tuple(runs), selection=selection)
    write_sealed_json(cell.balanced, scores.model_dump(mode="json"))
    return params


def test_the_balance_is_in_every_file_of_the_report_beside_the_plain_numbers() -> None:
    params = balanced_report()
    write_report(params, Path("report"))
    (table,) = read_summary(Path("report")).tables
    coop = next(row for row in table.balance if row.run == "coop")
    assert [row.run for row in table.balance] == [row.run for row in table.rows if row.run != "tip_adapter_f"]
    assert coop.offset == 1.5
    means = {name: measure.mean for name, measure in coop.measures.items()}
    assert means == {
        "ausuc": 31.5,
        "plain_seen": 80.0,
        "plain_unseen": 20.0,
        "plain_harmonic_mean": 32.0,
        "balanced_seen": 60.0,
        "balanced_unseen": 35.0,
        "balanced_harmonic_mean": 44.0,
    }

    with Path("report/results.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "coop"]
    assert [row["accuracy"] for row in rows if row["eval_split"] == "ausuc"] == ["31.0", "32.0"]
    assert [row["accuracy"] for row in rows if row["eval_split"] == "balanced_harmonic_mean"] == ["48.0", "40.0"]

    metrics = json.loads(Path("report/metrics/caltech101/base_to_new/coop.json").read_text(encoding="utf-8"))
    assert metrics["balanced_harmonic_mean"] == 44.0
    assert metrics["H"] == 66.0, "the plain number stays"

    markdown, page = (Path("report", name).read_text(encoding="utf-8") for name in ("summary.md", "index.html"))
    line = next(line for line in markdown.splitlines() if line.startswith("| coop |"))
    assert [cell.strip() for cell in line.split("|")][2:-1] == [
        "31.50 ± 0.71",
        "80.00 ± 0.00",
        "20.00 ± 0.00",
        "32.00 ± 0.00",
        "1.50",
        "60.00 ± 0.00",
        "35.00 ± 7.07",
        "44.00 ± 5.66",
    ]
    assert page.count("<figure") == len(FIELDS) - 1
    assert "44.00" in table_text(table)
    for text in (markdown, page):
        for part in ("Run for new images: coop, seed 1.", "48.0", "41.0 to 53.0", "93 of 100"):
            assert part in text
    assert page.index('id="caltech101-base_to_new-curve"') < page.index('id="caltech101-base_to_new-accuracy"')


def test_the_calibrated_reliability_stands_beside_the_raw_one() -> None:
    params = balanced_report()
    write_report(params, Path("report"))
    with Path("report/plots/reliability.csv").open(encoding="utf-8", newline="") as file:
        kinds = [(row["probabilities"], row["confidence"]) for row in csv.DictReader(file) if row["run"] == "coop"]
    assert [kind for kind, _ in kinds].count("calibrated") == 1
    assert ("calibrated", "60.0") in kinds
    (table,) = read_summary(Path("report")).tables
    errors = read_diagnostics(params, table).ece["coop"]
    assert errors["new, calibrated"] == pytest.approx(3.0)
    assert errors["base"] == pytest.approx((10 * 5 + 10 * 7) / 20), "the raw one stays"

    with Path("report/plots/curve.csv").open(encoding="utf-8", newline="") as file:
        points = [row for row in csv.DictReader(file) if row["run"] == "coop"]
    assert [(row["point"], row["seen"], row["unseen"]) for row in points] == [
        ("curve", "90.0", "0.0"),
        ("curve", "80.0", "20.0"),
        ("plain", "80.0", "20.0"),
        ("curve", "0.0", "50.0"),
        ("balanced", "60.0", "35.0"),
    ]


def test_missing_balanced_scores_are_listed_with_the_stage_to_run() -> None:
    params = balanced_report()
    EncoderPaths(params.artifacts).cell("caltech101", "base_to_new").balanced.unlink()
    with pytest.raises(InputError, match=r"balanced\.json.*`dvc repro evaluate_balanced`"):
        write_report(params, Path("report"))


def test_missing_diagnostics_are_listed_with_the_stage_to_run() -> None:
    put_scores(params := made_params())
    shutil.rmtree(params.artifacts / "diagnostics/caltech101/base_to_new/coop")
    with pytest.raises(InputError, match=r"base_to_new/coop:.*`dvc repro evaluate`"):
        write_report(params, Path("report"))


def test_the_terminal_shows_the_same_numbers() -> None:
    put_scores(params := made_params())
    write_report(params, params.artifacts / "report")
    summary = read_summary(params.artifacts / "report")
    text = results_text(summary, params.artifacts / "report", Path("artifacts/liteclip/report.html"))
    assert re.search(r"^coop +90\.00 ± 0\.00 +52\.50 ± 10\.61 +66\.00 ± 8\.49$", text, re.M)
    assert re.search(r"^tip_adapter_f +94\.00 ± 1\.41 +– \[1\] +– \[2\]$", text, re.M)
    assert f"[1] {NO_NEW}" in text
    assert "97.55 (-12.55)" in text
    assert "artifacts/liteclip/report.html" in text
    with pytest.raises(InputError, match=r"nowhere.*shipyard run"):
        read_summary(Path("nowhere"))


def test_every_number_from_a_partial_copy_is_marked() -> None:
    put_scores(params := made_params())
    for file in (score_path(params.artifacts, cell) for cell in grid_runs(params)):
        scores = read_scores(file)
        write_scores(file, scores.model_copy(update={"missing": {"caltech101": 1234}}))
    write_report(params, params.artifacts / "report")
    text = results_text(read_summary(params.artifacts / "report"), params.artifacts / "report", Path("report.html"))
    assert re.search(r"^coop +90\.00 ± 0\.00\* +52\.50 ± 10\.61\* +66\.00 ± 8\.49\*$", text, re.M)
    markdown = (params.artifacts / "report/summary.md").read_text()
    page = (params.artifacts / "report/index.html").read_text()
    for report in (text, markdown, page):
        assert re.search(r"caltech101 .*1,234 .*\*", report), "the note"
    assert "| `coop` | 90.00 ± 0.00* |" in markdown
    cells = re.findall(r'<span class="mean">([^<]*)</span>', page)
    assert cells
    assert all(cell.endswith("*") for cell in cells)
    gains = re.findall(r"^coop\+ship .* points .*$", text, re.M)
    assert gains
    assert all(sentence.endswith("*") for sentence in gains)


def test_measures_of_generators_are_in_the_summary_the_page_and_a_tidy_file() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    with Path("report/generators.csv").open(newline="") as file:
        rows = {(r["generator"], r["seed"], r["measure"], r["class"]): r["value"] for r in csv.DictReader(file)}
    assert rows["ship", "1", "frechet", ""] == "0.25"
    assert rows["ship", "2", "nearest_mean_accuracy", "sea <horse>"] == "70.0"
    summary = Path("report/summary.md").read_text()
    assert re.search(r"^\| generator \| nearest mean % \| Fréchet \| of images, seen \| KL, nats \|$", summary, re.M)
    assert re.search(
        r"^\| ship \| 65\.00 ± 7\.07 \| 0\.350 ± 0\.141 \| 0\.0370 ± 0\.0000 \| 0\.02 ± 0 \|$", summary, re.M
    )
    assert re.search(r"40 test images of 2 unseen classes.*\b3\b", summary)
    assert '<td>65.00 <span class="std">± 7.07</span></td>' in Path("report/index.html").read_text()
    means = json.loads(Path("report/metrics/caltech101/base_to_new/ship.quality.json").read_text())
    assert means["frechet"] == 0.35


def test_a_generator_without_its_measures_is_listed() -> None:
    put_scores(params := made_params())
    path = EncoderPaths(params.artifacts).cell("caltech101", "base_to_new").quality("ship")
    path.unlink()
    with pytest.raises(InputError, match=r"ship\.quality\.json.*`dvc repro evaluate_generator`"):
        write_report(params, Path("report"))


def test_summary_json_is_read_back_unchanged() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    summary = summarize(params, read_grid(params), read_qualities(params), [])
    assert read_summary(Path("report")) == summary


def test_signed_numbers_have_a_sign_except_zero() -> None:
    assert [signed(value) for value in (1.2, -0.3, 0.0, -0.001)] == ["+1.20", "-0.30", "0.00", "0.00"]


def test_the_stage_starts_without_heavy_imports() -> None:
    code = "import sys, stages.report; print([m for m in ('torch', 'matplotlib', 'open_clip') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_results_page_keeps_its_text_and_gets_the_tables() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    page = Path("mine.md")
    page.write_text(
        "# Mine\n\nWhy.\n\n<!-- results -->\nold tables\n<!-- end of results -->\n\n---\n\nMy notes.\n",
        encoding="utf-8",
    )
    update_results_page(page, Path("report"))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n\nWhy.\n\n<!-- results -->\n\n## Results with liteclip\n")
    assert "\n### caltech101, base_to_new\n" in text
    assert "old tables" not in text
    assert text.endswith("\n<!-- end of results -->\n\n---\n\nMy notes.\n")
    assert Path("mine.csv").read_bytes() == Path("report/results.csv").read_bytes()
    update_results_page(page, Path("report"))
    assert page.read_text(encoding="utf-8") == text


def test_a_results_page_needs_its_marks_and_no_foreign_csv_beside_it() -> None:
    put_scores(params := made_params())
    write_report(params, Path("report"))
    Path("mine.md").write_text("# Mine\n", encoding="utf-8")
    with pytest.raises(InputError, match="<!-- results -->"):
        update_results_page(Path("mine.md"), Path("report"))
    with pytest.raises(InputError, match=r"none\.md"):
        update_results_page(Path("none.md"), Path("report"))
    Path("mine.md").write_text("<!-- results -->\n<!-- end of results -->\n", encoding="utf-8")
    Path("mine.csv").write_text("path,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.csv"):
        update_results_page(Path("mine.md"), Path("report"))
    assert Path("mine.csv").read_text(encoding="utf-8") == "path,label\n"
    assert "##" not in Path("mine.md").read_text(encoding="utf-8")
