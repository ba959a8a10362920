"""The web page as a Hugging Face Space: on every address of its container, at the port that the Space names."""

import os
import signal
import sys

from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.demo import build_demo
from nsbgan_infer.serving.server import serve


def main() -> None:
    """Serve until the Space is stopped, then remove what was made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as on Ctrl-C, what follows `finally` runs
    studio = Studio()
    try:
        serve(
            build_demo(studio),
            host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
            port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
            ready=lambda address: print(f"Serving on {address}", file=sys.stderr, flush=True),
        )
    finally:
        studio.close()


if __name__ == "__main__":
    main()
