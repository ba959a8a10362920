"""Rejection off and on: a classifier judges each picture, and what it does not believe is drawn again.

Needs the extra `eval` for the classifier, whose weights come with a package.
"""

from pathlib import Path

from PIL import ImageDraw
from tqdm.auto import tqdm

from nsbgan_infer import Drawing, NsbPipeline
from nsbgan_infer.images import grid, save_image
from nsbgan_infer.registry import load_classifier
from nsbgan_infer.rejection import Rule, Tally, rejected_outputs

out = Path("out/examples")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
classifier = load_classifier("efficientnet-lite0")
requests = pipeline.requests("golden retriever", 4)
drawing = Drawing(resolution=256)
images = []
for threshold in (0.0, 0.8):  # 0 takes every picture
    rule = Rule(threshold, max_tries=8)
    tally = Tally()
    chosen = rejected_outputs(pipeline, requests, classifier, rule, drawing=drawing, batch_size=4, tally=tally)
    found = list(tqdm(chosen, total=len(requests), desc=f"threshold {threshold}"))
    for choice, output in sorted(found, key=lambda pair: pair[0].index):
        image = output.images[0]
        label = f"{choice.score:.2f}, try {choice.attempt + 1}" + ("" if choice.accepted else ": best")
        ImageDraw.Draw(image).text((8, 4), label, "white", stroke_width=2, stroke_fill="black", font_size=20)
        images.append(image)
    print(f"threshold {threshold}: {tally.report()['acceptance']:.0%} of the drawn pictures accepted")
save_image(grid(images, columns=len(requests)), out / "rejection.webp")
print(out / "rejection.webp")
