"""A sheet with two pictures of every class that the sampler draws, four classes a row."""

from pathlib import Path

from nsbgan_infer import NsbPipeline
from nsbgan_infer.images import grid, save_image

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
output = pipeline("all", num_images=2, seeds=0, resolution=256, batch_size=4)
save_image(grid(output.images, columns=8), out / "class_sheet.webp")
print(out / "class_sheet.webp")
