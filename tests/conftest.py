"""One real server for the whole session, started when the first test asks for it."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings
from openai import OpenAI

from sfi_sglang.serving.server import running_server
from tests.helpers import CHUNK, GPU, probe_env

if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
    quick = str(Path(__file__).parent / "quick")  # of what tests start; a GPU host may have a sitecustomize.py already
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (quick, os.environ.get("PYTHONPATH"))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests fetch no model

settings.register_profile("slow machine", deadline=None)
settings.load_profile("slow machine")

GROUPS = {2: "small_answers", 3: "server"}  # fixtures that only one worker should pay for


def _needs(item) -> int:
    """0 for a pure test, 1 for one that starts a server of its own, else the group."""
    shared = next((number for number, fixture in GROUPS.items() if fixture in item.fixturenames), 0)
    return shared or int("server" in item.keywords)


def _lasting(item) -> str | None:
    """The module of a test that uses a fixture of its module: one worker pays for that."""
    fixtures = (fixture for found in item._fixtureinfo.name2fixturedefs.values() for fixture in found)
    return item.module.__name__ if any(fixture.scope == "module" for fixture in fixtures) else None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """Pure tests first: they fail fast and need no server. Of two workers (pytest-xdist), one takes the tests of the
    shared server and the other all the rest. GPU tests are skipped only where no GPU exists."""
    items.sort(key=_needs, reverse=config.getoption("loadgroup", False))
    for item in items:
        if group := GROUPS.get(_needs(item)) or _lasting(item):
            item.add_marker(pytest.mark.xdist_group(group))
        if "gpu" in item.keywords and not GPU:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish():
    """What is imported stays: collecting it again and again is a tenth of the time of interpreted kernels."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running_server(flags=["--chunked-prefill-size", str(CHUNK)], log=log, env=probe_env()) as url:
        yield url


@pytest.fixture(scope="session")
def small_answers(tmp_path_factory):
    """What others are compared with: the torch executor on one rank."""
    from tests.small_model import FLAGS, MORE, answers

    log = tmp_path_factory.mktemp("small") / "server.log"
    env = probe_env(traced=False)  # the shared server runs what this one does
    with running_server(flags=[*FLAGS, "--sfi-executor", "torch"], env=env, log=log) as url:
        return answers(url, MORE)


@pytest.fixture
def client(server):
    return OpenAI(base_url=f"{server}/v1", api_key="none")
