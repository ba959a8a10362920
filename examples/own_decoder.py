"""Train a decoder on a folder of your own and use it: python examples/own_decoder.py my_photos/

The preset `tiny` is a first try in seconds; `small` is what the weights that ship were trained with. Without a folder a
few made pictures serve as one.
"""

import sys
from pathlib import Path

from nsbgan_infer import NsbPipeline
from nsbgan_infer.images import grid, save_image
from nsbgan_infer.training.decoders.l1 import train_decoder
from nsbgan_infer.training.decoders.presets import decoder_settings

out = Path("out/examples/own_decoder")
pipeline = NsbPipeline.from_pretrained("embedded")

photos = Path(sys.argv[1]) if len(sys.argv) > 1 else out / "photos"
if len(sys.argv) == 1:
    pipeline(["golden retriever", "church"], num_images=4, resolution=256).save(photos, recipe=False)

train_decoder(decoder_settings("tiny", arch="subband-w", data=(str(photos),), out=out / "run"))

images = [pipeline("church", seeds=5, decoder=d).images[0] for d in ("iwt", str(out / "run"))]
save_image(grid(images, columns=2), out / "own_decoder.png")  # zero details | yours
print(out / "own_decoder.png")
