"""Bulk generation: a plan, shards, a manifest. Stop it whenever you like and start it again: it goes on."""

import json
from pathlib import Path

from tqdm.auto import tqdm

from nsbgan_infer import Drawing, NsbPipeline, run
from nsbgan_infer.bulk.pipelines import pipeline_maker, plan_images
from nsbgan_infer.bulk.run import MANIFEST
from nsbgan_infer.bulk.sinks import Encoding

out = Path("out/examples/bulk")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
drawing = Drawing(resolution=256)
plan = plan_images(
    pipeline,
    "all",
    count=24,  # each image's class is drawn by chance
    drawing=drawing,
    batch_size=4,
    shard_size=12,
    encoding=Encoding("tar", "webp"),  # WebDataset shards
)
with tqdm(total=plan.count, unit="img") as bar:
    run(plan, out, pipeline_maker(pipeline, drawing), resume=True, progress=lambda done, _all: bar.update(done - bar.n))

lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
print(f"{len(lines)} images in {len({line['file'] for line in lines})} shards, listed in {out / MANIFEST}")
