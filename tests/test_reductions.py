"""Reductions: the four of them, and what is said where none is named."""

from __future__ import annotations

from typing import get_args

import pytest

from nsbgan_infer.errors import UnknownNameError
from nsbgan_infer.reductions import OF_BASIS, PICTURE, REDUCTIONS, Basis, reduction


def test_each_is_found_by_its_name() -> None:
    assert set(REDUCTIONS) == {"wavelet", "gaussian", "bicubic", "bilinear"}
    assert all(reduction(name).name == name for name in REDUCTIONS)


def test_the_papers_are_corner_anchored_and_resizes_centre_anchored() -> None:
    anchors = {name: r.anchor for name, r in REDUCTIONS.items()}
    assert anchors == {"wavelet": "corner", "gaussian": "corner", "bicubic": "centre", "bilinear": "centre"}
    assert reduction(PICTURE).anchor == "centre"


def test_each_basis_has_one_of_its_own() -> None:
    assert {basis: reduction(OF_BASIS[basis]).basis for basis in get_args(Basis)} == {b: b for b in get_args(Basis)}


def test_an_unknown_one_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="bicubic"):
        reduction("bicubik")
