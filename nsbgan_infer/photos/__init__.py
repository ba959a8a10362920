"""Photos: step 4 on pictures that a user brings.

`reading` opens one, `enlarging` decodes it, `writing` saves it, `resizing` says how large each gets, and `batch` what
becomes of many.
"""

from nsbgan_infer.photos.enlarging import decode_image, enlarge, enlarge_in_steps
from nsbgan_infer.photos.reading import MAX_PIXELS, Photo, open_photo
from nsbgan_infer.photos.resizing import Wish
from nsbgan_infer.photos.writing import encode_photo, save_photo

__all__ = [
    "MAX_PIXELS",
    "Photo",
    "Wish",
    "decode_image",
    "encode_photo",
    "enlarge",
    "enlarge_in_steps",
    "open_photo",
    "save_photo",
]
