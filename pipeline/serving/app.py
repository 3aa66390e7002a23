"""The web application of `shipyard serve`: a page to drop images on, and the JSON endpoints behind it.

Nothing that a request holds becomes a path: an image comes as the bytes of the body, a training image is named by its
number, and a saved image by its sha256. Requests of other sites' pages are refused, because a browser sends them to a
server on the loopback, too.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from features.encoding.augment import fill_crops
from features.encoding.images import UnreadableImageError, decode
from features.errors import InputError
from features.shards.source import ImageRef
from pipeline.inference.predict import CENTRE, Model
from pipeline.serving.corrections import Corrections
from pipeline.serving.neighbours import TrainingImages

NEAREST = 4  # training images in an answer
THUMBNAIL = 160  # longer side in pixels
AT_A_TIME = 2  # images that are decoded and classified at a time; the others wait
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Top = Annotated[int, Query(ge=1, le=1000)]
Answer = dict[str, Any]


def make_app(
    model: Model, training: TrainingImages, corrections: Corrections, *, host: str, max_bytes: int, notes: list[str]
) -> FastAPI:
    """Return the application.

    Args:
        model: encoder and classifier.
        training: the images that the classifier was fitted to.
        corrections: where images with labels are saved.
        host: address that the server listens at; with a loopback address, other names of this host are refused.
        max_bytes: size of the largest image file.
        notes: what a user should know of the model.
    """
    app = FastAPI(title=f"shipyard serve {model.task}", docs_url=None, redoc_url=None)  # their pages load scripts
    app.middleware("http")(_same_site_only)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"])
    at_a_time = asyncio.Semaphore(AT_A_TIME)

    @app.exception_handler(InputError)
    async def _refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.get("/")
    def show_page() -> HTMLResponse:
        return _page(model, notes, max_bytes)

    @app.get("/model")
    def describe() -> Answer:
        """Return the run and its classes."""
        classes = [{"class": name, "seen": seen} for name, seen in zip(model.names, model.seen, strict=True)]
        known = {"task": model.task, "run": model.run, "seed": model.seed, "encoder": model.encoder.name}
        return {**known, "calibrated": model.temperature is not None, "notes": notes, "classes": classes}

    @app.post("/classify")
    async def classify(request: Request, top: Top = 3) -> Answer:
        """Classify the image file in the body."""
        data = await _body(request, max_bytes)
        async with at_a_time:
            return await run_in_threadpool(classify_bytes, model, training, data, top)

    @app.post("/labels")
    async def save_label(request: Request, label: str) -> Answer:
        """Save the image file in the body with the label of the query."""
        data = await _body(request, max_bytes)
        async with at_a_time:
            await run_in_threadpool(pixels_of, model, data)  # what cannot be read is not saved
            saved = await run_in_threadpool(corrections.save, data, label)
        return {"saved": saved, "table": str(corrections.table)}

    @app.get("/training/{number}")
    async def show_training_image(number: int) -> Response:
        """Return a small copy of a training image, as the encoder saw it."""
        image = training.image(number)
        if image is None:
            raise HTTPException(404, "there is no such training image")
        async with at_a_time:
            return Response(await run_in_threadpool(_thumbnail, training, image), media_type="image/jpeg")

    return app


def _page(model: Model, notes: Sequence[str], max_bytes: int) -> HTMLResponse:
    """Return the page, which may run its own script and style only."""
    template = Environment(loader=PackageLoader("pipeline.serving", ""), autoescape=True).get_template("page.html")
    nonce = secrets.token_urlsafe(16)
    html = template.render(model=model, notes=notes, nonce=nonce, max_bytes=max_bytes, names=sorted(model.names))
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def classify_bytes(model: Model, training: TrainingImages, data: bytes, top: int) -> Answer:
    """Return the most probable classes of an image file, best first, and the training images nearest to it.

    Raises:
        HTTPException: 422, the bytes are no image that can be read.
    """
    features, probabilities = model.classify(torch.from_numpy(pixels_of(model, data)))
    best = probabilities[0].topk(min(top, len(model.names)))
    return {
        "predictions": [
            {"class": model.names[i], "probability": round(probability, 6), "seen": model.seen[i]}
            for probability, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ],
        "nearest": [
            {"class": one.name, "path": one.path, "cosine": round(one.similarity, 4), "image": f"training/{one.number}"}
            for one in training.nearest(features[0], NEAREST)
        ],
    }


def pixels_of(model: Model, data: bytes) -> NDArray[np.uint8]:
    """Return the centre crop (1, height, width, 3) of an image file."""
    preprocess = model.encoder.preprocess
    pixels = np.empty((1, *preprocess.size, 3), np.uint8)
    try:
        fill_crops(decode(data, model.reading), "", preprocess, CENTRE, pixels)
    except UnreadableImageError as error:
        raise HTTPException(422, f"the image cannot be read: {error}") from error
    return pixels


def _thumbnail(training: TrainingImages, ref: ImageRef) -> bytes:
    try:
        image = decode(training.read(ref), training.reading)
    except UnreadableImageError as error:
        raise HTTPException(404, "the image is not on this machine, or cannot be read") from error
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


async def _body(request: Request, limit: int) -> bytes:
    """Return the body of a request; stop reading at the limit, whatever length the request claims."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise HTTPException(413, f"the file is larger than {limit:,} bytes (`shipyard serve --max-mb`)")
    if not data:
        raise HTTPException(422, "the body is empty: send the bytes of an image file")
    return bytes(data)


async def _same_site_only(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse requests that the page of another site makes."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return Response(
            json.dumps({"detail": "requests of other sites are refused"}), 403, media_type="application/json"
        )
    response = await call_next(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
