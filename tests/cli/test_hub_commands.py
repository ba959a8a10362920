"""`nsbgan card`, `push`, `models --remote`, `doctor` and `completion`, as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Run
from local_server import LocalServer, serve
from push_server import COMMIT, PushServer
from tiny import ship_tiny_weights, tiny_decoder, tiny_pipeline

from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.storage.components import save_component

COVERS = [
    "cli.card",
    "cli.complete",
    "cli.completion",
    "cli.doctor",
    "cli.push",
    "publishing.cards",
    "publishing.hub_contents",
]

JsonRun = Callable[..., Any]
REPO = "someone/thing"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # inside huggingface_hub


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A Hub on this machine, logged in."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a tiny decoder, beside tiny weights that ship."""
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    save_component(tiny_decoder(), tmp_path / "mine")
    return tmp_path / "mine"


class TestCard:
    def test_in_a_folder(self, run: Run, decoder: Path) -> None:
        assert run("card", decoder, "--repo", REPO).stdout.strip() == str(decoder / "README.md")
        text = (decoder / "README.md").read_text()
        assert f"--decoder hf://{REPO}" in text and "](sheet.webp)" in text and (decoder / "sheet.webp").exists()
        assert "--replace" in run("card", decoder, code=2).stderr
        Path("scores.json").write_text(json.dumps({"decoder": "mine", "psnr_y": 30.5, "fd_lite0": None, "n": 5}))
        run("card", decoder, "--replace", "--no-sheet", "--measured", "scores.json")
        text = (decoder / "README.md").read_text()
        assert "| `psnr_y` | 30.5 |" in text and "sheet.webp" not in text and f"--decoder {decoder}" in text

    def test_of_what_ships(self, run_json: JsonRun, decoder: Path) -> None:
        rows = run_json("card", "all", "--no-sheet")["cards"]
        folder = decoder.parent / "weights" / "cards"
        assert [r["name"] for r in rows] == ["embedded-w-64", "embedded-p-64", "subband-w"]
        assert {p.name for p in folder.iterdir()} == {f"{r['name']}.md" for r in rows}
        run_json("card", "subband-w")
        assert "](subband-w.webp)" in (folder / "subband-w.md").read_text() and (folder / "subband-w.webp").exists()

    def test_of_what_ships_with_an_installed_package_it_goes_below_the_current_folder(
        self, run: Run, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from nsbgan_infer.storage import shipped

        package = tmp_path / "site" / "nsbgan_infer"
        shutil.copytree(decoder.parent / "weights", package / "weights")
        monkeypatch.setattr(shipped, "__file__", str(package / "storage" / "shipped.py"))
        monkeypatch.setattr(shipped, "weights_dir", lambda: package / "weights")
        assert run("card", "subband-w", "--no-sheet").stdout.strip() == str(Path("cards", "subband-w.md"))
        assert Path("cards/subband-w.md").is_file() and not (package / "weights" / "cards").exists()

    def test_what_it_refuses(self, run: Run, decoder: Path) -> None:
        assert "name one" in run("card", decoder, "all", "--repo", REPO, code=2).stderr
        assert "nor the name of shipped weights" in run("card", "nothing", code=2).stderr


class TestPush:
    def test_a_dry_run_uses_no_network(self, run: Run, run_json: JsonRun, decoder: Path) -> None:
        (decoder / "log.jsonl").write_text("")
        result = run("push", decoder, REPO, "--dry-run")
        assert "model.safetensors" in result.stdout and "sheet.webp" in result.stdout
        assert f"--decoder hf://{REPO}" in result.stdout and "Stays here: log.jsonl." in result.stderr
        assert "state no licence" in result.stderr
        value = run_json("push", decoder, REPO, "--dry-run", "--no-sheet")
        assert value["commit"] is None and value["files"].keys() == {"config.json", "model.safetensors", "README.md"}
        assert value["files"]["README.md"] == len(value["card"].encode())
        assert not (decoder / "README.md").exists()

    def test_a_decoder_there_and_back(
        self, run: Run, run_json: JsonRun, decoder: Path, hub_server: LocalServer
    ) -> None:
        held = PushServer(hub_server, REPO).held
        value = run_json("push", decoder, REPO)
        assert value["commit"].endswith(COMMIT) and value["files"].keys() == held.keys()
        assert held["model.safetensors"] == (decoder / "model.safetensors").read_bytes()
        assert held["README.md"].startswith(b"---\n") and held["sheet.webp"].startswith(b"RIFF")
        run("generate", "-c", 207, "--preset", "embedded", "--res", 256, "--decoder", f"hf://{REPO}")
        ours = Path("out/207_golden-retriever_seed0.png").read_bytes()
        run("generate", "-c", 207, "--preset", "embedded", "--res", 256, "--decoder", decoder)
        assert Path("out/207_golden-retriever_seed0.png").read_bytes() == ours
        said = run("generate", "-c", 207, "--pipeline", REPO, code=2).stderr
        assert f"--decoder hf://{REPO}" in said and "single component" in said

    def test_a_pipeline_pinned_and_offline(
        self, run: Run, hub_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ship_tiny_weights(tmp_path / "weights", monkeypatch)
        folder = tiny_pipeline().save_pretrained(tmp_path / "pipeline")
        (folder / "README.md").write_text("# my own words")
        made = PushServer(hub_server, REPO)
        assert f"--pipeline {REPO}" in run("push", folder, REPO, "--private").stdout
        assert made.private and made.held["README.md"] == b"# my own words" and "sheet.webp" not in made.held
        pipeline = NsbPipeline.from_pretrained(REPO, revision=COMMIT)
        assert pipeline.resolutions == (64, 128)
        asked = len(hub_server.requests)
        run("generate", "-c", 207, "--pipeline", f"{REPO}@{COMMIT}", "--offline")
        assert len(hub_server.requests) == asked
        from nsbgan_infer.errors import UsageError

        with pytest.raises(UsageError, match="leave out the revision"):
            NsbPipeline.from_pretrained("embedded", revision=COMMIT)

    def test_without_a_log_in(
        self, run: Run, decoder: Path, hub_server: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = PushServer(hub_server, REPO).held
        monkeypatch.setenv("HF_TOKEN", "of somebody else")
        said = run("push", decoder, REPO, "--no-sheet", code=2).stderr
        assert "401" in said and "hf auth login" in said and not held

    def test_what_it_refuses(self, run: Run, decoder: Path) -> None:
        (decoder / "diary.txt").write_text("dear diary")
        assert "diary.txt does not belong" in run("push", decoder, REPO, "--dry-run", code=2).stderr
        assert "write owner/name" in run("push", decoder, "thing", code=2).stderr
        assert "neither a component nor a pipeline" in run("push", decoder.parent, REPO, code=2).stderr


class TestRemote:
    def test_a_component_and_a_pipeline(
        self, run: Run, run_json: JsonRun, hub_server: LocalServer, tmp_path: Path, private_cache: Path
    ) -> None:
        folder = tiny_pipeline().save_pretrained(tmp_path / "pipeline")
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        hub_server.put_repo(REPO, files, revision="main", commit="1" * 40)
        parts = {k.removeprefix("decoder-1/"): v for k, v in files.items() if k.startswith("decoder-1/")}
        hub_server.put_repo(REPO, parts | {"README.md": b""}, revision="v2", commit="2" * 40)
        whole = run_json("models", "--remote", REPO)
        assert (whole["kind"], whole["commit"], whole["other_files"]) == ("pipeline", "1" * 40, 3)
        decoder, sampler = whole["parts"]
        numbers = sum(p.numel() for p in tiny_decoder().parameters())
        size = len(files["decoder-1/model.safetensors"])
        assert decoder == {"folder": "decoder-1", "size": size, "name": "tiny-w", "kind": "decoder", "arch": "subband",
                           "basis": "wavelet", "parameters": numbers, "licence": "none", "reads": "wavelet",
                           "scale": 4}  # fmt: skip
        assert (sampler["kind"], sampler["licence"], sampler["classes"]) == ("sampler", "tests only", 4)
        text = run("models", "--remote", f"hf://{REPO}@v2").stdout
        assert "decoder tiny-w" in text and f"--decoder hf://{REPO}@{'2' * 40}" in text
        assert not list(private_cache.rglob("*.safetensors")), "no weights are fetched"

    def test_strange_and_hostile_repositories(self, run: Run, run_json: JsonRun, hub_server: LocalServer) -> None:
        hub_server.put_repo(REPO, {"pytorch_model.bin": b"pickle", "../model.safetensors": b"", "a/b/c.json": b"{}"})
        assert run_json("models", "--remote", REPO)["kind"] == "other"
        assert "no component of nsbgan_infer" in run("models", "--remote", REPO).stdout
        hub_server.put_repo(REPO, {"model.safetensors": b"\xff" * 64, "config.json": b"{}"})
        assert "is not a safetensors file" in run("models", "--remote", REPO).stdout
        many = {f"p{i}/model.safetensors": b"" for i in range(50)}
        hub_server.put_repo(REPO, many)
        hub_server.requests.clear()
        assert len(run_json("models", "--remote", REPO)["parts"]) == 16 and len(hub_server.requests) < 20

    def test_what_is_not_there(self, run: Run, hub_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = {"X-Error-Code": "RepoNotFound"}
        hub_server.put(f"/api/models/{REPO}", b"{}", status=404, headers=missing)
        assert "does not exist" in run("models", "--remote", REPO, code=2).stderr
        hub_server.put(f"/api/models/{REPO}", b"{}", status=401)
        assert "hf auth login" in run("models", "--remote", REPO, code=2).stderr
        assert "write owner/name" in run("models", "--remote", "thing", code=2).stderr
        monkeypatch.setenv("NSBGAN_OFFLINE", "1")
        assert "network" in run("models", "--remote", REPO, code=2).stderr


def test_the_doctor_says_why_it_cannot_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    healthy = run("doctor", "--offline").stdout
    assert "The main job can run" in healthy and "not asked (offline)" in healthy and "whole" in healthy
    (tmp_path / "weights" / "subband-w.safetensors").unlink()
    result = run("doctor", "--offline", code=1)
    assert "No weights of subband-w ship" in result.stderr and "The main job can run" not in result.stdout
    value = json.loads(run("doctor", "--offline", "--json", code=1).stdout)
    assert value["problems"] and value["versions"]["python"] == sys.version.split()[0]


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_scripts(self, run: Run, shell: str) -> None:
        text = run("completion", shell).stdout
        assert "_NSBGAN_COMPLETE=" in text and "nsbgan" in text
        if shutil.which(shell):
            assert subprocess.run([shell, "-n"], input=text, text=True, check=False).returncode == 0

    @pytest.mark.parametrize(
        ("words", "offered"),
        [
            ("nsbgan generate --class golden-r", "plain,golden-retriever"),
            ("nsbgan classes axol", "plain,axolotl"),
            ("nsbgan plan --preset pretrained-256-1", "plain,pretrained-256-128"),
            ("nsbgan upscale --decoder photo", "plain,photo\nplain,photo-fast\nplain,photo-sharp"),
            ("nsbgan generate --sampler embedded-w", "plain,embedded-w-64"),
            ("nsbgan generate --sampler ./fol", "file,./fol"),
            ("nsbgan push subband-w-f", "plain,subband-w-fast"),
            ("nsbgan comp", "plain,completion"),
            ("nsbgan mistyped x", ""),
        ],
    )
    def test_what_is_offered(self, run: Run, monkeypatch: pytest.MonkeyPatch, words: str, offered: str) -> None:
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        monkeypatch.setenv("_NSBGAN_COMPLETE", "bash_complete")
        result = run(code=0)
        assert (result.stdout.strip(), result.stderr) == (offered, "")

    def test_it_is_light(self) -> None:
        code = (
            "import sys\nfrom nsbgan_infer.cli.main import cli\n"
            "try: cli.main([], prog_name='nsbgan')\nexcept SystemExit: pass\n"
            "sys.exit(bool({'torch', 'numpy', 'huggingface_hub'} & sys.modules.keys()))"
        )
        words = {"COMP_WORDS": "nsbgan generate --decoder ", "COMP_CWORD": "3", "_NSBGAN_COMPLETE": "bash_complete"}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "plain,bicubic" in done.stdout
