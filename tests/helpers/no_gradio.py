"""What the tabs' functions ask of gradio beside components, for tests without it."""

from __future__ import annotations

from typing import Any

SKIP = "as it was"


class NoGradio:
    """`skip` is a word, a component the arguments that it was made with."""

    @staticmethod
    def skip() -> Any:
        return SKIP

    @staticmethod
    def Accordion(**how: Any) -> dict[str, Any]:
        return how
