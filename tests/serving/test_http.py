"""The HTTP service with tiny parts: answers, refusals, limits, batches, disconnects, an end in good order."""

from __future__ import annotations

import base64
import io
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import tiny_pipeline

from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import read_recipe

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")
from fastapi.testclient import TestClient
from loopback import Asked, answer_on, until
from tiny_service import HeldMaker, tiny_service

from nsbgan_infer.serving import server
from nsbgan_infer.serving.limits import Limits, read_token
from nsbgan_infer.serving.server import serve_in_thread

COVERS = [
    "serving.handbook",
    "serving.limits",
    "serving.making",
    "serving.metrics",
    "serving.offers",
    "serving.schemas",
    "serving.server",
]
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries
JSON = {"accept": "application/json"}
TYPED = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(tiny_service(), raise_server_exceptions=False) as client:
        yield client


def photo(size: tuple[int, int] = (20, 12), fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, fmt)
    return buffer.getvalue()


def error_of(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


def test_a_class_becomes_the_pipelines_picture_with_its_recipe(client: TestClient, tmp_path: Path) -> None:
    response = client.post("/generate", json={"class": 207, "seed": 3})
    assert response.status_code == 200 and response.headers["content-type"] == "image/png"
    assert 'filename="207_seed3.png"' in response.headers["content-disposition"]
    expected = tiny_pipeline()(207, seeds=3)
    image = Image.open(io.BytesIO(response.content))
    assert image.tobytes() == expected.images[0].tobytes()
    (tmp_path / "a.png").write_bytes(response.content)
    assert read_recipe(tmp_path / "a.png") == expected.recipes[0]


def test_latents_and_recipe_come_as_json_where_accept_asks_for_it(client: TestClient) -> None:
    body = {"class": "golden retriever", "seed": 5, "truncation": 0.5, "resolution": 64, "preset": "tiny"}
    answer = client.post("/generate", json=body, headers=JSON).json()
    pipeline = tiny_pipeline()
    expected = pipeline(207, seeds=5, truncation=0.5, resolution=64)
    assert answer["recipe"] == json.loads(expected.recipes[0].to_json())
    assert (answer["class_id"], answer["class_name"]) == (207, "golden retriever")
    from nsbgan_infer.pipeline import Drawing

    z = pipeline.latents(pipeline.requests(207, seeds=5), Drawing(0.5)).z[0]
    assert answer["z"] == pytest.approx(z.tolist())
    assert Image.open(io.BytesIO(base64.b64decode(answer["png"]))).size == (64, 64)
    for accept, kind in (("*/*", "image/png"), ("image/webp, application/json;q=0.9", "application/json")):
        response = client.post("/generate", json={"class": 1}, headers={"accept": accept})
        assert response.headers["content-type"] == kind
    assert "image/png or application/json" in error_of(
        client.post("/generate", json={"class": 1}, headers={"accept": "text/html"}), 406
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, 'Which class? Give "class"'),
        ({"class": "golden retreiver"}, "did you mean golden retriever"),
        ({"class": "tench"}, "does not draw tench"),
        ({"class": "200-210"}, "200-210"),
        ({"class": 1, "preset": "../../etc/passwd"}, "Unknown preset '../../etc/passwd'"),
        ({"class": 1, "preset": "hf://owner/repo"}, "Unknown preset"),
        ({"class": 1, "preset": "biggan-512"}, "Unknown preset"),
        ({"class": 1, "sampler": "x.pt"}, "sampler: Extra inputs are not permitted"),
        ({"class": 1, "seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"class": 1, "seed": 2**32}, "seed: "),
        ({"class": 1, "seed": "1"}, "seed: "),
        ({"class": 1, "truncation": 0}, "truncation: "),
        ({"class": 1, "resolution": 100}, "100"),
        ({"class": {"a": 1}}, "class: Give an id, a WordNet id or a name"),
        ({"class": True}, "class: Give an id"),
        ({"class": 2.5}, "class: Give an id"),
        ({"class": 10**30}, "GET /classes?q=WORD searches by name"),
        ({"class": 1, "truncation": "0.5"}, "truncation: Input should be a valid number"),
        ({"class": 1, "seconds": "1"}, "seconds: Input should be a valid number"),
        ({"class": "dog", "seconds": 1e308}, "is ambiguous, give the id of one of these"),
    ],
)
def test_what_cannot_be_is_one_sentence(client: TestClient, body: dict[str, Any], says: str) -> None:
    said = error_of(client.post("/generate", json=body), 422)
    assert says in said and "`nsbgan" not in said


def test_what_is_no_json_and_no_path_is_one_sentence(client: TestClient) -> None:
    for data in (b"{", b"\xff", b"[1]", b"", b"[" * 50_000):
        response = client.post("/generate", content=data, headers={"content-type": "application/json"})
        said = error_of(response, 400 if data in (b"\xff", b"[" * 50_000) else 422)
        assert said.startswith("The body is no JSON"), said
    assert client.post("/generate", content=b'{"class": ', headers=TYPED).json()["error"].endswith("at character 10.")
    huge = client.post("/generate", content=b'{"class": ' + b"9" * 5000 + b"}", headers=TYPED)
    assert error_of(huge, 400) == "The body is no JSON that can be read."
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", ""):
        response = client.post("/generate", content=b'{"class": 1}', headers={"content-type": kind})
        assert "the header Content-Type: application/json" in error_of(response, 415)
    for path in ("/health", "/classes", "/metrics"):
        assert client.head(path).status_code == 200
    assert error_of(client.get("/nothing"), 404) == "Not Found."
    assert error_of(client.get("/generate"), 405) == "Method Not Allowed."


def test_a_photo_is_enlarged_from_the_body_or_a_form(client: TestClient) -> None:
    from nsbgan_infer.photos import enlarge, open_photo
    from nsbgan_infer.registry import load_decoder

    expected = enlarge(open_photo(photo()), load_decoder("bicubic")).image
    plain = client.post("/upscale", content=photo(), headers={"content-type": "image/png"})
    form = client.post("/upscale", files={"file": ("../../a.png", photo())}, data={"other": "x"})
    for response in (plain, form):
        assert response.status_code == 200
        image = Image.open(io.BytesIO(response.content))
        assert image.size == (80, 48) and image.convert("RGB").tobytes() == expected.convert("RGB").tobytes()
    other = client.post("/upscale?decoder=lanczos", content=photo()).content
    assert other != plain.content


def test_photos_that_cannot_be_enlarged_are_refused(client: TestClient) -> None:
    def asked(data: bytes, query: str = "", **options: Any) -> str:
        return error_of(client.post(f"/upscale{query}", content=data, **options), 422)

    assert "is empty" in asked(b"")
    assert "not an image that can be read" in asked(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert "not an image that can be read" in asked(photo()[:60])
    assert "Unknown decoder '/etc/passwd'" in asked(photo(), "?decoder=/etc/passwd")
    assert "Unknown decoder 'spandrel:x.pth'" in asked(photo(), "?decoder=spandrel:x.pth")
    assert "form cannot be read" in asked(b"x", headers={"content-type": "multipart/form-data"})
    assert "more" in asked(photo((1100, 1000)))
    no_file = client.post("/upscale", data={"a": "b"}, files={})
    error_of(no_file, 422)


def test_a_photo_becomes_latents(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_trunk import use_tiny_trunks

    use_tiny_trunks(monkeypatch)
    answer = client.post("/invert?class=goldfish&steps=2&freedom=vector", content=photo((64, 64)), headers=JSON)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["class_id"], told["class_name"], len(told["z"])) == (1, "goldfish", 8) and told["psnr"] > 0
    assert told["recipe"]["latents"]
    plain = client.post("/invert?class=1&steps=2&freedom=vector", content=photo((64, 64)))
    assert Image.open(io.BytesIO(plain.content)).size == (128, 128)
    assert plain.content == base64.b64decode(told["png"])
    for query, says in (("class=tench", "does not draw"), ("steps=201", "steps: "), ("freedom=all", "freedom: "),
                        ("preset=../x", "Unknown preset")):  # fmt: skip
        assert says in error_of(client.post(f"/invert?{query}", content=photo()), 422)
    assert "not an image" in error_of(client.post("/invert?class=1", content=b"GIF"), 422)


def test_tables(client: TestClient) -> None:
    rows = client.get("/classes").json()
    assert [row["id"] for row in rows] == [1, 207, 217, 933]
    assert rows[1]["wnid"] == "n02099601" and rows[1]["presets"] == ["tiny"]
    assert [row["id"] for row in client.get("/classes?q=RETRIEVER").json()] == [207]
    models = client.get("/models").json()
    (preset,) = models["presets"]
    assert (preset["name"], preset["classes"], preset["resolutions"][-1]) == ("tiny", 4, 128)
    assert models["upscalers"] == ["bicubic", "lanczos"]
    assert client.get("/health").json() == {"status": "ok", "waiting": 0, "running": 0}


def test_figures_for_prometheus_count_pictures_and_refusals() -> None:
    with TestClient(tiny_service()) as client:
        client.post("/generate", json={"class": 207})
        client.post("/generate", json={"class": "no such"})
        text = client.get("/metrics").text
    assert 'nsbgan_requests_total{path="/generate",status="200"} 1.0' in text
    assert 'nsbgan_requests_total{path="/generate",status="422"} 1.0' in text
    assert "nsbgan_pictures_total 1.0" in text and "nsbgan_waiting_requests 0.0" in text


def test_the_openapi_page_names_every_path_and_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    described = client.get("/openapi.json").json()["paths"]
    assert set(described) == {"/generate", "/upscale", "/invert", "/classes", "/models", "/health", "/metrics"}
    assert all(f"{path}</code>" in page for path in described)
    assert "truncation" in page and "above 0 to 1" in page and "429" in page
    assert "<script" not in page and "http" not in page.replace("http://127.0.0.1:8000", "")


def test_bodies_that_are_too_long_are_ended() -> None:
    limits = Limits(upload=5000, text=200)
    with TestClient(tiny_service(limits=limits)) as client:
        for path, length in (("/generate", 201), ("/upscale", 5001)):
            told = client.post(path, content=bytes(length))
            untold = client.post(path, content=(bytes(100) for _ in range(60)), headers={"content-type": "image/png"})
            for response in (told, untold):
                assert "The body is longer than" in error_of(response, 413)
        assert client.post("/upscale", content=photo()).status_code == 200


def test_a_form_without_a_place_for_temporary_files_is_one_sentence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp"])
    large = client.post("/upscale", files={"file": ("a.png", bytes(2 << 20))})
    assert "send the photo itself as the body" in error_of(large, 500)
    assert client.post("/upscale", files={"file": ("a.png", photo())}).status_code == 200


def test_a_body_that_does_not_arrive_is_ended() -> None:
    with serve_in_thread(tiny_service(limits=Limits(seconds=0.2)), first=18_520) as address:
        for path in ("/upscale", "/invert?class=1", "/generate"):
            answer = answer_on(Asked(address).opened(path, b"{}", length=100))
            assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.2 s" in answer


def test_as_many_photos_arrive_as_may_wait_and_pictures_are_made_meanwhile() -> None:
    app = tiny_service(limits=Limits(queue=2))
    with serve_in_thread(app, first=18_540) as address:
        asked = Asked(address)
        slow = [asked.opened("/upscale", b"x", length=100) for _ in range(2)]
        until(lambda: app.state.batcher.held == 2)
        answer = answer_on(asked.opened("/upscale", photo(), length=len(photo())))
        assert answer.startswith(b"HTTP/1.1 429 ") and b"2 photos are arriving" in answer and b"retry-after" in answer
        assert asked.post({"class": 1})[0] == 200
        slow[0].close()
        until(lambda: app.state.batcher.held == 1)
        assert answer_on(asked.opened("/upscale", photo(), length=len(photo()))).startswith(b"HTTP/1.1 200 ")
        slow[1].close()


def test_a_full_queue_refuses_a_photo_before_it_arrives() -> None:
    maker = HeldMaker()
    maker.gate.clear()
    app = tiny_service(maker, limits=Limits(queue=1))
    with serve_in_thread(app, first=18_560) as address:
        asked = Asked(address)
        waiting = [asked.raw({"class": 1})]
        until(lambda: maker.batches == [1])
        waiting.append(asked.raw({"class": 1}))
        until(lambda: app.state.batcher.waiting == 1)
        assert answer_on(asked.opened("/upscale", b"x", length=100)).startswith(b"HTTP/1.1 429 ")
        maker.gate.set()


def test_a_stop_ends_what_does_not_arrive_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.2)
    app = tiny_service()
    with serve_in_thread(app, first=18_580) as address:
        slow = Asked(address).opened("/upscale", b"x", length=100)
        until(lambda: app.state.batcher.held == 1)
    assert answer_on(slow).startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in capfd.readouterr().err


def test_what_clients_send_wrong_does_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with serve_in_thread(tiny_service(), first=18_620) as address:
        asked = Asked(address)
        for sent in (b"GARBAGE\r\n\r\n", b"POST /upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
                     b"Content-Type: multipart/form-data; boundary=a\r\nConnection: close\r\n\r\n{}"):  # fmt: skip
            with asked.connected() as opened:
                opened.sendall(sent)
                assert opened.recv(1 << 16).startswith(b"HTTP/1.1 4")
    assert capfd.readouterr().err == ""


def test_a_token_is_asked_for_on_every_path_but_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    token = read_token(tmp_path / "token")
    with TestClient(tiny_service(token=token)) as client:
        for path in ("/classes", "/metrics", "/docs", "/openapi.json", "/nothing"):
            assert error_of(client.get(path), 401) == "This service asks for a bearer token."
            assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
            assert client.get(path, headers={"authorization": f"Basic {token}"}).status_code == 401
        assert client.get("/health").status_code == 200
        assert client.get("/classes", headers={"authorization": f"bearer {token}"}).status_code == 200
    monkeypatch.delenv("NSBGAN_SERVE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("NSBGAN_SERVE_TOKEN", "short")
    with pytest.raises(UsageError, match="16 or more letters"):
        read_token(None)
    with pytest.raises(UsageError, match="Cannot read the token"):
        read_token(tmp_path / "none")


def test_waiting_requests_become_batches_the_rest_429_and_who_goes_is_dropped() -> None:
    maker = HeldMaker()
    app = tiny_service(maker, limits=Limits(queue=4, batch=3))
    batcher = app.state.batcher
    maker.gate.clear()
    with serve_in_thread(app, first=18_400) as address, ThreadPoolExecutor(8) as pool:
        asked = Asked(address)
        first = pool.submit(asked.post, {"class": 1})
        until(lambda: maker.batches == [1])
        others = []
        for seed in range(3):
            others.append(pool.submit(asked.post, {"class": 207, "seed": seed}))
            until(lambda: batcher.waiting == len(others))
        goes = asked.raw({"class": 933})
        until(lambda: batcher.waiting == 4)
        status, headers, body = asked.post({"class": 207})
        assert status == 429 and int(headers["retry-after"]) >= 1
        assert json.loads(body)["error"].startswith("4 requests are waiting: try again in")
        goes.close()
        until(lambda: batcher.waiting == 3)
        maker.gate.set()
        answers = [first.result(30), *(other.result(30) for other in others)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert maker.batches == [1, 3]
    assert len({body for _, _, body in answers}) == 4


def test_work_for_somebody_who_has_gone_ends() -> None:
    maker = HeldMaker()
    maker.gate.clear()
    with serve_in_thread(tiny_service(maker), first=18_440) as address:
        goes = Asked(address).raw({"class": 1})
        until(lambda: maker.batches == [1])
        goes.close()
        time.sleep(0.2)  # for the server to see the connection end
        maker.gate.set()
        until(lambda: maker.given_up)
    assert maker.given_up == [True]


def test_a_deadline_ends_in_504() -> None:
    maker = HeldMaker()
    maker.gate.clear()
    with serve_in_thread(tiny_service(maker), first=18_460) as address:
        status, _, body = Asked(address).post({"class": 1, "seconds": 0.05})
        maker.gate.set()
    assert status == 504 and "not done within 0.05 s" in json.loads(body)["error"]


def test_a_request_under_way_is_answered_while_the_service_stops() -> None:
    maker = HeldMaker()
    maker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        with serve_in_thread(tiny_service(maker), first=18_480) as address:
            answer = pool.submit(Asked(address).post, {"class": 1})
            until(lambda: maker.batches == [1])
            threading.Timer(0.3, maker.gate.set).start()
        assert answer.result(30)[0] == 200


def test_a_taken_port_is_one_sentence_and_the_next_free_one_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"{port}: it is taken"), serve_in_thread(tiny_service(), port=port):
            pass
        with serve_in_thread(tiny_service(), first=port) as address:
            assert int(address.rstrip("/").rsplit(":", 1)[1]) > port


def test_proxies_of_the_environment_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve_in_thread(tiny_service(), first=18_500) as address:
        assert Asked(address).post({"class": 1})[0] == 200
