"""Sets of pictures to train on or to measure: a folder, a ZIP archive, WebDataset tar shards or what a run made.

They are read where they lie. `names` says which files are pictures and of which class, `opening` and `archives` find
them, `runs` reads a run by its manifest, `source` decodes and prepares, `description` says what a set is.
"""

from nsbgan_infer.datasets.description import SetDescription, describe
from nsbgan_infer.datasets.names import ASIDE
from nsbgan_infer.datasets.opening import open_source
from nsbgan_infer.datasets.source import ImageSource, centre_square, check_images, decode_image, to_tensor

__all__ = [
    "ASIDE",
    "ImageSource",
    "SetDescription",
    "centre_square",
    "check_images",
    "decode_image",
    "describe",
    "open_source",
    "to_tensor",
]
