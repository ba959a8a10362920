"""docs/site_hooks.py and mkdocs.yml: the site is built strictly, and links lead to their places in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

config = pytest.importorskip("mkdocs.config", reason="the site needs mkdocs (extra `dev`)")
TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of mkdocs, such as a link that leads nowhere, is an error."""
    from mkdocs.commands.build import build

    folder = tmp_path_factory.mktemp("site")
    build(config.load_config(str(TOP / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def test_every_page_is_in_the_site_and_readme_is_the_first(site: Path) -> None:
    for page in (TOP / "docs").glob("*.md"):
        assert (site / page.stem / "index.html").is_file(), page.name
    assert "<h1" in (first := (site / "index.html").read_text("utf-8")) and "Class-conditional" in first
    assert not list(site.glob("*.py")), "the scripts in docs/ are no pages"


def test_links_out_of_docs_lead_to_copies_in_the_site(site: Path) -> None:
    numbers = (site / "numbers" / "index.html").read_text("utf-8")
    assert 'href="../weights/TRAINING/"' in numbers and 'href="../results/#against-biggan-512"' in numbers
    first = (site / "index.html").read_text("utf-8")
    assert 'href="docs/' not in first and 'src="images/classes.webp"' in first
    assert (site / "CITATION.cff").read_bytes() == (TOP / "CITATION.cff").read_bytes()


def test_a_reader_of_the_site_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img)\b[^>]*>", page.read_text("utf-8")):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page}: {tag}"
