"""Progress lines on a terminal, without colour, in a log, quiet and verbose."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from project_root import ROOT

from features.runtime.progress import BAR, VERBOSITY, Progress, clock, line_of

WORK = """
from features.runtime.progress import Progress
with Progress("extract birds", 3) as progress:
    for epoch in range(3):
        progress.advance(note=f"loss {epoch}")
"""
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|38|9[0-7])[;m]")
SUMMARY = r"extract birds: 3 images, 3 in 0:0\d, [\d.]+ images/s"


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in (VERBOSITY, "NO_COLOR", "FORCE_COLOR")}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "100", **changes}


def in_a_log(**changes: str) -> str:
    command = [sys.executable, "-c", WORK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(**changes), cwd=ROOT)
    assert not done.stdout, "progress goes to stderr"
    return done.stderr


def on_a_terminal(**changes: str) -> str:
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs, env=environment(**changes), cwd=ROOT) as child:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # Linux: the other end is closed
            pass
        assert child.wait() == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_a_terminal_shows_a_bar_with_rate_and_remaining_time_in_colour() -> None:
    output = on_a_terminal()
    assert "━" in output
    assert re.search(r"3/3 images, [\d.]+/s, loss 2", output)
    assert "left" in output
    assert COLOUR.search(output)


def test_no_color_removes_only_the_colour() -> None:
    output = on_a_terminal(NO_COLOR="1")
    assert "━" in output
    assert not COLOUR.search(output)


def test_a_log_has_one_line_per_job() -> None:
    assert re.fullmatch(SUMMARY + "\n", in_a_log())


def test_quiet_prints_nothing() -> None:
    assert in_a_log(**{VERBOSITY: "quiet"}) == ""


def test_verbose_prints_every_step() -> None:
    *steps, last = in_a_log(**{VERBOSITY: "verbose"}).splitlines()
    assert steps == [f"extract birds: {n + 1}/3 images, loss {n}" for n in range(3)]
    assert re.fullmatch(SUMMARY, last)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock_shows_seconds_as_minutes_and_hours(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_line_of_a_job_says_what_runs_and_what_is_left() -> None:
    assert line_of(13, 25, "fit", drawn=False) == "[13/25] fit"
    bar, _, rest = line_of(13, 25, "fit", drawn=True).partition(" ")
    assert (len(bar), bar.count(bar[0])) == (BAR, BAR * 12 // 25)
    assert rest == "13/25 fit (12 left)"


def test_one_unit_is_in_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("predict", 1) as progress:
        progress.advance()
    assert capsys.readouterr().err.startswith("predict: 1 image, 1 in ")
