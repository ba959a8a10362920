"""The HTTP service: one FastAPI application, alone or with the web page in it.

`POST /generate`, `/upscale` and `/invert` wait in one queue (`batcher`) and are answered with a file; `GET /classes`,
`/models`, `/health` and `/metrics` are answered at once. Every refusal is `{"error": one sentence}`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from nsbgan_infer.classes import find_class
from nsbgan_infer.errors import MissingExtraError, NsbError, UsageError, WorkError
from nsbgan_infer.inversion import STEPS, Freedom
from nsbgan_infer.serving.batcher import Batcher, BusyError, StoppingError, TooLateError, Work
from nsbgan_infer.serving.handbook import handbook
from nsbgan_infer.serving.limits import Guard, Limits
from nsbgan_infer.serving.making import InvertTask, Made, UpscaleTask
from nsbgan_infer.serving.metrics import Metrics
from nsbgan_infer.serving.offers import Offers
from nsbgan_infer.serving.problems import COMMAND, problem_of
from nsbgan_infer.serving.schemas import ClassRow, GenerateBody, Generated, Health, Models, Problem

MOST_STEPS = 200  # of an inversion
UNREAD = "There was an error parsing the body"  # fastapi's, of JSON that is too deep, or no text
GONE = 499  # nobody reads it: the client has closed the connection
PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    408: {"model": Problem, "description": "The body did not arrive in time."},
    413: {"model": Problem, "description": "The body is too long."},
    422: {"model": Problem, "description": "What was asked for cannot be."},
    429: {"model": Problem, "description": "The queue is full; Retry-After says when to come back."},
    504: {"model": Problem, "description": "Not done in time."},
}
PHOTO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The photo's file, as it is or as the first file of a form.",
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}


def build_service(
    offers: Offers, work: Work, *, limits: Limits | None = None, token: str | None = None, threads: int = 1
) -> FastAPI:
    """The application; `work` makes the tasks of one batch, in `threads` batches at the same time.

    `app.state.batcher` is its queue, which ends with the application's lifespan.
    """
    limits, metrics = limits or Limits(), Metrics()
    batcher = Batcher(work, queue=limits.queue, batch=limits.batch, threads=threads, seen=metrics.made)
    metrics.watch(lambda: batcher.waiting, lambda: batcher.running)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(
        title="nsbgan", summary="Pictures by class, and photos enlarged.", docs_url=None, redoc_url=None,
        lifespan=lifespan,
    )  # fmt: skip
    app.state.batcher, app.state.metrics = batcher, metrics
    app.add_middleware(Guard, limits=limits, token=token)
    _add_errors(app)
    _add_tables(app, offers, batcher, metrics)

    async def made(request: Request, key: Any, task: Any, seconds: float | None) -> Made:
        result: Made = await _unless_gone(
            request, batcher.submit(key, task, seconds=min(seconds or 1e9, limits.seconds))
        )
        return result

    @app.post(
        "/generate",
        summary="A picture of a class",
        response_model=Generated,
        responses={200: {"content": PNG}, **PROBLEMS},
    )
    @_counted(metrics, "/generate")
    async def generate(request: Request, body: GenerateBody) -> Response:
        """The picture as PNG with its recipe inside; with `Accept: application/json` also the latents."""
        as_json = _wants_json(request)
        task = offers.task(body)
        done = await made(request, (task.preset, task.drawing), task, body.seconds)
        if not as_json:
            return _png(done, f"{'' if task.class_id is None else f'{task.class_id:03d}_'}seed{task.seed}")
        return _latents(done)

    @app.post(
        "/upscale", summary="A photo, enlarged", response_class=Response, responses={200: {"content": PNG}, **PROBLEMS},
        openapi_extra=PHOTO,
    )  # fmt: skip
    @_counted(metrics, "/upscale")
    async def upscale(
        request: Request,
        decoder: Annotated[str | None, Query(max_length=100, description="One of GET /models.")] = None,
        seconds: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
    ) -> Response:
        """The photo as PNG with its profile, EXIF data and resolution. What was left out stands in `X-Notes`."""
        name = offers.upscaler(decoder)
        with batcher.arriving():
            photo = await _photo(request)
        done = await made(request, object(), UpscaleTask(photo, name, limits.pixels), seconds)
        return _png(done, "enlarged")

    @app.post(
        "/invert", summary="A photo's latents", response_model=Generated, responses={200: {"content": PNG}, **PROBLEMS},
        openapi_extra=PHOTO,
    )  # fmt: skip
    @_counted(metrics, "/invert")
    async def invert(
        request: Request,
        wanted: Annotated[str | None, Query(alias="class", max_length=100, description="What the photo shows.")] = None,
        preset: Annotated[str | None, Query(max_length=100, description="One of GET /models.")] = None,
        steps: Annotated[int, Query(ge=0, le=MOST_STEPS, description="How long to refine.")] = STEPS,
        freedom: Annotated[Freedom, Query(description="What may be moved.")] = "pixels",
        seconds: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
    ) -> Response:
        """The picture that is nearest to the photo's central square, with a recipe that holds its latents; with
        `Accept: application/json` these too."""
        as_json = _wants_json(request)
        name, class_id = offers.inversion(preset, wanted)
        with batcher.arriving():
            photo = await _photo(request)
        task = InvertTask(photo, name, class_id, steps, freedom, limits.pixels)
        done = await made(request, object(), task, seconds)
        return _latents(done) if as_json else _png(done, "inverted")

    return app


def _add_tables(app: FastAPI, offers: Offers, batcher: Batcher, metrics: Metrics) -> None:
    """The routes that are answered at once."""

    @app.get("/classes", summary="The classes that can be drawn")
    async def classes(q: Annotated[str, Query(max_length=100)] = "") -> list[ClassRow]:
        """All of them, or those with `q` in a name."""
        text = q.strip().lower()
        return [
            ClassRow(id=c.id, wnid=c.wnid, names=list(c.names), presets=names)
            for c, names in offers.classes()
            if not text or any(text in name.lower() for name in c.names)
        ]

    @app.get("/models", summary="Presets and upscalers")
    async def models() -> Models:
        """What is served."""
        return Models(presets=[offer.row() for offer in offers.presets], upscalers=list(offers.upscalers))

    @app.get("/health", summary="Whether the service takes requests", responses={503: {"model": Health}})
    async def health() -> Response:
        """200, or 503 while it stops."""
        stopping = batcher.stopping
        told = Health(status="stopping" if stopping else "ok", waiting=batcher.waiting, running=batcher.running)
        return JSONResponse(told.model_dump(), 503 if stopping else 200)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def figures() -> Response:
        """In Prometheus' text format."""
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(handbook(app.openapi()))


def _add_errors(app: FastAPI) -> None:
    """Every exception as one sentence and its status."""

    def answer(status: int, error: object, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status, headers)

    @app.exception_handler(NsbError)
    async def ours(_request: Request, error: NsbError) -> Response:
        if isinstance(error, BusyError):
            return answer(429, error, {"Retry-After": str(error.retry_after)})
        kinds = {MissingExtraError: 501, UsageError: 422, TooLateError: 504, StoppingError: 503}
        status = next((status for kind, status in kinds.items() if isinstance(error, kind)), 500)
        return answer(status, problem_of(error).text if COMMAND.search(str(error)) else error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["loc"] == ("body",) and request.headers.get("content-length") != "0" and not _is_json(request):
            return answer(415, "Send JSON, with the header Content-Type: application/json.")
        return answer(422, _told(first))

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return answer(GONE, "The client has gone.")

    @app.exception_handler(HTTPException)
    async def plain(_request: Request, error: HTTPException) -> Response:
        said = "The body is no JSON that can be read" if error.detail == UNREAD else error.detail.rstrip(".")
        return answer(error.status_code, f"{said}.", dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> Response:
        return answer(500, f"Unexpected {type(error).__name__} (the service's own output shows where).")


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _told(problem: Mapping[str, Any]) -> str:
    """One problem of pydantic's as a sentence."""
    kind, where = problem["type"], problem["loc"][1:]
    if kind == "json_invalid":
        return f"The body is no JSON: {problem['ctx']['error']} at character {where[0]}."
    if not where:
        return 'The body is no JSON object, such as {"class": 207}.'
    if where[0] == "class" and problem["loc"][0] == "body":  # of whole numbers and texts, the reader chose neither
        return 'class: Give an id, a WordNet id or a name, such as 207, "n02099601" or "golden retriever".'
    return f"{'.'.join(map(str, where))}: {problem['msg']}."


def _counted(
    metrics: Metrics, path: str
) -> Callable[[Callable[..., Awaitable[Response]]], Callable[..., Coroutine[Any, Any, Response]]]:
    """Count the answers of a route by status."""
    from functools import wraps

    def decorate(route: Callable[..., Awaitable[Response]]) -> Callable[..., Coroutine[Any, Any, Response]]:
        @wraps(route)
        async def counted(*args: Any, **kwargs: Any) -> Response:
            begun, status = time.perf_counter(), 500
            try:
                response = await route(*args, **kwargs)
                status = response.status_code
                return response
            except BusyError:
                status = 429
                raise
            except TooLateError:
                status = 504
                raise
            except UsageError:
                status = 422
                raise
            finally:
                metrics.answered(path, status, time.perf_counter() - begun)

        return counted

    return decorate


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, which is cancelled once the client closes the connection."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(GONE, "The client has gone")
        return await task
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _photo(request: Request) -> bytes:
    """The bytes of the photo, or of the first file of a form."""
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_files=1, max_fields=8) as form:
                for _name, value in form.multi_items():
                    if not isinstance(value, str):
                        return await value.read()
            raise UsageError("The form holds no file: send the photo as one.")
        data = await request.body()
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise UsageError(f"The form cannot be read: {error.detail.rstrip('.')}.") from error
    except OSError as error:  # a large form goes through a temporary file
        why = error.strerror or type(error).__name__
        raise WorkError(f"The service has no place for a form ({why}): send the photo itself as the body.") from error
    if not data:
        raise UsageError("The body is empty: send the photo's file.")
    return data


def _wants_json(request: Request) -> bool:
    """By the header Accept: JSON where it is named before PNG. Raises HTTPException 406 where it allows neither."""
    for part in request.headers.get("accept", "*/*").lower().split(","):
        kind = part.partition(";")[0].strip()
        if kind in ("*/*", "image/*", "image/png", ""):
            return False
        if kind in ("application/json", "application/*"):
            return True
    raise HTTPException(406, "Pictures are answered as image/png or application/json")


def _latents(made: Made) -> JSONResponse:
    """A picture from latents as JSON."""
    assert made.recipe is not None
    class_id = made.recipe.class_id
    answer = Generated(
        recipe=json.loads(made.recipe.to_json()),
        z=list(made.z),
        class_id=class_id,
        class_name=None if class_id is None else find_class(class_id).name,
        psnr=made.psnr if made.psnr is not None and math.isfinite(made.psnr) else None,
        png=base64.b64encode(made.png).decode(),
    )
    return JSONResponse(answer.model_dump())


def _png(made: Made, name: str) -> Response:
    headers = {"Content-Disposition": f'inline; filename="{name}.png"', "Cache-Control": "no-store"}
    if made.notes:
        headers["X-Notes"] = "; ".join(made.notes).encode("ascii", "replace").decode()
    return Response(made.png, media_type="image/png", headers=headers)
