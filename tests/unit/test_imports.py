"""Imports run one way, what is imported is declared, and no file outgrows its idea."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sfi_sglang"
CORE = ("api", "selection", "kernels", "scheduling", "attention", "integration")
MAY_IMPORT = {  # beside itself and the root modules
    "api": set(),
    "selection": {"api"},
    "kernels": {"api", "selection"},
    "scheduling": {"api", "selection"},
    "attention": {"api", "selection", "kernels", "scheduling"},
    "integration": {"api", "selection", "kernels", "scheduling", "attention"},
    "frontend": {"api"},
    "client": set(),
    "report": set(),
    "serving": {"client", "integration"},  # it checks the server's environment before it starts one
    "agents": {"client", "serving", "frontend"},
    "evals": {"client", "serving", "agents", "report"},
    "trajectory": {"client", "serving", "agents", "report"},
    "cli": {*CORE, "client", "serving", "agents", "report", "evals", "trajectory"},
}
ROOT_MODULES = {"sglang_symbols", "terminal"}
MOST_LINES = 250
WITH_SGLANG = {"flashinfer"}  # its dependency where a GPU is
WITHOUT_EXTRA = (
    "cli.main",
    "serving.server",
    "cli.eval_run",
    "evals.jobs",
    "evals.report",
    "integration.plugin",
    "frontend",
    "cli.bench",
)

pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {match[0].lower().replace("-", "_") for match in found if match}


def modules() -> dict[str, Path]:
    """Every module of the package by its name below `sfi_sglang`; through the links, as Python finds them."""
    files = [
        *PACKAGE.rglob("*.py"),
        *(file for link in PACKAGE.iterdir() if link.is_symlink() for file in link.rglob("*.py")),
    ]
    return {".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path, at_start: bool = False) -> Iterator[str]:
    """Full names of what a file imports. at_start: only what loading it imports, not what its functions do later."""
    pending: list[ast.AST] = [ast.parse(file.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports are not our style"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))


def ours(file: Path, at_start: bool = False) -> set[str]:
    """Our modules that a file imports."""
    known = modules()
    parts = (name.split(".")[1:] for name in imports(file, at_start) if name.startswith("sfi_sglang."))
    prefixes = ({".".join(part[:length]) for length in range(1, len(part) + 1)} for part in parts)
    return {module for found in prefixes for module in found if module in known}


def foreign(file: Path, at_start: bool = False) -> set[str]:
    """Other distributions' packages that a file imports."""
    tops = {name.split(".")[0] for name in imports(file, at_start)}
    return tops - sys.stdlib_module_names - {"sfi_sglang"}


def loaded_with(start: str) -> set[str]:
    """Names of our modules that loading `start` loads."""
    known = modules()
    found, pending = set(), [start]
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += ours(known[module], at_start=True)
    return found


def test_imports_run_one_way():
    wrong = []
    for module, file in modules().items():
        layer = module.split(".")[0]
        for name in ours(file):
            other = name.split(".")[0]
            allowed = MAY_IMPORT.get(layer, set()) | ROOT_MODULES | {layer}
            if other not in allowed:
                wrong.append(f"{module} -> {name}")
    assert not wrong


def test_every_layer_is_in_the_contract():
    layers = {module.split(".")[0] for module in modules()} - {"__init__"}
    assert layers == set(MAY_IMPORT) | ROOT_MODULES
    assert all(MAY_IMPORT[layer].isdisjoint(set(MAY_IMPORT) - set(CORE)) for layer in CORE)


def test_imports_are_declared():
    core = names(pyproject["project"]["dependencies"])
    everything = core | names(pyproject["project"]["optional-dependencies"]["bench"])
    used = {package for file in modules().values() for package in foreign(file)}
    assert used - everything == WITH_SGLANG
    assert everything - used == set(), "declared, and nowhere imported"


@pytest.mark.parametrize("start", WITHOUT_EXTRA)
def test_the_core_runs_without_the_extra(start):
    """Only what a command imports when it is called may come from the extra `bench`."""
    extra = names(pyproject["project"]["optional-dependencies"]["bench"])
    needs = {(module, name) for module in loaded_with(start) for name in foreign(modules()[module], at_start=True)}
    assert not [need for need in needs if need[1] in extra]


def test_the_pinned_list_has_every_package_asked_for():
    groups = pyproject["dependency-groups"]
    asked = pyproject["project"]["dependencies"] + [line for group in groups.values() for line in group]
    asked += pyproject["project"]["optional-dependencies"]["bench"]
    pinned = [line for line in (ROOT / "requirements" / "cpu.txt").read_text().splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned)
    assert names(asked) <= names(pinned)


def test_no_file_outgrows_its_idea():
    folders = ("sfi_sglang", "kernels", "agents", "benchmarks", "examples", "requirements", "tests")
    lines = {file: file.read_text().count("\n") for folder in folders for file in (ROOT / folder).rglob("*.py")}
    assert {str(file.relative_to(ROOT)): count for file, count in lines.items() if count > MOST_LINES} == {}
