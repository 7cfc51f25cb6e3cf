"""The plugin's entry point: a plugin that does not load refuses `sfi`."""

import sys
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from sglang.srt.plugins.hook_registry import HookRegistry

from sfi_sglang import sglang_symbols
from sfi_sglang.integration import entry
from tests.unit.test_imports import foreign, loaded_with, modules


@pytest.fixture
def hooks(monkeypatch):
    """Those registered in the test, by target; none is applied."""
    found = {}
    monkeypatch.setattr(HookRegistry, "register", lambda target, hook, kind: found.update({target: hook}))
    return found


def test_the_entry_imports_nothing_that_drifts():
    loaded = loaded_with("integration.entry")
    assert loaded == {"integration.entry", "integration.doors", "integration", "sglang_symbols"}
    assert {name for module in loaded for name in foreign(modules()[module], True)} == {"sglang"}


def test_a_plugin_that_does_not_load_refuses(hooks, monkeypatch):
    broken = "sfi_sglang.integration.plugin"
    monkeypatch.delattr(broken, raising=False)
    monkeypatch.setitem(sys.modules, broken, None)
    entry.register()
    assert set(hooks) == {sglang_symbols.TOKENIZED, sglang_symbols.BEFORE_LISTENING}
    gate = hooks[sglang_symbols.TOKENIZED]
    with pytest.raises(ValueError, match=f"sfi: not available on this server: .*{broken}"):
        gate(None, SimpleNamespace(sampling_params={"custom_params": {"sfi": {"budget": 64}}}))
    for params in ({}, {"custom_params": None}, {"custom_params": {"sfi": False}}, {"custom_params": {"other": 1}}):
        gate(None, SimpleNamespace(sampling_params=params))
    gate(None, SimpleNamespace())
    app = FastAPI()
    monkeypatch.setattr(sglang_symbols, "resolve", {sglang_symbols.HTTP_APP: app}.get)
    hooks[sglang_symbols.BEFORE_LISTENING](None)
    assert broken in str(app.user_middleware[0].kwargs["problems"])
