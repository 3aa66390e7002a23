"""Tests of `shipyard predict`: expanded paths, messages, output formats and probabilities."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import trained
import yaml
from project_root import ROOT
from torch.nn import functional as F
from trained import GOOD
from typer.testing import CliRunner, Result

from features.encoding.augment import fill_crops
from features.encoding.images import read_image
from features.errors import InputError
from features.formats.seal import write_sealed_json
from pipeline.artifacts.selection import HIGHEST, calibration_warning
from pipeline.cli.app import app
from pipeline.config import params
from pipeline.inference import outputs
from pipeline.inference.predict import CENTRE, open_model, predict


def call(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["predict", "mine", *args], input=stdin)


def test_probabilities_are_the_softmax_of_the_calibrated_logits(project: Path) -> None:
    model = open_model(params.load(), "mine")
    predictions = list(predict(model, GOOD, top=4))
    assert [prediction.path for prediction in predictions] == GOOD
    for prediction in predictions:
        pixels = np.empty((1, 32, 32, 3), np.uint8)
        fill_crops(read_image(Path(prediction.path)), prediction.path, model.encoder.preprocess, CENTRE, pixels)
        feature = F.normalize(model.encoder.encode_crops(torch.from_numpy(pixels)), dim=-1)
        expected = (10.0 * feature @ trained.classes().text_features.T / 0.5).softmax(1)[0]
        assert list(prediction.classes) == [trained.NAMES[i] for i in expected.argsort(descending=True)]
        np.testing.assert_allclose(prediction.probabilities, sorted(expected.tolist(), reverse=True), atol=1e-6)
        assert prediction.seen == tuple(name != trained.NAMES[3] for name in prediction.classes)


def test_unreadable_files_are_listed_and_the_exit_status_is_3(project: Path) -> None:
    result = call("photos", "gone.png", "--csv", "-")
    assert result.exit_code == 3
    assert re.search(r"^unreadable: photos/broken\.jpg: \S", result.stderr, re.M)
    assert re.search(r"^unreadable: gone\.png: \S", result.stderr, re.M)
    assert "2 of 7" in result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["path"] for row in rows] == [*GOOD[:3], "photos/broken.jpg", *GOOD[3:], "gone.png"]
    assert [bool(row["problem"]) for row in rows] == [not row["class"] for row in rows]
    assert [row["path"] for row in rows if row["problem"]] == ["photos/broken.jpg", "gone.png"]


def test_every_input_has_one_row_in_every_format(project: Path) -> None:
    given = ["photos/1.png", "photos/broken.jpg", "photos/0.png", "photos/1.png"]
    lines = "\n".join(given)
    result = call("-", "--top", "2", "--csv", "a.csv", "--json", "a.json", "--parquet", "a.parquet", stdin=lines)
    assert result.exit_code == 3
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text(encoding="utf-8"))))
    images = json.loads(Path("a.json").read_text(encoding="utf-8"))["images"]
    for paths in (
        [row["path"] for row in rows],
        [i["path"] for i in images],
        pq.read_table("a.parquet")["path"].to_pylist(),
    ):
        assert paths == given
    assert rows[0]["class_2"]
    assert rows[0] == rows[3]
    printed = call("-", stdin=lines).stdout.splitlines()
    assert [line.split()[0] for line in printed] == given


def test_a_pipe_that_nobody_writes_to_is_a_row_with_a_problem(project: Path) -> None:
    os.mkfifo("photos/pipe.jpg")
    result = call("photos/*.jpg", "--csv", "-")
    assert result.exit_code == 3
    assert 'photos/pipe.jpg,"a pipe' in result.stdout


def test_a_file_that_is_gone_when_the_page_is_written_is_on_it_without_a_picture(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = outputs.write_csv
    monkeypatch.setattr(outputs, "write_csv", lambda *args: (write(*args), Path("photos/1.png").unlink()))
    result = call("photos/0.png", "photos/1.png", "--csv", "a.csv", "--html", "a.html")
    assert result.exit_code == 0, result.output
    page = Path("a.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1
    assert page.count("photos/1.png") == 1


@pytest.mark.parametrize("options", [["--html", "-"], ["--parquet", "-"], ["--csv", "-", "--json", "-"]])
def test_standard_output_takes_one_text(options: list[str], project: Path) -> None:
    result = call("photos/0.png", *options)
    assert result.exit_code == 1
    assert "standard output" in str(result.exception)
    assert not Path("-").exists()


def test_paths_of_any_bytes_are_rows_with_a_problem(project: Path) -> None:
    result = CliRunner().invoke(
        app, ["predict", "mine", "-", "--csv", "a.csv"], input=b"a\0b.jpg\n\xff\xfe.jpg\nphotos/0.png\n"
    )
    assert result.exit_code == 3, result.exception
    rows = Path("a.csv").read_bytes().splitlines()
    assert [row.split(b",")[0] for row in rows[1:]] == [b"a\0b.jpg", b"\xff\xfe.jpg", b"photos/0.png"]


def test_names_that_were_added_after_the_run_are_named(project: Path) -> None:
    values = yaml.safe_load(params.read())
    values["data"]["sets"]["mine"] |= {"unseen": ["added since", "Kestrel"], "rename": {"old": "renamed since"}}
    params.write(yaml.safe_dump(values))
    result = call("photos/0.png")
    assert "(added since, renamed since)" in result.stderr
    assert "Kestrel" not in result.stderr


def test_all_formats_have_the_same_content(project: Path) -> None:
    options = ["--csv", "a.csv", "--json", "a.json", "--parquet", "a.parquet", "--html", "a.html", "--top", "2"]
    result = call("-", *options, stdin="photos/1.png\nphotos/broken.jpg\n")
    assert result.exit_code == 3
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text(encoding="utf-8"))))
    document = json.loads(Path("a.json").read_text(encoding="utf-8"))
    (good, bad) = document["images"]
    assert [p["class"] for p in good["predictions"]] == [rows[0]["class"], rows[0]["class_2"]]
    assert [p["probability"] for p in good["predictions"]] == [float(rows[0][f"probability{n}"]) for n in ("", "_2")]
    assert bad["path"] == "photos/broken.jpg"
    assert bad["problem"]
    table = pq.read_table("a.parquet").to_pylist()
    assert [(row["class"] or "", row["seen_2"]) for row in table] == [
        (row["class"], {"true": True, "false": False, "": None}[row["seen_2"]]) for row in rows
    ]
    page = Path("a.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert not re.search(r'(?:src|href)="(?!data:)', page), "the page needs another file"
    assert rows[0]["class"].replace("'", "&#39;") in page
    assert "broken.jpg" in page


def test_a_table_is_printed_without_an_output_file(project: Path) -> None:
    (line,) = call("photos/0.png", "--top", "4").stdout.splitlines()
    assert line.startswith("photos/0.png  ")
    assert line.count("%") == 4
    assert "Brünnich's guillemot*" in line
    assert "kestrel*" not in line


def test_errors_name_what_is_missing_and_the_alternatives(project: Path) -> None:
    assert "nothing*" in str(call("nothing*").exception)
    wrong = CliRunner().invoke(app, ["predict", "mien", "photos"]).exception
    assert "'mien'" in str(wrong)
    assert "'mine'" in str(wrong)
    assert re.search(r"^mine .*'coop'.*zero_shot", str(call("photos", "--run", "coop").exception))
    assert re.search(r"^mine .*\b2\b.*'zero_shot'.*\b1\b", str(call("photos", "--seed", "2").exception))
    (project / "artifacts/tiny/selection/mine/mine.json").unlink()
    message = str(call("photos").exception)
    assert "shipyard run mine" in message
    assert "--run zero_shot" in message


def test_a_named_run_is_used_and_calibrated_if_it_has_a_temperature(project: Path) -> None:
    selected = call("photos/0.png", "--csv", "-").stdout
    assert call("photos/0.png", "--csv", "-", "--run", "zero_shot", "--seed", "1").stdout == selected
    (project / "artifacts/tiny/selection/mine/mine.json").unlink()
    plain = open_model(params.load(), "mine", run="zero_shot")
    assert (plain.run, plain.seed, plain.temperature) == ("zero_shot", 1, None)
    assert call("photos/0.png", "--csv", "-", "--run", "zero_shot").stdout != selected
    call("photos/0.png", "--run", "zero_shot", "--html", "a.html")
    assert " not calibrated" in " ".join(Path("a.html").read_text(encoding="utf-8").split())


def test_a_temperature_at_its_bound_causes_a_warning_on_stderr_and_on_the_page(project: Path) -> None:
    flat = trained.selection("zero_shot").candidate("zero_shot")
    assert flat is not None
    flattened = trained.selection("zero_shot").model_copy(
        update={"runs": (flat.model_copy(update={"temperature": HIGHEST}),)}
    )
    write_sealed_json(project / "artifacts/tiny/selection/mine/mine.json", flattened.model_dump(mode="json"))
    result = call("photos/0.png", "--html", "a.html", "--json", "a.json")
    warning = calibration_warning("zero_shot", HIGHEST)
    assert warning is not None
    assert warning in result.stderr
    assert warning in Path("a.html").read_text(encoding="utf-8")
    (image,) = json.loads(Path("a.json").read_text(encoding="utf-8"))["images"]
    assert [p["probability"] for p in image["predictions"]] == pytest.approx([0.25] * 3, abs=0.01)


def test_features_of_another_encoder_are_rejected(project: Path) -> None:
    text = params.read().replace("random:0", "random:1")
    with pytest.raises(InputError, match=r"shipyard run mine"):
        open_model(params.parse_text(text), "mine")


def test_ctrl_c_ends_predict_without_writing_a_file(project: Path) -> None:
    """Interrupt the command in a terminal, after some of the images."""
    for i in range(20_000):
        (project / f"photos/many{i}.png").hardlink_to(project / "photos/0.png")
    command = [sys.executable, "-c", "from pipeline.cli.app import main; main()", "predict", "mine", "photos"]
    ours, terminal = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with subprocess.Popen([*command, "--csv", "found.csv"], env=env, stderr=terminal) as process:
        os.close(terminal)
        output = read_until(ours, " images, ")
        process.send_signal(signal.SIGINT)
        output += read_until(ours, None)
        assert process.wait(timeout=60) == 130
    assert "interrupted" in output
    assert "Traceback" not in output
    assert not [*project.glob("*found.csv*")]


def read_until(terminal: int, words: str | None) -> str:
    """Return the output of a terminal up to some words, or up to the end of the program."""
    output = b""
    with suppress(OSError):  # the program has ended
        while words is None or words not in output.decode(errors="replace"):
            output += os.read(terminal, 1 << 16)
    return output.decode(errors="replace")


def test_the_offset_of_the_selection_lowers_seen_classes_in_every_prediction(project: Path) -> None:
    model = open_model(params.load(), "mine")
    assert model.offset == trained.OFFSET
    crops = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = replace(model, offset=0.0)
    seen = torch.tensor(model.seen)
    torch.testing.assert_close(
        (plain.logits(crops) - model.logits(crops))[:, seen], torch.full((3, 3), trained.OFFSET / 0.5)
    )
    assert torch.equal(plain.logits(crops)[:, ~seen], model.logits(crops)[:, ~seen])

    selection = project / "artifacts/tiny/selection/mine/mine.json"
    none = trained.selection("zero_shot")
    without = none.model_copy(update={"runs": (none.runs[0].model_copy(update={"offsets": {1: 0.0}}),)})
    write_sealed_json(selection, without.model_dump(mode="json"))
    assert torch.equal(open_model(params.load(), "mine").logits(crops), plain.logits(crops)), "to the last bit"


def test_a_seed_that_the_selection_does_not_know_is_an_error_and_not_an_offset_of_zero(project: Path) -> None:
    fitted = project / "artifacts/tiny/fitted/mine/mine/zero_shot"
    shutil.copyfile(fitted / "seed=1.safetensors", fitted / "seed=2.safetensors")
    with pytest.raises(InputError, match=r"mine\.json.*seed 2.*1.*shipyard run mine"):
        open_model(params.load(), "mine", seed=2)
