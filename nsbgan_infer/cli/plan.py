"""`nsbgan plan`: what `generate` with the same options would do, run on tensors without content."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.loading import check_choice, choose
from nsbgan_infer.cli.options import (
    Choice,
    Files,
    Images,
    Machine,
    WithClasses,
    choice_options,
    console_options,
    file_options,
    image_options,
    machine_options,
)
from nsbgan_infer.cli.output import Console, size_text, table

if TYPE_CHECKING:
    from nsbgan_infer.diagnostics.estimate import PipelinePlan, StepPlan


@click.command("plan", cls=WithClasses)
@image_options
@choice_options
@file_options
@machine_options
@console_options
def command(images: Images, choice: Choice, files: Files, machine: Machine, console: Console) -> None:
    """Tell what `generate` with the same options would do; nothing is made, fetched or written.

    Steps with their shapes and multiply-adds, memory, downloads and licences. Memory is weights plus the largest sum
    of intermediate tensors; Python and torch themselves (about 300 MB) and the convolutions' work space come on top.
    """
    check_choice(choice, images)
    ref, reason = choose(choice, console, fetch=False)
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.diagnostics.estimate import outline_pipeline, plan_pipeline

    dtype = pick_dtype(machine.dtype, pick_device(machine.device))
    pipeline = outline_pipeline(ref, sampler=choice.sampler, decoder=choice.decoder)
    count = len(pipeline.requests(images.classes, images.per_class, seeds=images.seed))
    plan = plan_pipeline(pipeline, batch_size=machine.batch_size, resolution=images.resolution, dtype=dtype)
    value: dict[str, Any] = {
        **asdict(plan),
        "reason": reason,
        "images": count,
        "resolution": plan.steps[-1].shape[-1],
        "multiply_adds": plan.multiply_adds,
        "memory": plan.memory,
        "download": plan.download,
        "out": str(files.out),
    }
    console.result(value, _text(plan, count, str(files.out)))


def _text(plan: PipelinePlan, count: int, out: str) -> str:
    steps = [_step(s) for s in plan.steps]
    parts = [
        (p.kind, p.name, f"{p.parameters / 1e6:.1f} M", size_text(p.memory), size_text(p.download or None), p.licence)
        for p in plan.parts
    ]
    side = plan.steps[-1].shape[-1]
    wanted = [f"The weights of {p.name} are yours to give: {p.url}." for p in plan.parts if p.url and not p.download]
    lines = [
        f"{plan.name}: {count} image{'s' * (count > 1)} of {side} x {side} into {out}",
        "",
        table(steps, header=("step", "what", "gives", "G multiply-adds", "memory")),
        "",
        table(parts, header=("part", "name", "parameters", "weights", "download", "licence")),
        "",
        f"An image: {plan.multiply_adds / 1e9:.1f} G multiply-adds. Memory: about {size_text(plan.memory)}. "
        f"Download: {size_text(plan.download) if plan.download else 'nothing'}.",
        *wanted,
    ]
    return "\n".join(lines)


def _step(step: StepPlan) -> tuple[str, ...]:
    shape = " x ".join(map(str, step.shape))
    return (step.step, step.part, shape, f"{step.multiply_adds / 1e9:.2f}", size_text(step.memory))
