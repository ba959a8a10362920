"""Write docs/commands.md from the commands and docs/python.md from the docstrings.

python docs/reference.py
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

import nsbgan_infer
from nsbgan_infer.cli.main import cli

DOCS = Path(__file__).resolve().parent
PACKAGE = Path(nsbgan_infer.__file__).parent
NOTE = "*Written by `python docs/reference.py`: change the source, not this page.*"

# module -> public names, in the order of the numbered steps
MODULES = {
    "pipeline": ["NsbPipeline"],
    "pretrained": ["list_models"],
    "steps.calls": ["Output", "Drawing", "Request"],
    "steps.joints": ["Stage"],
    "steps.wrapping": ["as_sampler", "as_decoder"],
    "classes": ["find_class", "list_classes", "parse_classes", "search"],
    "latents": ["Latents", "draw_latents", "walk", "vary"],
    "latents.file": ["save_latents", "load_latents", "Origin"],
    "samplers.base": ["SamplerInfo", "Sampler"],
    "rejection": ["Rule", "draw_accepted", "Accepted", "rejected_outputs", "Tally"],
    "encoders.wavelet": ["WaveletEncoder", "Pyramid"],
    "encoders.pixel": ["PixelEncoder"],
    "decoders.base": ["DecoderInfo", "Decoder"],
    "images": ["Recipe", "save_image", "read_recipe", "to_pil", "grid"],
    "photos.reading": ["Photo", "open_photo"],
    "photos.resizing": ["Wish"],
    "photos.enlarging": ["enlarge", "enlarge_in_steps"],
    "photos.writing": ["save_photo", "encode_photo"],
    "photos.batch": ["plan_batch", "check_batch"],
    "registry": ["load_decoder", "load_sampler", "load_encoder", "load_inverter", "load_classifier", "entries"],
    "storage.architectures": ["Component", "Graph", "architecture"],
    "storage.components": ["load_component", "save_component"],
    "bulk.plan": ["Plan"],
    "bulk.pipelines": ["plan_images", "pipeline_maker", "pipeline_settings", "PipelineFactory"],
    "bulk.run": ["run"],
    "engines": ["place", "place_part", "with_engine"],
    "inversion.run": ["invert"],
    "outputs.writer": ["ImageWriter", "plan_sheet", "write_accepted"],
    "outputs.regenerate": ["regenerate", "Regenerated", "from_recipe"],
    "outputs.inspect": ["inspect"],
    "publishing.push": ["push_to_hub"],
    "training.decoders.presets": ["decoder_settings"],
    "training.decoders.l1": ["train_decoder"],
    "evaluation.reconstruction": ["evaluate_decoder"],
    "evaluation.round_trip": ["round_trip"],
    "evaluation.images": ["evaluate_images"],
    "errors": ["NsbError"],
}


def commands_page() -> str:
    """Every command with its usage, help and options."""
    parts = ["# Commands", NOTE, "`-h` after any command shows the same. Exit codes: 0 done, 2 bad input, 1 failed."]
    root = click.Context(cli, info_name="nsbgan", **cli.context_settings)
    for context in walk_commands(root):
        command = context.command
        parts.append(f"## {context.command_path}")
        parts.append(f"`{context.command_path} {' '.join(command.collect_usage_pieces(context))}`")
        parts.append(inspect.cleandoc(command.help or ""))
        records = [p.get_help_record(context) for p in command.get_params(context) if "--help" not in p.opts]
        rows = [f"| `{cell(names)}` | {cell(text)} |" for names, text in filter(None, records) if names]
        if rows:
            parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def walk_commands(context: click.Context) -> Iterator[click.Context]:
    """The context of a command and of all below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command and not command.hidden:
                yield from walk_commands(click.Context(command, context, info_name=name, **command.context_settings))


def cell(text: str) -> str:
    """Text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def python_page() -> str:
    """The public names with signature and docstring, module by module."""
    parts = ["# Python", NOTE, "The names in `nsbgan_infer.__all__` can be imported from `nsbgan_infer` itself."]
    for module, names in MODULES.items():
        source = PACKAGE / f"{module.replace('.', '/')}.py"
        source = source if source.exists() else PACKAGE / module.replace(".", "/") / "__init__.py"
        text = source.read_text("utf-8")
        tree = ast.parse(text)
        parts += [f"## nsbgan_infer.{module}", summary(tree)]
        nodes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        for name in names:
            parts += [f"### {name}", *described(nodes[name], text.splitlines())]
    return "\n\n".join(parts) + "\n"


def summary(tree: ast.Module) -> str:
    """The first paragraph of a module's docstring."""
    return (ast.get_docstring(tree) or "").split("\n\n")[0]


def described(node: ast.ClassDef | ast.FunctionDef, lines: list[str]) -> list[str]:
    """Signature as it stands in the source, docstring, and of a class the same for its public methods."""
    if isinstance(node, ast.FunctionDef):
        return [code(head(node, lines)), prose(node)]
    fields = list(described_fields(node, lines))
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and public(n)]
    shown = [head(node, lines), *(textwrap.indent(f, "    ") for f in fields)]
    parts = [code("\n".join(shown)), prose(node)]
    for method in methods:
        parts += [code(head(method, lines)), prose(method)]
    return [p for p in parts if p]


def described_fields(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """The public fields of a class as they stand in the source, each under the docstring that explains it."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and not ast.unparse(field).startswith("_"):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                yield textwrap.indent(inspect.cleandoc(str(after.value.value)), "# ")
            yield textwrap.dedent("\n".join(lines[field.lineno - 1 : field.end_lineno]))


def public(method: ast.FunctionDef) -> bool:
    """Whether a method is part of the reference: its name has no underscore, or it says how the object is called."""
    return not method.name.startswith("_") or (method.name == "__call__" and bool(ast.get_docstring(method)))


def head(node: ast.ClassDef | ast.FunctionDef, lines: list[str]) -> str:
    """The lines of a definition before its body, without decorators other than property and classmethod.

    Of a body on the same line (`def info(self) -> Info: ...`) only the colon stays.
    """
    if node.body[0].lineno == node.lineno:
        signature = lines[node.lineno - 1][: node.body[0].col_offset]
    else:
        signature = "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])
    kept = [f"@{ast.unparse(d)}" for d in node.decorator_list if ast.unparse(d) in ("property", "classmethod")]
    return "\n".join([*kept, textwrap.dedent(signature).rstrip()])


def prose(node: ast.ClassDef | ast.FunctionDef) -> str:
    """The docstring as Markdown: its `>>>` examples, each a paragraph, become blocks of code."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    return "\n\n".join(code(p, "pycon") if p.startswith(">>> ") else p for p in paragraphs)


def code(text: str, language: str = "py") -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


PAGES = {"commands.md": commands_page, "python.md": python_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")
        print(DOCS / name)
