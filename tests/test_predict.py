"""`shipyard predict`: which files are meant, what is told of them, in which format, and what the probabilities are."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import trained
from closure import ROOT
from torch.nn import functional as F
from typer.testing import CliRunner, Result

from features.encoding.augment import fill_crops
from features.encoding.images import read_image
from features.errors import InputError
from features.formats.files import write_json
from pipeline.artifacts.selection import HIGHEST
from pipeline.cli.app import app
from pipeline.config import params
from pipeline.inference.predict import CENTRE, expand, open_model, predict

GOOD = ["photos/0.png", "photos/1.png", "photos/2.png", "photos/old/3.png", "photos/old/4.png"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    trained.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["predict", "mine", *args], input=stdin)


def test_files_folders_globs_and_lists_are_each_taken_once(project: Path) -> None:
    assert expand(["photos"], []) == [*GOOD[:3], "photos/broken.jpg", *GOOD[3:]]
    assert expand(["photos/**/[23].png", "photos/2.png", "-"], ["photos/0.png\n", "\n"]) == [
        "photos/2.png",
        "photos/old/3.png",
        "photos/0.png",
    ]
    assert expand(["gone.png", "gone*.png"], []) == ["gone.png"]


def test_probabilities_are_those_of_the_encoder_and_the_classifier_at_the_temperature(project: Path) -> None:
    model = open_model(params.load(), "mine")
    found = list(predict(model, GOOD, top=4))
    assert [one.path for one in found] == GOOD
    for one in found:
        pixels = np.empty((1, 32, 32, 3), np.uint8)
        fill_crops(read_image(Path(one.path)), one.path, model.encoder.preprocess, CENTRE, pixels)
        feature = F.normalize(model.encoder.encode_crops(torch.from_numpy(pixels)), dim=-1)
        wanted = (10.0 * feature @ trained.classes().text_features.T / 0.5).softmax(1)[0]
        assert list(one.classes) == [trained.NAMES[i] for i in wanted.argsort(descending=True)]
        np.testing.assert_allclose(one.probabilities, sorted(wanted.tolist(), reverse=True), atol=1e-6)
        assert one.seen == tuple(name != trained.NAMES[3] for name in one.classes)


def test_unreadable_files_are_listed_the_rest_goes_on_and_the_status_says_so(project: Path) -> None:
    result = call("photos", "gone.png", "--csv", "-")
    assert result.exit_code == 3
    assert "unreadable: photos/broken.jpg: not an image" in result.stderr
    assert "unreadable: gone.png: No such file" in result.stderr
    assert "2 of 7 files" in result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["path"] for row in rows if row["rank"] == "1"] == GOOD
    assert len(rows) == 3 * len(GOOD)


def test_every_format_says_the_same(project: Path) -> None:
    options = ["--csv", "a.csv", "--json", "a.json", "--parquet", "a.parquet", "--html", "a.html", "--top", "2"]
    result = call("-", *options, stdin="photos/1.png\nphotos/broken.jpg\n")
    assert result.exit_code == 3
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text(encoding="utf-8"))))
    whole = json.loads(Path("a.json").read_text(encoding="utf-8"))
    (good, bad) = whole["images"]
    assert [p["class"] for p in good["predictions"]] == [row["class"] for row in rows]
    assert [p["probability"] for p in good["predictions"]] == [float(row["probability"]) for row in rows]
    assert bad["path"] == "photos/broken.jpg"
    assert "not an image" in bad["problem"]
    table = pq.read_table("a.parquet").to_pylist()
    assert [(row["class"], row["seen"]) for row in table] == [(row["class"], row["seen"] == "true") for row in rows]
    page = Path("a.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert not re.search(r'(?:src|href)="(?!data:)', page), "the page needs another file"
    assert rows[0]["class"].replace("'", "&#39;") in page
    assert "broken.jpg" in page


def test_a_table_is_printed_where_no_file_is_asked_for(project: Path) -> None:
    (line,) = call("photos/0.png", "--top", "4").stdout.splitlines()
    assert line.startswith("photos/0.png  ")
    assert line.count("%") == 4
    assert "Brünnich's guillemot*" in line
    assert "kestrel*" not in line


def test_what_is_missing_is_said_with_the_remedy(project: Path) -> None:
    assert "nothing*" in str(call("nothing*").exception)
    wrong = CliRunner().invoke(app, ["predict", "mien", "photos"]).exception
    assert "did you mean 'mine'?" in str(wrong)
    assert "mine has no run 'coop'; known: zero_shot" in str(call("photos", "--run", "coop").exception)
    assert "mine has no seed 2 of 'zero_shot'; known: 1" in str(call("photos", "--seed", "2").exception)
    (project / "artifacts/tiny/selection/mine/mine.json").unlink()
    said = str(call("photos").exception)
    assert "shipyard run mine" in said
    assert "--run zero_shot" in said


def test_a_run_that_is_named_is_taken_and_calibrated_if_it_was_rehearsed(project: Path) -> None:
    chosen = call("photos/0.png", "--csv", "-").stdout
    assert call("photos/0.png", "--csv", "-", "--run", "zero_shot", "--seed", "1").stdout == chosen
    (project / "artifacts/tiny/selection/mine/mine.json").unlink()
    plain = open_model(params.load(), "mine", run="zero_shot")
    assert (plain.run, plain.seed, plain.temperature) == ("zero_shot", 1, None)
    assert call("photos/0.png", "--csv", "-", "--run", "zero_shot").stdout != chosen
    call("photos/0.png", "--run", "zero_shot", "--html", "a.html")
    assert "not\n  calibrated" in Path("a.html").read_text(encoding="utf-8")


def test_a_temperature_at_its_bound_is_told_at_once_and_on_the_page(project: Path) -> None:
    flat = trained.choice("zero_shot").candidate("zero_shot")
    assert flat is not None
    made = trained.choice("zero_shot").model_copy(update={"runs": (flat.model_copy(update={"temperature": HIGHEST}),)})
    write_json(project / "artifacts/tiny/selection/mine/mine.json", made.model_dump(mode="json"))
    result = call("photos/0.png", "--html", "a.html", "--json", "a.json")
    assert "note: zero_shot: of the rehearsal's photographs its logits said no more than chance" in result.stderr
    assert "said no more than chance" in Path("a.html").read_text(encoding="utf-8")
    (image,) = json.loads(Path("a.json").read_text(encoding="utf-8"))["images"]
    assert [p["probability"] for p in image["predictions"]] == pytest.approx([0.25] * 3, abs=0.01)


def test_features_of_another_encoder_are_refused(project: Path) -> None:
    text = params.read().replace("random:0", "random:1")
    with pytest.raises(InputError, match=r"shipyard run mine"):
        open_model(params.parse_text(text), "mine")


def test_ctrl_c_ends_it_at_once_and_writes_nothing(project: Path) -> None:
    """As a person meets it, at a terminal: some images are done, many are not."""
    for i in range(20_000):
        (project / f"photos/many{i}.png").hardlink_to(project / "photos/0.png")
    command = [sys.executable, "-c", "from pipeline.cli.app import main; main()", "predict", "mine", "photos"]
    ours, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with subprocess.Popen([*command, "--csv", "found.csv"], env=env, stderr=terminal) as process:
        os.close(terminal)
        said = read_until(ours, " images, ")
        process.send_signal(signal.SIGINT)
        said += read_until(ours, None)
        assert process.wait(timeout=60) == 130
    assert "interrupted: nothing is half-written; the same command starts anew" in said
    assert "Traceback" not in said
    assert not [*project.glob("*found.csv*")]


def read_until(terminal: int, words: str | None) -> str:
    """What a terminal shows until it shows the words, or until the program has ended."""
    said = b""
    with suppress(OSError):  # nobody writes any more
        while words is None or words not in said.decode(errors="replace"):
            said += os.read(terminal, 1 << 16)
    return said.decode(errors="replace")
