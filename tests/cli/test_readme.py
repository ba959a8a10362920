"""README does what it says: every command and snippet runs, and every option named in a page of text exists."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest
from command import Run
from PIL import Image

from nsbgan_infer.cli.main import cli

TOP = Path(__file__).resolve().parents[2]
PAGES = [
    TOP / "README.md",
    *(TOP / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "weights/TRAINING.md")),
    *sorted(TOP.glob("docs/*.md")),
    *sorted(TOP.glob("examples/**/README.md")),
]
PAGES.remove(TOP / "docs/commands.md")  # written from the options themselves
README = PAGES[0].read_text("utf-8")

# Lines that are not run here, and why.
SET_UP = "`.ci/run` runs it in an empty environment"
NOT_RUN = {
    "python -m pip install -q -c constraints.txt . && nsbgan generate --class 207 --res 512": SET_UP,
    'python -m pip install -q -c constraints.txt -e ".[all]" && python -m pytest': SET_UP,
    "nsbgan demo": "serves until Ctrl-C; tests/demo opens the page in a browser",
}
# Lines that take long, up to days: run with these options over theirs.
SMALLER = {
    'nsbgan generate --class "golden retriever" --class church --per-class 4 --truncation 0.7 --preset embedded': (
        "--per-class 1"
    ),
    "nsbgan generate --count 1000000 --classes uniform --preset embedded --sink tar --out part --resume": (
        "--count 3 --res 256"
    ),
    "nsbgan train decoder --arch subband-w --preset small --data my_photos/ --out runs/mine": "--preset tiny --steps 2",
    "nsbgan evaluate images --fake preset:embedded --res 256 --real my_photos/ --size 256 --measures fd-lite0,fd-lite2 "
    "--allow-small": "--class 207 --per-class 2",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[str]:
    """The commands in the fenced blocks without a language; one that a backslash continues is one line."""
    joined = [re.sub(r" *\\\n *", " ", block) for language, block in blocks(text) if not language]
    lines = [line.strip() for block in joined for line in block.splitlines()]
    return [line for line in lines if line.startswith(("nsbgan ", "python ", "pip "))]


def my_files(folder: Path) -> None:
    """The pictures that README takes for granted."""
    rng = np.random.default_rng(0)
    (folder / "my_photos").mkdir()
    with zipfile.ZipFile(folder / "set5.zip", "w") as archive:
        for name in ("photo.jpg", "my_photos/a.png", "my_photos/b.png"):
            small = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
            small.resize((192, 128), Image.Resampling.BICUBIC).save(folder / name)
            archive.write(folder / name, Path(name).name)


@pytest.mark.filterwarnings("ignore")
def test_every_command_of_readme_runs(run: Run, tmp_path: Path) -> None:
    my_files(tmp_path)
    lines = shell_lines(README)
    assert len(lines) > 10
    assert set(NOT_RUN) | set(SMALLER) <= set(lines), "an exception names a line that README no longer has"
    for line in lines:
        if line not in NOT_RUN:
            _nsbgan, *arguments = shlex.split(f"{line.split('  #')[0]} {SMALLER.get(line, '')}")
            run(*arguments)
    with Image.open("again.png") as again, Image.open("out/207_golden-retriever_seed0.png") as first:
        assert again.size == first.size == (512, 512)
    with Image.open("large.png") as large, Image.open("restored.png") as restored:
        assert (large.size, restored.size) == ((768, 512), (192, 128))
    assert len(Path("part/manifest.jsonl").read_text("utf-8").splitlines()) == 3


def test_every_snippet_of_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = [block for language, block in blocks(README) if language == "python"]
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})
    assert "decoded 2" in capsys.readouterr().out
    with Image.open("dog.png") as picture:
        assert picture.size == (512, 512)


def test_set_up_is_what_ci_runs() -> None:
    section = README.split("## Set-up")[1].split("\n## ")[0]
    assert shell_lines(section) == [line for line, reason in NOT_RUN.items() if reason == SET_UP]


def test_readme_is_read_in_a_minute() -> None:
    assert len(README.split()) <= 1100
    assert max(len(p.split()) for p in re.split(r"\n\s*\n|\n\* ", README) if "|" not in p) <= 80, "a long paragraph"


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(TOP)) for p in PAGES])
def test_every_command_in_a_page_has_its_options(page: Path) -> None:
    text = page.read_text("utf-8")
    inline = re.findall(r"`(nsbgan [^`\n]+)`", text)
    for line in shell_lines(text) + inline:
        for part in re.split(r"&&|;|\|", line.split("  #")[0]):
            words = shlex.split(part)
            if words and words[0] == "nsbgan":
                check_options(words[1:], line)


def check_options(words: list[str], line: str) -> None:
    """Follow the sub-commands of `words` and look every option up."""
    command: click.Command = cli
    context = click.Context(cli, info_name="nsbgan")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None and command is not cli:
            break  # a placeholder
        assert found is not None, f"no command {words[0]}: {line}"
        command, words = found, words[1:]
    known = {opt for p in command.get_params(context) for opt in (*p.opts, *p.secondary_opts)}
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known, f"{word} is not an option: {line}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
