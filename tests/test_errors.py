"""Errors are one printable line, and names that are near are suggested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer import errors
from nsbgan_infer.errors import CheckpointError, NsbError, UsageError, WorkError, missing_extra, unknown_name


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    message = str(UsageError(text))
    assert message.isprintable() and len(message.splitlines()) <= 1
    message.encode("utf-8")
    if text.isprintable():
        assert message == text


def test_what_would_steer_a_terminal_does_not_reach_it() -> None:
    assert str(CheckpointError("a\x1b[2Jb\r\n  c\x00\udcff")) == "a?[2Jb c??"


def test_exit_codes() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, NsbError)]
    assert len(classes) > 8
    for c in classes:
        assert c.exit_code == (2 if issubclass(c, UsageError) else 1) and c.__doc__
    assert issubclass(CheckpointError, UsageError) and not issubclass(WorkError, UsageError)


def test_unknown_names() -> None:
    assert str(unknown_name("decoder", "bicubik", ["iwt", "bicubic"])) == (
        "Unknown decoder 'bicubik': did you mean bicubic?"
    )
    assert str(unknown_name("decoder", "zzz", ["iwt", "bicubic"], hint="See X.")) == (
        "Unknown decoder 'zzz': known: bicubic, iwt. See X."
    )


def test_a_missing_package_names_its_extra() -> None:
    error = missing_extra("openvino", "openvino", "The engine")
    with pytest.raises(UsageError, match=r"pip install 'nsbgan-infer\[openvino\]'"):
        raise error
