"""The command as a whole: help, versions, errors, exit codes, and what is imported for which sub-command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from command import Run, process

from nsbgan_infer.cli.main import COMMANDS, SECTIONS, Terminated, cli, exit_code
from nsbgan_infer.errors import UsageError, WorkError

COVERS = ["__main__", "cli.groups", "cli.heap", "cli.output"]

LIGHT = [
    "-h",
    "--version",
    "classes golden",
    "classes --json",
    "models --json",
    "generate -h",
    "classes nonsense",
    "nonsense",
]


@pytest.mark.parametrize("arguments", LIGHT)
def test_what_needs_no_network_does_not_import_torch(arguments: str) -> None:
    code = (
        "import sys\n"
        "from nsbgan_infer.cli.main import cli\n"
        "try:\n    cli.main(sys.argv[1:], prog_name='nsbgan')\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'huggingface_hub', 'pytorch_pretrained_biggan', 'scipy'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light() -> None:
    code = "import sys, nsbgan_infer; nsbgan_infer.find_class(207); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_exit_codes_and_streams_of_a_true_process() -> None:
    good = process("classes", "207", "--json")
    assert good.returncode == 0 and good.stderr == ""
    assert json.loads(good.stdout)["classes"][0]["wnid"] == "n02099601"
    bad = process("classes", "goldn", "retriever")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("nsbgan: error: No ImageNet class is called") and bad.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    text = run(name, "-h").stdout
    assert text.startswith(f"Usage: nsbgan {name}")
    assert run(name, "--help").stdout == text


def test_the_group_lists_every_command_with_a_line(run: Run) -> None:
    lines = run("-h").stdout.splitlines()
    for name in COMMANDS:
        assert any(line.strip().startswith(f"{name} ") and len(line.split()) > 2 for line in lines), name


def test_the_help_has_sections_and_whole_sentences(run: Run) -> None:
    text = run("-h").stdout
    places = [text.index(f"\n{title}:\n") for title in (*SECTIONS, "More")]
    assert places == sorted(places) and "..." not in text[places[0] :]
    assert {name for names in SECTIONS.values() for name in names} <= COMMANDS.keys()


@pytest.mark.parametrize("command", ["generate", "plan"])
def test_a_bare_class_is_told_its_option(run: Run, command: str) -> None:
    bare = run(command, "golden", "retriever", "--res", "512", code=2).stderr
    assert "'golden retriever' stands without an option: a class is given by --class 'golden retriever'." in bare
    assert "--class 207 --class 208" in run(command, "207", "208", code=2).stderr


def test_versions_of_the_parts(run: Run) -> None:
    import torch

    text = run("--version").stdout
    assert text.startswith("nsbgan-infer 0.") and f"torch {torch.__version__}\n" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clases"], "did you mean classes"),
        (["generate", "--clas", "207"], "No such option"),
        (["generate", "--class", "207", "--per-class", "0"], "0 is not in the range"),
        (["generate", "--class", "207", "--seed", "-1"], "-1 is not in the range"),
        (["generate", "--class", "207", "--seed", "4294967296"], "is not in the range"),
        (["generate", "--class", "207", "--format", "gif"], "'gif' is not one of"),
        (["upscale"], "Missing argument"),
        (["inspect", "no-such-file"], "does not exist"),
    ],
)
def test_wrong_arguments_end_with_2_and_a_hint(run: Run, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, code=2).stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("The tray is empty: refill it."), 2, "nsbgan: error: The tray is empty: refill it.\n"),
        (WorkError("It fell\n  over."), 1, "nsbgan: error: It fell over.\n"),
        (ZeroDivisionError("division by zero"), 1, "Unexpected ZeroDivisionError: division by zero"),
        (MemoryError(), 1, "Memory ran out"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_errors_become_one_sentence(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: F401  # memory errors are told apart only where torch is loaded

    def fail() -> None:
        raise error

    assert exit_code(fail) == code
    assert said in (text := capsys.readouterr().err) and "Traceback" not in text
    monkeypatch.setenv("NSBGAN_DEBUG", "1")
    exit_code(fail)
    assert ("Traceback" in capsys.readouterr().err) == (code != 130)


def test_quiet_reaches_the_progress_bars_of_fetching(run: Run) -> None:
    from nsbgan_infer.storage import hub

    run("classes", "207")
    assert not hub._quiet
    run("classes", "207", "-q")
    assert hub._quiet


def test_as_a_library_the_group_raises(run: Run) -> None:
    with pytest.raises(UsageError):
        cli.main(["clases"], standalone_mode=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives memory back so eagerly")
def test_the_heap_is_kept() -> None:
    """Large blocks that are freed and taken again cost page faults only the first time."""
    code = (
        "import resource, sys\n"
        "from nsbgan_infer.cli.heap import keep_heap\n"
        "if keep_heap() is False: sys.exit(3)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "bytearray(64 << 20)\n"
        "before = faults()\n"
        "for _ in range(10): bytearray(64 << 20)\n"
        "sys.exit(faults() - before > 2000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    if done.returncode == 3:
        pytest.skip("there is no glibc here, or malloc is tuned by the environment")
    assert done.returncode == 0


def test_a_tuned_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.cli.heap import keep_heap

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert keep_heap() is False


@pytest.mark.skipif(sys.platform != "linux", reason="memory in use is asked of glibc")
def test_what_torch_keeps_for_shapes_of_convolutions_is_bounded() -> None:
    """Once as many shapes as are kept were seen, others take no more memory."""
    code = (
        "import ctypes, sys\n"
        "from nsbgan_infer.cli import heap\n"
        "heap.KEPT_PRIMITIVES = 64\n"
        "heap.keep_few_primitives()\n"
        "import torch\n"
        "libc = ctypes.CDLL(None)\n"
        "if not hasattr(libc, 'mallinfo2') or not torch.backends.mkldnn.is_available(): sys.exit(3)\n"
        "class Info(ctypes.Structure):\n"
        "    _fields_ = [(str(i), ctypes.c_size_t) for i in range(10)]\n"
        "libc.mallinfo2.restype = Info\n"
        "def used():\n"
        "    return getattr(libc.mallinfo2(), '7')\n"  # uordblks
        "weights = torch.rand(4, 1, 5, 1)\n"
        "def see(side):\n"
        "    for other in range(8, 108): torch.nn.functional.conv2d(torch.rand(3, 1, side, other), weights)\n"
        "see(20)\n"
        "before = used()\n"
        "see(30); see(40); see(50)\n"
        "sys.exit(used() - before > 2e6)\n"  # 12 MB more where 1,024 are kept
    )
    free = {k: v for k, v in os.environ.items() if not k.endswith("CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=free)
    if done.returncode == 3:
        pytest.skip("there is no glibc here that tells memory in use, or no oneDNN")
    assert done.returncode == 0


def test_numbers_of_kept_shapes_that_a_user_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.cli.heap import KEPT_PRIMITIVES, keep_few_primitives

    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    keep_few_primitives()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(KEPT_PRIMITIVES)


def test_sigterm_has_a_code_of_its_own() -> None:
    def work(error: type[BaseException]) -> int:
        @click.command()
        def command() -> None:
            raise error

        return exit_code(lambda: command.main([], standalone_mode=False))

    assert (work(Terminated), work(KeyboardInterrupt)) == (143, 130)


def test_what_the_system_refuses_is_one_sentence_that_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(error: Exception) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    for error, says in (
        (PermissionError(13, "Permission denied", "a/b.png"), "The system refused: Permission denied (a/b.png). Check"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/x']"), "set TMPDIR to a folder"),
    ):
        assert exit_code(refuse(error)) == 1
        said = capsys.readouterr().err
        assert says in said and "Unexpected" not in said and said.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_that_cannot_be_written_and_streams_that_are_closed() -> None:
    program = "from nsbgan_infer.cli.main import run; run()"
    for shell, code, says in (
        (f"exec {sys.executable} -c '{program}' classes 207 > /dev/full", 1, "No space left on device"),
        (f"exec {sys.executable} -c '{program}' classes 207 >&-", 0, ""),
        (f"exec {sys.executable} -c '{program}' classes goldn 2>&-", 2, ""),
    ):
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
        assert "Unexpected" not in done.stderr and "Traceback" not in done.stderr
