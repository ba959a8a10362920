"""The same latents through every decoder whose weights are here: wavelet (W) against pixels (P).

The pipeline's first stage makes a picture of 256; each decoder gets the 64 x 64 low band of it in its own basis.
"""

from pathlib import Path

from PIL import ImageDraw
from tqdm.auto import tqdm

from nsbgan_infer import NsbPipeline, PixelEncoder, Stage, load_decoder
from nsbgan_infer.encoders.table import follow
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.images import grid, save_image
from nsbgan_infer.registry import entries

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

decoders, pipelines = [], []
for name in entries("decoder"):
    try:
        decoders.append(load_decoder(name))
    except CheckpointError:  # its weights do not ship
        continue
for preset in ("embedded", "embedded-p"):
    try:
        pipelines.append(NsbPipeline.from_pretrained(preset))
    except CheckpointError:
        continue

images = []
for pipeline in pipelines:
    for decoder in tqdm(decoders, desc=pipeline.name):
        wavelet = decoder.info.basis == "wavelet"
        last = Stage(follow(PixelEncoder(2), decoder.info.reads), decoder)
        image = NsbPipeline(pipeline.sampler, [pipeline.stages[0], last])("golden retriever", seeds=2).images[0]
        label = f"{pipeline.sampler.info.name}\n{decoder.info.name} ({'W' if wavelet else 'P'})"
        ImageDraw.Draw(image).text((8, 4), label, "white", stroke_width=2, stroke_fill="black", font_size=18)
        images.append(image)
save_image(grid(images, columns=min(6, len(decoders))), out / "decoders_side_by_side.png")
print(out / "decoders_side_by_side.png")
