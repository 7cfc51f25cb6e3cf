"""A server that only some may use, and that tells its users apart: its key guards every door, an adapter's memories
stay its own, its log says what SFI does and no text."""

import json
import re

import pytest
import requests
import torch
from safetensors.torch import save_file

from sfi_sglang.integration.doors import OPEN
from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env, story
from tests.unit.test_doors import CLOSED

pytestmark = pytest.mark.server

KEY = "the-key"
SECRET = "zebra umbrella"
SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 8}
CHAT = {"messages": [{"role": "user", "content": f"{SECRET} {story(40)}"}], "max_tokens": 24, "ignore_eos": True}
LAYERS, HIDDEN, RANK = 30, 576, 4
SHAPES = {"q_proj": 576, "v_proj": 192}


def write_adapter(folder) -> None:
    """A random LoRA adapter for SmolLM2-135M, strong enough to change its text."""
    torch.manual_seed(0)
    weights = {}
    for layer in range(LAYERS):
        for name, out in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(RANK, HIDDEN) * 0.2
            weights[f"{prefix}.lora_B.weight"] = torch.randn(out, RANK) * 0.2
    save_file(weights, str(folder / "adapter_model.safetensors"))
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "bias": "none"}
    config |= {"target_modules": list(SHAPES), "lora_dropout": 0.0, "base_model_name_or_path": "SmolLM2"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """URL and log of a server with a key and an adapter."""
    folder = tmp_path_factory.mktemp("guarded")
    log = folder / "server.log"
    write_adapter(folder)
    flags = ["--enable-lora", "--lora-paths", f"a={folder}", "--lora-backend", "torch_native"]
    flags += ["--api-key", KEY, "--sfi-log-requests", "on"]
    with running_server(flags=flags, log=log, env=probe_env(traced=False, PROBE_UNPIN="1")) as url:
        yield url, log


def post(url: str, key: str | None = None, **body) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.post(url, json=body, headers=headers, timeout=120)


def test_no_door_opens_without_the_key(guarded):
    """Whatever `sfi` says, right or wrong: nobody reads it."""
    url, _ = guarded
    opened = {}
    for path in sorted(OPEN | CLOSED):
        for key in (None, "another"):
            status = post(url + re.sub(r"\{.*?\}", "x", path), key, **CHAT, sfi={"budget": 0}).status_code
            if status != 401:
                opened[path] = status
    assert opened == {}
    assert post(f"{url}/v1/chat/completions", KEY, **CHAT, sfi={"budget": 0}).status_code == 400


def test_the_log_says_what_sfi_does_and_no_text(guarded):
    url, log = guarded
    chosen = 'mine\n"sfi request {}'
    report = post(f"{url}/v1/chat/completions", KEY, **CHAT, sfi=SMALL, rid=chosen).json()["sfi"]
    assert post(f"{url}/v1/chat/completions", KEY, **CHAT).status_code == 200, "a dense one"
    lines = log.read_text().splitlines()
    logged = [json.loads(line.partition("sfi request ")[2]) for line in lines if "] sfi request " in line]
    fields = ("prompt_tokens", "inherited_tokens", "slow_steps", "fast_steps", "coverage", "agreement")
    assert logged == [{"rid": chosen, **{name: report[name] for name in fields}, "output_tokens": 24}]
    assert report["fast_steps"] > 0 and SECRET not in log.read_text()
    (started,) = (line.partition("] ")[2] for line in lines if "SFI is " in line)
    for part in ("on for requests that ask for it", "executor t", "30 of 30 attention layers", "budget 2048",
                 "repair on", "carry fresh", "memory: "):  # fmt: skip
        assert part in started, part


def test_adapters_never_share_a_memory(guarded):
    sfi = {"budget": 64, "recent": 32, "carry": "merge"}
    params = {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True, "custom_params": {"sfi": sfi}}

    def ask(adapter: str | None) -> tuple[str, int]:
        body = {"text": story(40), "lora_path": adapter, "sampling_params": params}
        reply = post(f"{guarded[0]}/generate", KEY, **body).json()
        return reply["text"], reply["meta_info"]["sfi"]["inherited_tokens"]

    base, adapted = ask(None), ask("a")
    assert base[0] != adapted[0], "the adapter has no effect"
    assert base[1] == adapted[1] == 0
    assert ask(None)[1] == ask("a")[1] == 640
