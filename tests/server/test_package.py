"""The wheel as people install it: what is in it, and its commands run from another folder, not editable."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from sfi_sglang import __version__

pytestmark = pytest.mark.server  # slow, though it needs no server
ROOT = Path(__file__).parents[2]
CONTENT = (
    "sfi_sglang/py.typed", "sfi_sglang/kernels/decode.py", "sfi_sglang/agents/loop.py",
    "sfi_sglang/integration/platform/cpu.py", "sfi_sglang/trajectory/cli.py",
    "sfi_sglang/report/templates/page.html", f"sfi_sglang-{__version__}.dist-info/licenses/LICENSE",
)  # fmt: skip


def run(*command: object, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    quiet = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": "", "COLUMNS": "120", **env}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=os.environ | quiet, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the source distribution, as on a package index: the linked folders must survive both."""
    folder = tmp_path_factory.mktemp("dist")
    backend = "from setuptools import build_meta as b; import sys; print(b.build_{}(sys.argv[1]))"
    made = run(sys.executable, "-c", backend.format("sdist"), folder, folder=ROOT)
    assert made.returncode == 0, made.stderr
    (source,) = folder.glob("*.tar.gz")
    made = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", source, folder=folder)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """Folder of a fresh environment's commands: the wheel, beside this environment's other packages."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    made = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, folder=folder)
    assert made.returncode == 0, made.stderr
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # after the wheel on the path
    return folder / "bin"


def test_the_wheel_has_all_that_the_package_needs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert set(CONTENT) <= set(names)
    assert not [name for name in names if not name.startswith("sfi_sglang")], "nothing beside the package"


def test_its_commands_run(commands, tmp_path):
    where = run(commands / "python", "-c", "import sfi_sglang; print(sfi_sglang.__file__)", folder=tmp_path)
    assert str(commands.parent) in where.stdout, "the installed package, not the source tree"
    for command in ("sfi-sglang", "sfi-bench"):
        assert __version__ in run(commands / command, "--version", folder=tmp_path).stdout
        assert run(commands / command, "--help", folder=tmp_path).returncode == 0
    diagnosis = run(commands / "sfi-sglang", "doctor", folder=tmp_path)
    assert diagnosis.returncode == 0, diagnosis.stdout + diagnosis.stderr


def test_a_benchmark_of_the_source_tree_runs_beside_it(commands):
    helped = run(commands / "python", "-m", "benchmarks.decode_gpu", "--help", folder=ROOT)
    assert helped.returncode == 0, helped.stderr


@pytest.mark.parametrize("command", [["sfi-bench", "smoke"], ["sfi-sglang", "demo"]], ids=lambda command: command[0])
def test_a_command_without_its_extra_says_what_to_install(commands, tmp_path, command):
    (tmp_path / "openai.py").write_text("raise ModuleNotFoundError('No module named openai', name='openai')")
    answer = run(commands / command[0], *command[1:], folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert answer.returncode == 1
    assert answer.stderr.strip() == 'openai is missing: pip install "sfi-sglang[bench]"'
