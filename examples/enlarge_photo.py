"""Enlarge a photo four times: python examples/enlarge_photo.py photo.jpg

Left bicubic, right the decoder that `nsbgan upscale` uses. Without a photo a made picture, shrunk, serves as one.
"""

import sys
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from nsbgan_infer import NsbPipeline, enlarge
from nsbgan_infer.images import grid, save_image

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

file = Path(sys.argv[1]) if len(sys.argv) > 1 else out / "small_photo.png"
if len(sys.argv) == 1:
    made = NsbPipeline.from_pretrained("embedded")("beagle", seeds=0, resolution=256).images[0]
    save_image(made.resize((128, 128), Image.Resampling.LANCZOS), file)

with tqdm(unit="window") as bar:

    def tell(done: int, total: int) -> None:
        """Called after each window of the photo."""
        bar.total = total
        bar.update(done - bar.n)

    large = enlarge(file, tell=tell).image.convert("RGB")
with Image.open(file) as small:
    plain = small.convert("RGB").resize(large.size, Image.Resampling.BICUBIC)
save_image(grid([plain, large], columns=2), out / "enlarge_photo.png")
print(out / "enlarge_photo.png")
