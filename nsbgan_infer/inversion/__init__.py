"""Inversion: steps 1 and 2 backwards, from a photo that a user brings to the latents of a picture like it.

`run` does it, `photo` prepares the photo, `search` refines the first guess.
"""

from nsbgan_infer.inversion.run import STEPS, Inversion, invert, invert_in_steps, redraw_as
from nsbgan_infer.inversion.search import Distances, Freedom, late_steps

__all__ = ["STEPS", "Distances", "Freedom", "Inversion", "invert", "invert_in_steps", "late_steps", "redraw_as"]
