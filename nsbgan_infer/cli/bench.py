"""`nsbgan bench`: our paths against the wheel's own BigGAN, as ratios measured in one run; batches; layers."""

from __future__ import annotations

from typing import Any

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table

TARGETS = {
    "wheel512_over_nsb512": (">=", 6.0),
    "wheel512_over_nsb128to512": (">=", 12.0),
    "wheel512_over_nsb512_tiny": (">=", 7.0),
    "wheel512_over_nsb128to512_tiny": (">=", 14.0),
    "nsb512fast_over_folded512": ("<=", 1.0),
    "nsb128to512_over_folded512": ("<=", 0.45),
    "wheel256_over_biggan256": (">=", 6.0),
    "overhead_share": ("<=", 0.08),
    "bulk_png_over_bare": (">=", 0.9),
    "bulk_webp_over_bare": (">=", 0.9),
    "bulk_tar_over_bare": (">=", 0.9),
    "memory_nsb512_over_wheel512": ("<=", 0.6),
    "photo_eager_over_photo": (">=", 2.5),
    "compact_over_photo": (">=", 2.0),
    "memory_photo_mib": ("<=", 500.0),
}
PROCESS_TARGETS = {  # times as fast as plain torch, and seconds
    "first_run": (">=", 1.0),
    "second_run": (">=", 1.5),
    "second_run_once_compiled": (">=", 1.5),
    "one_picture_beyond_torch_s": ("<=", 0.6),
}


@click.command("bench")
@click.option("--rounds", type=click.IntRange(min=1), default=9, help="How often each path is timed, interleaved.")
@click.option(
    "--quick",
    is_flag=True,
    help="Three rounds, 8 images, a small photo, no memory; two pictures at most in a batch: to see that it works.",
)
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Images made together, for ratios.")
@click.option(
    "--table",
    "wanted",
    type=click.Choice(["auto", "ratios", "batches", "processes", "layers"]),
    default="auto",
    help="ratios to the wheel's BigGAN; batches: pictures a second at batch 1 and the best one, and memory; processes: "
    "whole runs of `generate` as a user waits for them, by engine, first and second, with peak memory; layers: where "
    "the time of each network goes, and its floor. auto is ratios on a CPU, batches on a GPU.",
)
@console_options
def command(rounds: int, quick: bool, device: str, batch_size: int, wanted: str, console: Console) -> None:
    """Time every path against the wheel's own BigGAN, or at growing batches, as whole processes, or layer by layer.

    Samplers have random weights of the real sizes, which take the same time. All figures of one run come from one
    process, round by round; compare ratios, not milliseconds of different runs.

    Batches are doubled until pictures a second grow by less than a tenth, or memory ends. Their share is that of the
    device's own matrix product in bf16.
    """
    if wanted == "processes":
        from nsbgan_infer.diagnostics.bench_processes import measure_processes

        whole = measure_processes(console.note, rounds=1 if quick else min(rounds, 3))
        console.result(whole, _processes_text(whole))
        return
    from nsbgan_infer.devices import pick_device

    chosen = pick_device(device)
    if wanted == "batches" or (wanted == "auto" and chosen.type != "cpu"):
        from nsbgan_infer.diagnostics import bench_batches

        batches = bench_batches.measure(chosen, console.note, quick=quick)
        console.result(batches, _batches_text(batches))
        return
    if wanted == "layers":
        from nsbgan_infer.diagnostics import bench_layers

        layers = bench_layers.measure(chosen, console.note, rounds=3 if quick else rounds, quick=quick)
        console.result(layers, _layers_text(layers))
        return
    from nsbgan_infer.diagnostics import bench_photos
    from nsbgan_infer.diagnostics.bench import measure

    found = measure(
        rounds=3 if quick else rounds,
        device=chosen,
        batch=batch_size,
        images=8 if quick else 64,
        photo=bench_photos.SMALL if quick else bench_photos.SIZE,
        memory=not quick,
        say=console.note,
    )
    console.result(found, _text(found))


def _processes_text(found: dict[str, Any]) -> str:
    memory, cpu = found["memory_mib"], found["cpu_seconds"]
    rows = [
        [name, f"{seconds:.2f} s", f"{cpu[name]:.2f} s", f"{memory[name]} MiB"]
        for name, seconds in found["seconds"].items()
    ]
    ratios = []
    for name, value in found["ratios"].items():
        low, high = found["range"][name]
        sign, target = PROCESS_TARGETS[name]
        met = value >= target if sign == ">=" else value <= target
        reached = f"{sign} {target:g} {'met' if met else 'missed'}"
        ratios.append([name, f"{value:.2f}", f"{low:.2f} to {high:.2f}", reached, f"{found['cpu_ratios'][name]:.2f}"])
    head = f"`nsbgan generate {' '.join(found['arguments'])}`, {found['rounds']} rounds"
    listed = table(rows, header=("process", "time", "processor time", "memory peak"))
    header = ("ratio", "median", "range", "target", "of processor time")
    return f"{head}\n\n{listed}\n\n{table(ratios, header=header)}"


def _text(found: dict[str, Any]) -> str:
    host = found["machine"]
    rates = ", ".join(f"{v} G multiply-adds/s in {k}" for k, v in host["matrix_product_gmac_per_s"].items())
    versions = ", ".join(f"{k} {v}" for k, v in host["versions"].items())
    rows = [_row(r, found["batch"]) for r in found["rows"]]
    lines = [
        f"{host['device']}, {host['threads']} threads; {versions}",
        f"Matrix product: {rates}. {found['rounds']} rounds, batch {found['batch']}.",
        "",
        table(
            rows, header=("path", "engine", "dtype", "decoder", "ms", "quartiles", "images/s", "G mult-adds", "steps")
        ),
        "",
        table(_ratios(found), header=("ratio", "median", "quartiles", "target")),
        "",
        table([[k, f"{v:.2f} ms"] for k, v in found["baselines_ms"].items()]),
    ]
    if found["memory_mib"]:
        lines += ["", table([[f"memory peak, {k}", f"{v} MiB"] for k, v in found["memory_mib"].items()])]
    return "\n".join(lines)


def _batches_text(found: dict[str, Any]) -> str:
    host, product = found["machine"], found["matrix_product"]
    rows = [
        [
            r["path"],
            r["dtype"],
            str(r["batch"]) + (f" (best; then {ENDED[r['ended_by']]})" if r["which"] == "best" else ""),
            f"{r['pictures_per_s']:.2f}",
            f"{100 * r['share']:.0f} %",
            "-" if r["memory_mib"] is None else f"{r['memory_mib']} MiB",
        ]
        for r in found["batches"]
    ]
    rate = f"{product['gmac_per_s']} G multiply-adds/s in {product['dtype']}"
    versions = ", ".join(f"{k} {v}" for k, v in host["versions"].items())
    no_bf16 = "; this device has no instructions for bf16" if product["dtype"] == "fp32" else ""
    return "\n".join(
        [
            f"{host['device']}, {host['threads']} threads; {versions}",
            f"Shares are of the matrix product: {rate}{no_bf16}. Memory is {found['memory_is']}.",
            "",
            table(rows, header=("path", "dtype", "batch", "pictures/s", "share", "memory")),
        ]
    )


SHOWN = 12  # layers of a network; --json has them all


def _layers_text(found: dict[str, Any]) -> str:
    host, product = found["machine"], found["matrix_product"]
    lines = [
        f"{host['device']}, {host['threads']} threads; {found['rounds']} rounds, batch 1, plain torch.",
        f"Matrix product: {product['gmac_per_s']} G multiply-adds/s in {product['dtype']}; floors are by this rate.",
    ]
    for name, network in found["networks"].items():
        rows = network["layers"]
        rest = sum(r["ms"] for r in rows[SHOWN:])
        shown = [
            [
                r["layer"],
                r["kind"],
                f"{r['ms']:.2f}",
                f"{100 * r['ms'] / network['ms']:.0f} %",
                f"{r['multiply_adds'] / 1e9:.2f}",
                f"{r['gmac_per_s']:.0f}",
            ]
            for r in rows[:SHOWN]
        ]
        if rest:
            shown.append(
                [f"{len(rows) - SHOWN} more", "", f"{rest:.2f}", f"{100 * rest / network['ms']:.0f} %", "", ""]
            )
        times = network["ms"] / network["floor_ms"] if network["floor_ms"] else float("inf")
        lines += [
            "",
            f"{name}: {network['ms']:.1f} ms, {times:.2f} times its floor of {network['floor_ms']:.1f} ms "
            f"({network['multiply_adds'] / 1e9:.1f} G multiply-adds)",
            table(shown, header=("layer", "kind", "ms", "of its time", "G mult-adds", "G/s"), indent="  "),
        ]
    return "\n".join(lines)


ENDED = {"rate": "no faster", "memory": "memory ends", "largest": "not tried"}


def _row(row: dict[str, Any], batch: int) -> list[str]:
    low, high = row["quartiles_ms"]
    total = sum(row["steps_ms"].values())
    steps = ", ".join(f"{name} {100 * v / total:.0f} %" for name, v in row["steps_ms"].items())
    count = "" if row["multiply_adds"] is None else f"{row['multiply_adds'] / batch / 1e9:.1f}"
    rate = f"{1000 * batch / row['ms']:.2f}"
    return [
        row["path"],
        row["engine"],
        row["dtype"],
        row["decoder"] or "",
        f"{row['ms']:.1f}",
        f"{low:.1f} to {high:.1f}",
        rate,
        count,
        steps,
    ]


def _ratios(found: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, value in found["ratios"].items():
        low, high = found["spread"][name]
        sign, target = TARGETS[name]
        met = value >= target if sign == ">=" else value <= target
        rows.append(
            [name, f"{value:.3f}", f"{low:.3f} to {high:.3f}", f"{sign} {target:g} {'met' if met else 'missed'}"]
        )
    return rows
