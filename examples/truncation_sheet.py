"""Truncation from 0.1 to 1.0, a column each: less is cleaner, more is varied. Each row has one seed."""

from pathlib import Path

from PIL import ImageDraw
from tqdm.auto import tqdm

from nsbgan_infer import NsbPipeline
from nsbgan_infer.images import grid, save_image

SEEDS = [1, 2]
TRUNCATIONS = [i / 10 for i in range(1, 11)]

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
images = []
for seed in SEEDS:
    for truncation in tqdm(TRUNCATIONS, desc=f"seed {seed}"):
        image = pipeline("golden retriever", seeds=seed, truncation=truncation, resolution=256).images[0]
        ImageDraw.Draw(image).text(
            (8, 4), f"{truncation:.1f}", "white", stroke_width=2, stroke_fill="black", font_size=20
        )
        images.append(image)
save_image(grid(images, columns=len(TRUNCATIONS)), out / "truncation_sheet.webp")
print(out / "truncation_sheet.webp")
