"""One picture of a class with its recipe inside, and the shape of every step on the way to it."""

from pathlib import Path

from nsbgan_infer import NsbPipeline
from nsbgan_infer.images import save_image

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
output = pipeline("golden retriever", seeds=2, keep_steps=True)
for name, tensor in output.steps.items():
    print(f"{name:12} {tuple(tensor.shape)}")
save_image(output.images[0], out / "one_image.png", recipe=output.recipes[0])
print(out / "one_image.png")
