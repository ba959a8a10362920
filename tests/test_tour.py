"""examples/tour.ipynb runs from top to bottom as it stands, and shows pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOUR = Path(__file__).resolve().parents[1] / "examples" / "tour.ipynb"


def test_the_tour_is_kept_without_its_results() -> None:
    cells = json.loads(TOUR.read_text("utf-8"))["cells"]
    assert all(not c.get("outputs") and not c.get("execution_count") for c in cells)


def test_the_tour_runs(tmp_path: Path) -> None:
    for package in ("nbclient", "ipykernel", "accelerate"):
        pytest.importorskip(package)
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TOUR, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    shown = [{kind for o in c.outputs for kind in o.get("data", {})} for c in cells]
    assert sum("image/png" in kinds for kinds in shown) >= 5
    assert sum("text/html" in kinds for kinds in shown) >= 2  # outputs of a pipeline
    assert any("s for 36 more steps" in o.get("text", "") for c in cells for o in c.outputs)  # how long training takes
    assert (tmp_path / "out/tour/my-decoder/model.safetensors").is_file()
