"""What `doctor --against` reads in an SGLang's source is what importing it gives."""

import inspect
import json
import zipfile

import pytest
from typer.testing import CliRunner

from sfi_sglang import sglang_symbols
from sfi_sglang.cli.main import app
from sfi_sglang.cli.sglang_source import SGLangSource
from tests.unit.test_sglang_symbols import EVERYWHERE

FILES = {
    "__init__.py": "from sglang.parts import Base as Shown, torch_like\nfrom .parts import sub",
    "_version.py": "__version__ = version = '9.9'",
    "parts/__init__.py": "from .sub import Base\nfrom elsewhere import torch_like",
    "parts/sub.py": """
        from missing_package import Foreign
        class Base(Foreign):
            declared: int
            given: int = 3
            RED, GREEN = 1, 2
            def method(self, a, /, b, *, c=1, **more): ...
        if Base:
            async def chosen(*args): ...
        else:
            try:
                def other(x): ...
            except ImportError:
                other = None
        Base.added = 4
        class Made(Base):
            field: str = ""
        Made = rebuilt(Made)
    """,
}


@pytest.fixture(params=["folder", "wheel"])
def source(request, tmp_path):
    for name, text in FILES.items():
        file = tmp_path / "sglang" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(inspect.cleandoc(text))
    if request.param == "folder":
        return SGLangSource(tmp_path)
    wheel = tmp_path / "sglang-9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in FILES:
            archive.write(tmp_path / "sglang" / name, f"sglang/{name}")
    return SGLangSource(wheel)


@pytest.fixture(scope="module")
def installed():
    return SGLangSource.installed()


@pytest.mark.parametrize("target", EVERYWHERE)
def test_source_and_import_agree(target, installed):
    found = inspect.unwrap(sglang_symbols.resolve(target))
    found = getattr(found, "__func__", found)  # of a class method
    read = installed.parameters(target)
    if inspect.isfunction(found):
        assert read == written(inspect.signature(found))
    gone = f"{target}_renamed"
    assert not sglang_symbols.exists(gone)
    with pytest.raises(LookupError):
        installed.parameters(gone)


def written(signature: inspect.Signature) -> str:
    bare = [
        each.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(bare)).strip("()")


def test_names_are_found_where_python_finds_them(source):
    assert source.version == "9.9"
    assert source.parameters("sglang.Shown.method") == "self, a, /, b, *, c, **more"
    assert source.parameters("sglang.sub.chosen") == "*args"
    assert source.parameters("sglang.parts.sub.other") == "x"
    for name in ("parts", "parts.Base.GREEN", "parts.sub.Made.given", "parts.sub.Made.field"):
        assert source.parameters(f"sglang.{name}") is None


@pytest.mark.parametrize(
    "name", ["gone", "Shown.gone", "Shown.declared", "Shown.method.a", "torch_like", "parts.sub.a"]
)
def test_what_is_not_there_is_not_found(source, name):
    with pytest.raises(LookupError):
        source.parameters(f"sglang.{name}")


def test_another_version_is_compared_without_importing_it(tmp_path, monkeypatch):
    scheduler = tmp_path / "sglang" / "srt" / "managers" / "scheduler.py"
    scheduler.parent.mkdir(parents=True)
    (tmp_path / "sglang" / "__init__.py").write_text("import a_package_that_is_nowhere")
    scheduler.write_text("class Scheduler:\n def run_batch(self, whole): ...")
    monkeypatch.setattr(sglang_symbols, "needed", lambda: (sglang_symbols.RUN_BATCH, sglang_symbols.INIT_INFO))
    told = CliRunner().invoke(app, ["doctor", "--against", str(tmp_path), "--out", str(tmp_path / "found.json")])
    assert told.exit_code == 1
    (found,) = json.loads((tmp_path / "found.json").read_text())["results"]
    helps = list(sglang_symbols.OPTIONAL_TARGETS)
    assert (found["missing"], found["missing_helps"]) == ([sglang_symbols.INIT_INFO], helps)
    assert found["changed"][sglang_symbols.RUN_BATCH][0] == "self, whole"
    assert f"1 and {len(helps)} optional of {2 + len(helps)} names missing" in told.stdout
    assert "(self, whole)" in told.stdout


def test_a_path_without_sglang_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a wheel"):
        SGLangSource(tmp_path)
