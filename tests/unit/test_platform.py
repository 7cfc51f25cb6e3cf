"""The platform entry point: it serves machines that SGLang has no platform for, and keeps out of others' way."""

from types import SimpleNamespace

import pytest
import torch

from sfi_sglang import sglang_symbols
from sfi_sglang.integration import platform


@pytest.fixture
def bare(monkeypatch):
    """A machine without accelerators, with no platform but ours."""
    for name in platform.ACCELERATORS:
        monkeypatch.setattr(torch, name, None, raising=False)
    for variable in ("SGLANG_PLATFORM", "SGLANG_USE_CPU_ENGINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(platform, "entry_points", lambda group: [SimpleNamespace(name="sfi")])
    return monkeypatch


def test_the_platform_serves_a_bare_machine(bare):
    assert platform.activate() == platform.PLATFORM
    assert sglang_symbols.resolve(platform.PLATFORM).device_type == "cpu"


@pytest.mark.parametrize("name", platform.ACCELERATORS)
@pytest.mark.parametrize("asked", [False, True])
def test_never_where_an_accelerator_is(bare, name, asked):
    if asked:
        bare.setenv("SGLANG_PLATFORM", "sfi")
    bare.setattr(torch, name, SimpleNamespace(is_available=lambda: True))
    assert platform.activate() is None
    bare.setattr(torch, name, SimpleNamespace(is_available=lambda: False))
    assert platform.activate() == platform.PLATFORM


def test_never_where_a_device_comes_late(bare):
    with bare.context() as within:
        within.setattr(torch.version, "musa", "4.0", raising=False)
        assert platform.activate() is None
    with bare.context() as within:
        within.setattr("importlib.util.find_spec", lambda name: object())
        assert platform.activate() is None


def test_never_beside_another_platform_unless_asked(bare):
    both = [SimpleNamespace(name="other"), SimpleNamespace(name="sfi")]
    bare.setattr(platform, "entry_points", lambda group: both)
    assert platform.activate() is None
    bare.setenv("SGLANG_PLATFORM", "sfi")
    assert platform.activate() == platform.PLATFORM


def test_never_instead_of_sglangs_own_cpu_platform_unless_asked(bare):
    bare.setenv("SGLANG_USE_CPU_ENGINE", "1")
    assert platform.activate() is None
    bare.setenv("SGLANG_PLATFORM", "sfi")
    assert platform.activate() == platform.PLATFORM
