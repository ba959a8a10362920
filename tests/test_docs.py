"""The pages in docs/: references are up to date, and what the plug-in page shows keeps the contract."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import nsbgan_infer
from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.storage import architectures

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = runpy.run_path(str(DOCS / "reference.py"))


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_reference_is_up_to_date(name: str) -> None:
    written = (DOCS / name).read_text("utf-8")
    assert written == REFERENCE["PAGES"][name](), f"docs/{name} is old: run `python docs/reference.py`"


def test_every_public_name_is_in_the_reference() -> None:
    listed = {name for names in REFERENCE["MODULES"].values() for name in names}
    assert set(nsbgan_infer.__all__) - {"__version__"} <= listed


def test_the_plugin_page_is_short_and_its_decoder_keeps_the_contract() -> None:
    text = (DOCS / "plugins.md").read_text("utf-8")
    assert len(text.partition("## An architecture")[0].splitlines()) <= 45
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0], names)
    assert [c for c in check_decoder(names["Smooth"]()) if not c.ok] == []


def test_the_architecture_on_the_page_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "plugins.md").read_text("utf-8")
    (tmp_path / "plain_of_the_page.py").write_text(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(architectures, "_known", architectures.all_architectures())
    plain = importlib.import_module("plain_of_the_page").Plain
    assert architectures.find_architecture("plain") is plain
    assert architectures.trained_networks()["plain"] == {"arch": "plain", "name": "plain"}
    assert [c for c in check_decoder(plain(plain.tiny)) if not c.ok] == []  # type: ignore[arg-type]
