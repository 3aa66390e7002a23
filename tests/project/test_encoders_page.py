"""docs/encoders.md and assets/encoders.csv say what is so."""

from __future__ import annotations

import csv
import warnings

import encoders_table
import pytest
import torch
from project_root import ROOT
from typer.testing import CliRunner

from features.encoding.definition import IMPORTED
from pipeline.cli.app import app
from pipeline.cli.encoders import FACTS
from pipeline.config.params import load


def test_the_table_of_text_towers_is_that_of_the_installed_open_clip() -> None:
    page = encoders_table.PAGE.read_text(encoding="utf-8")
    assert encoders_table.with_table(page) == page


def test_every_model_name_is_in_the_table_once() -> None:
    import open_clip

    rows = [line.split(" | ") for line in encoders_table.table().splitlines()[2:]]
    named = [name for row in rows for name in row[-1].removesuffix(" |").split(", ")]
    assert sorted(named) == sorted(open_clip.list_models())


def test_every_encoder_of_params_yaml_is_listed_with_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["encoders", "list"], catch_exceptions=False)
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    encoders = load().encoders
    assert {*encoders} <= {*lines}
    unknown = {name for name, line in lines.items() if "–" in line}
    assert unknown == {name for name, spec in encoders.items() if spec.model == IMPORTED}
    for name in ("metaclip2_h14", "mobileclip2_s2"):
        assert " no " in lines[name]


@pytest.mark.system
def test_the_numbers_of_parameters_are_those_of_the_models() -> None:
    import open_clip

    with (ROOT / FACTS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"].startswith("local-dir:"):
                continue
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = open_clip.create_model(row["model"], load_weights=False, device="meta")
            assert f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f}" == row["parameters"]
