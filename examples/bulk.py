"""Bulk generation: a plan, shards, a manifest. Stop it whenever you like and start it again: it goes on."""

import json
from pathlib import Path

from nsbgan_infer import Drawing, NsbPipeline, parse_classes
from nsbgan_infer.bulk.plan import Plan
from nsbgan_infer.bulk.run import MANIFEST, pipeline_maker, pipeline_settings, run
from nsbgan_infer.bulk.sinks import Encoding

out = Path("out/examples/bulk")
out.mkdir(parents=True, exist_ok=True)

pipeline = NsbPipeline.from_pretrained("embedded")
drawing = Drawing(resolution=256)
plan = Plan(
    classes=tuple(parse_classes("all", available=pipeline.sampler.info.classes)),
    count=24,
    resolution=256,
    uniform=True,  # each image's class is drawn by chance
    batch_size=4,
    shard_size=12,
    encoding=Encoding("tar", "webp"),  # WebDataset shards
    settings=pipeline_settings(pipeline, drawing),
)
run(plan, out, pipeline_maker(pipeline, drawing), resume=True)

lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
print(f"{len(lines)} images in {len({line['file'] for line in lines})} shards, listed in {out / MANIFEST}")
