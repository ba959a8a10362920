"""Every command in an environment that is broken in one way works, or ends in one sentence that is not `Unexpected`."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_decoder, tiny_pipeline

from nsbgan_infer.cli.main import COMMANDS, cli, exit_code
from nsbgan_infer.storage import hub
from nsbgan_infer.storage.components import save_component

TOP = Path(__file__).resolve().parents[2]
NO_RUNNING = ("test", "dev", "all")  # extras that no command needs


def extras() -> list[str]:
    """The packages that the optional extras name, as they are imported."""
    if not (TOP / "pyproject.toml").is_file():
        return []
    table = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = [line for name, lines in table.items() if name not in NO_RUNNING for line in lines]
    return sorted({re.split(r"[\[><=!~; ]", line)[0].lower().replace("-", "_") for line in named})


LIGHT = {
    "classes": [["classes", "golden"], ["classes", "--json"]],
    "completion": [["completion", "bash"]],
    "models": [["models"]],
    "plugins": [["plugins", "list"]],
    "inspect": [["inspect", "pictures/207_golden-retriever_seed0.png"], ["inspect", "pipeline"]],
    "plan": [["plan", "--pipeline", "pipeline", "-c", "207"]],
    "generate": [
        ["generate", "--pipeline", "pipeline", "-c", "207", "--grid", "--json"],
        ["generate", "--pipeline", "pipeline", "-c", "207", "--sink", "tar", "--out", "bulk"],
    ],
    "regenerate": [
        ["regenerate", "pictures/207_golden-retriever_seed0.png", "--pipeline", "pipeline", "-o", "again.png"]
    ],
    "interpolate": [["interpolate", "decoder", "decoder", "--alpha", "0.5", "-o", "between"]],
    "upscale": [["upscale", "photo-é.png", "--decoder", "bicubic", "--out", "large.png"]],
    "convert": [["convert", "photo-é.png", "name"], ["convert", "absent.pth", "name"]],
    "data": [["data", "encode", "n02099601", "--out", "encoded", "--size", "64", "--smallest", "16"]],
    "evaluate": [
        ["evaluate", "images", "--fake", "pictures", "--measures", "ms-ssim", "--allow-small"],
        ["evaluate", "images", "--fake", "pictures", "--real", "pictures", "--measures", "fid", "--allow-small"],
        ["evaluate", "decoder", "--decoder", "bicubic", "--images", "n02099601"],
    ],
    "reproduce": [["reproduce", "slicing", "--images", "photo-é.png", "--out", "reproduced"]],
    "card": [["card", "decoder"]],
    "push": [["push", "decoder", "owner/name", "--dry-run"]],
    "serve": [["serve", "--port", "18999"], ["serve", "--preset", "nothing"]],
    "demo": [["demo", "--port", "18999"]],
    "invert": [["invert", "absent.png"]],
    "bench": [["bench", "--preset", "nothing"]],  # minutes, and nothing that the others don't do
}
HEAVY = {
    "train": [
        ["train", "decoder", "--arch", "subband-w-fast", "--data", "n02099601", "--preset", "tiny", "--steps", "1",
         "--out", "trained", "--device", "cpu"],
    ],
    "invert": [["invert", "photo-é.png", "--pipeline", "pipeline", "-c", "207", "--steps", "1"]],
    "export": [["export", "decoder", "-o", "d.onnx"]],
    "doctor": [["doctor", "--offline"]],
}  # fmt: skip
ENGINES = {  # refused at once without a compiler, or without OpenVINO; else they take minutes
    engine: [["generate", "--pipeline", "pipeline", "-c", "207", "--engine", engine]]
    for engine in ("compile", "openvino")
}

Break = Callable[[pytest.MonkeyPatch], None]


def refuse(code: int) -> Callable[..., Any]:
    def refused(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return refused


def without(package: str) -> Break:
    def hide(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return hide


def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("write_bytes", "write_text", "replace"):
        monkeypatch.setattr(Path, name, refuse(errno.ENOSPC))
    monkeypatch.setattr(os, "replace", refuse(errno.ENOSPC))


def read_only_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NSBGAN_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")


def no_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp"])


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)


def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def nothing(_monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the network is blocked, as in all tests."""


BROKEN: dict[str, Break] = {
    "no network": nothing,
    "no space": no_space,
    "a home that cannot be written": read_only_home,
    "no place for temporary files": no_tmp,
    "no compiler": no_compiler,
    "dead proxies": proxies,
    "HF_HUB_OFFLINE": hub_offline,
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands are given, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_offline", False)
    monkeypatch.setattr(hub, "_quiet", False)
    pipeline = tiny_pipeline()
    pipeline.save_pretrained("pipeline")
    save_component(tiny_decoder(), Path("decoder"))
    random = np.random.default_rng(0)
    for folder in ("pictures", "n02099601"):
        Path(folder).mkdir()
    for name in ("n02099601/a.png", "n02099601/b.png", "photo-é.png"):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(name)
    output = pipeline([207], 2)
    from nsbgan_infer.images import save_image

    for image, recipe in zip(output.images, output.recipes, strict=True):
        save_image(image, Path(f"pictures/207_golden-retriever_seed{recipe.seed}.png"), recipe=recipe)


@pytest.fixture(autouse=True)
def nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` and `demo` end once they would take connections."""
    pytest.importorskip("uvicorn", reason="the walk goes through the service too")
    from nsbgan_infer.serving import server

    def serve(_app: object, *, ready: Callable[[str], None], **_: object) -> None:
        ready("http://127.0.0.1:1/")

    monkeypatch.setattr(server, "serve", serve)


def lines_of(commands: dict[str, list[list[str]]]) -> list[list[str]]:
    """All command lines, in order."""
    return [line for lines in commands.values() for line in lines]


def walk(commands: dict[str, list[list[str]]], *, charset: str = "utf-8") -> list[str]:
    """Run them all; those that ended in something else than success or one sentence."""
    wrong = []
    for arguments in lines_of(commands):
        print(" ".join(arguments), flush=True)  # where a walk ends that the system ends
        result = CliRunner(charset=charset).invoke(cli, arguments, prog_name="nsbgan")
        said = result.stderr
        errors = [line for line in said.splitlines() if line.startswith("nsbgan: error:")]
        if "Unexpected" in said or "Traceback" in said or result.exit_code not in (0, 1, 2):
            wrong.append(f"{' '.join(arguments)}: {result.exit_code} {said}")
        elif result.exit_code and len(errors) != 1:
            wrong.append(f"{' '.join(arguments)}: {result.exit_code} without a sentence: {said}")
    return wrong


def test_the_walk_goes_through_every_command() -> None:
    assert set(LIGHT) | set(HEAVY) == set(COMMANDS)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("environment", ["no space", "no place for temporary files", "no compiler"])
def test_light_commands_in_a_broken_environment(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {name: LIGHT[name] for name in ("classes", "models", "inspect", "generate", "upscale", "card")}
    quick |= {"compile": ENGINES["compile"]} if environment == "no compiler" else {}
    BROKEN[environment](monkeypatch)
    assert walk(quick) == []


@pytest.mark.slow  # minutes: every command in every environment
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("environment", BROKEN)
def test_every_command_in_a_broken_environment(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[environment](monkeypatch)
    assert walk(LIGHT) + walk(HEAVY) == []


@pytest.mark.slow  # minutes: every command without each extra
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("package", extras())
def test_every_command_without_an_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(package)(monkeypatch)
    engines = {"openvino": ENGINES["openvino"]} if package == "openvino" else {}
    assert walk(LIGHT) + walk(HEAVY) + walk(engines) == []


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_names_and_help_in_another_encoding(charset: str) -> None:
    helps = {name: [[name, "-h"]] for name in COMMANDS}
    assert walk({**helps, **{name: LIGHT[name] for name in ("upscale", "inspect", "convert")}}, charset=charset) == []


@pytest.mark.slow  # minutes: every command
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_every_command_in_another_encoding(charset: str) -> None:
    assert walk(LIGHT, charset=charset) + walk(HEAVY, charset=charset) == []


@pytest.mark.usefixtures("files")
def test_streams_that_were_closed_before_the_program_began(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [*LIGHT["classes"], *LIGHT["upscale"], *LIGHT["convert"], ["classes", "no such thing"]]
    assert walk_with_closed_streams(lines, monkeypatch) == []


@pytest.mark.slow  # minutes: every command
@pytest.mark.usefixtures("files")
def test_every_command_with_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walk_with_closed_streams(lines_of(LIGHT) + lines_of(HEAVY), monkeypatch) == []


@pytest.mark.skipif(os.name == "nt", reason="its shell cannot close streams")
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_a_process_whose_streams_were_closed_works_and_opens_no_file_in_their_place(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = (
        f"import os, sys; [os.close(n) for n in {closed}]; "
        "os.execv(sys.executable, [sys.executable, '-m', 'nsbgan_infer', *sys.argv[1:]])"
    )
    arguments = ["upscale", "a.png", "--decoder", "bicubic", "--out", "large.png"]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert Image.open(tmp_path / "large.png").size == (32, 32)


def walk_with_closed_streams(lines: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run them without standard output, then without standard error too; those that ended wrongly."""
    wrong = []
    for arguments in lines:
        for stderr in (io.StringIO(), None):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", None)
                patch.setattr(sys, "stderr", stderr)
                code = exit_code(lambda: cli.main(arguments, prog_name="nsbgan", standalone_mode=False))  # noqa: B023
            said = stderr.getvalue() if stderr else ""
            if code not in (0, 1, 2) or "Unexpected" in said or "Traceback" in said:
                wrong.append(f"{' '.join(arguments)}: {code} {said}")
    return wrong
