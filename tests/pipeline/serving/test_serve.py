"""`shipyard serve`: the answers of its endpoints, what it refuses, saved labels, and the page in a browser."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trained
import uvicorn
from pictures import picture
from playwright.sync_api import sync_playwright
from project_root import ROOT
from starlette.testclient import TestClient
from typer.testing import CliRunner

from features.datasets.base import reader_from
from features.errors import InputError
from features.index import write_index
from features.index_table import read_index
from pipeline.artifacts import paths
from pipeline.artifacts.task import Rows, load_train, save_train
from pipeline.cli import app as cli
from pipeline.cli.new_task import NewTask, prepare
from pipeline.config.params import load
from pipeline.executor.repository import exclusive_run
from pipeline.inference.predict import Model, open_model, predict
from pipeline.serving.app import make_app, pixels_of
from pipeline.serving.corrections import Corrections
from pipeline.serving.neighbours import training_images

HERE = "http://127.0.0.1"
LIMIT = 50_000
BROWSER = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A task whose run was fitted to six pictures of its three seen classes, in the current folder."""
    root = tmp_path_factory.mktemp("project")
    trained.project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for number in range(6):
            file = root / "data/mine" / f"{trained.NAMES[number % 3]}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(number).save(file)

        params = load()
        spec = {**params.data.sets["mine"], "fractions": [1.0, 0.0, 0.0]}
        reader = reader_from(spec, "mine")
        folder = reader.folder(Path(params.data.root))
        listing = reader.read(Path(params.data.root))
        write_index(listing, folder, paths.index("mine"), paths.names("mine"), paths.digests("mine"))

        model, index = open_model(params, "mine"), read_index(paths.index("mine"))
        task = load_train(paths.EncoderPaths(params.artifacts).cell("mine", "mine").train)
        features = np.concatenate([features_of(model, folder / path) for path in index.paths])
        labels = np.array([task.classes.names.index(Path(path).parent.name) for path in index.paths], np.int64)
        rows = Rows(features[:, None].astype(np.float16), labels, np.arange(6))
        save_train(task.path, task.header, task.classes, {1: rows})
        yield root


def features_of(model: Model, file: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    return model.classify(torch.from_numpy(pixels_of(model, file.read_bytes())))[0].numpy()


@pytest.fixture(scope="module")
def model(project: Path) -> Model:
    return open_model(load(), "mine")


@pytest.fixture
def client(model: Model, tmp_path: Path) -> TestClient:
    training = training_images(load(), model)
    app = make_app(
        model, training, Corrections(tmp_path / "labels"), host="127.0.0.1", max_bytes=LIMIT, notes=["a <note>"]
    )
    return TestClient(app, base_url=HERE)


def png(seed: int = 9) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def test_an_image_gets_the_classes_of_predict_and_its_nearest_training_images(client: TestClient, model: Model) -> None:
    file = "data/mine/kestrel/3.png"
    answer = client.post("/classify?top=4", content=Path(file).read_bytes()).json()
    (expected,) = predict(model, [file], 4)
    assert tuple(one["class"] for one in answer["predictions"]) == expected.classes
    assert [one["probability"] for one in answer["predictions"]] == pytest.approx(expected.probabilities, abs=1e-5)
    assert [one["seen"] for one in answer["predictions"]] == list(expected.seen)
    (itself,) = [one for one in answer["nearest"] if one["path"] == "kestrel/3.png"]
    assert (itself["class"], itself["cosine"]) == ("kestrel", pytest.approx(1, abs=1e-3))
    cosines = [one["cosine"] for one in answer["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    picture_of_it = client.get(itself["image"])
    assert picture_of_it.headers["content-type"] == "image/jpeg"
    assert picture_of_it.content[:2] == b"\xff\xd8"


def test_the_model_and_its_notes_are_described(client: TestClient) -> None:
    described = client.get("/model").json()
    assert [one["class"] for one in described["classes"]] == list(trained.NAMES)
    assert (described["run"], described["calibrated"]) == ("zero_shot", True)
    assert "a &lt;note&gt;" in client.get("/").text


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no image", {}, 422),
        (b"", {}, 422),
        (png() + bytes(LIMIT), {}, 413),
        (png(), {"Origin": "http://elsewhere.example"}, 403),
        (png(), {"Host": "elsewhere.example"}, 400),
        (png(), {"Origin": HERE}, 200),
    ],
    ids=["no image", "nothing", "too large", "another site", "another name of this host", "the page itself"],
)
def test_what_is_no_image_too_large_or_of_another_site_is_refused(
    client: TestClient, body: bytes, headers: dict[str, str], status: int, tmp_path: Path
) -> None:
    for path in ("/classify", "/labels?label=tern"):
        assert client.post(path, content=body, headers=headers).status_code == status
    assert (tmp_path / "labels").exists() == (status == 200)


@pytest.mark.parametrize("path", ["/training/6", "/training/-1", "/training/..%2F..%2Fparams.yaml", "/params.yaml"])
def test_no_path_from_outside_is_opened(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_saved_labels_are_a_table_that_task_new_reads(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, label in enumerate(["kestrel", "tern", "../../etc", "Brünnich's guillemot"]):
        answer = client.post("/labels", params={"label": label}, content=png(number)).json()
        assert answer["saved"] == number + 1
    again = client.post("/labels", params={"label": " kestrel "}, content=png(1)).json()
    assert again == {"saved": 4, "table": str(tmp_path / "labels/labels.csv")}
    assert sorted(file.parent for file in tmp_path.rglob("*.png")) == [tmp_path / "labels"] * 4, "no label is a folder"

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("assets").symlink_to(ROOT / "assets")
    prepared = prepare(NewTask("corrected", Path(answer["table"])))
    names = [prepared.listing.classes[image.class_id] for image in prepared.listing.images]
    assert sorted(names) == ["../../etc", "Brünnich's guillemot", "kestrel", "kestrel"]
    for label in ("", "  ", "=1+1", "x" * 201, "a\x07b"):
        refused = client.post("/labels", params={"label": label}, content=png(5))
        assert (refused.status_code, "label" in refused.json()["detail"]) == (422, True), label


def test_serve_and_predict_work_while_a_run_holds_the_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append({"app": app, **options}))
    Path(".dvc").mkdir(exist_ok=True)
    with exclusive_run("shipyard run mine"):
        shown = CliRunner().invoke(cli.app, ["serve", "mine", "--port", "9000"])
        predicted = CliRunner().invoke(cli.app, ["predict", "mine", "photos/0.png"])
    assert (shown.exit_code, predicted.exit_code) == (0, 0), (shown.exception, predicted.exception)
    assert "mine: http://127.0.0.1:9000" in shown.output
    (options,) = served
    assert (options["host"], options["port"]) == ("127.0.0.1", 9000)
    assert TestClient(options["app"], base_url=HERE).post("/classify", content=png()).status_code == 200


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("limit", "status", "exit_code"), [("5", 422, 3), ("1000000", 200, 0)])
def test_serve_and_predict_read_images_up_to_the_same_limit_of_pixels(
    limit: str, status: int, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **_: served.append(app))
    CliRunner().invoke(cli.app, ["serve", "mine", "--max-pixels", limit], catch_exceptions=False)
    assert TestClient(served[0], base_url=HERE).post("/classify", content=png()).status_code == status
    assert (
        CliRunner().invoke(cli.app, ["predict", "mine", "photos/0.png", "--max-pixels", limit]).exit_code == exit_code
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("table", ["path,label,split\n0.png,cat,train\n", "path,label\nmy photo.png,cat\n"])
def test_a_table_of_somebody_else_is_not_written_anew(table: str, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(table, encoding="utf-8")
    result = CliRunner().invoke(cli.app, ["serve", "mine", "--labels", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert str(file) in str(result.exception)
    assert file.read_text(encoding="utf-8") == table


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("folder", ["data/mine/kestrel", "artifacts", "params.yaml"])
def test_labels_are_not_saved_among_images_or_results(folder: str) -> None:
    result = CliRunner().invoke(cli.app, ["serve", "mine", "--labels", folder])
    assert isinstance(result.exception, InputError)
    assert "--labels" in str(result.exception)
    assert folder in str(result.exception)


@pytest.mark.system
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_in_a_browser_images_are_chosen_classified_and_labelled(client: TestClient, tmp_path: Path) -> None:
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    (tmp_path / "broken.jpg").write_bytes(b"no image")

    try:
        with sync_playwright() as play:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            page = play.chromium.launch(executable_path=BROWSER, args=arguments).new_page()
            messages: list[str] = []
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.on("request", lambda r: None if f":{port}/" in r.url or "blob:" in r.url else messages.append(r.url))
            page.goto(f"http://127.0.0.1:{port}/")
            page.set_input_files("#files", ["data/mine/kestrel/3.png", tmp_path / "broken.jpg"])
            page.wait_for_selector(".problem")
            page.wait_for_selector(".nearest img")

            card = page.locator(".card", has_text="3.png")
            assert card.locator(".class").count() == 3
            assert card.locator(".nearest li").count() == 4
            assert "cannot be read" in page.locator(".card", has_text="broken.jpg").inner_text()

            card.locator("input").fill("sea eagle")
            card.locator("form button").click()
            page.wait_for_selector("#saved:not(:empty)")
            if folder := os.environ.get("SHIPYARD_SCREENSHOTS"):
                page.screenshot(path=f"{folder}/serve.png", full_page=True)
            assert messages == []
    finally:
        server.should_exit = True
        thread.join()
    assert "sea eagle" in (tmp_path / "labels/labels.csv").read_text(encoding="utf-8")
