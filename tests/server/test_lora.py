"""Requests with different LoRA adapters never share a memory: a real adapter on a real server."""

import json

import pytest
import requests
import torch
from safetensors.torch import save_file

from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env, story

pytestmark = pytest.mark.server

LAYERS, HIDDEN, RANK = 30, 576, 4
SHAPES = {"q_proj": 576, "v_proj": 192}


def write_adapter(folder):
    """A random adapter for SmolLM2-135M, strong enough to change its text."""
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


def test_adapters_never_share_a_memory(tmp_path):
    write_adapter(tmp_path)
    flags = ["--enable-lora", "--lora-paths", f"a={tmp_path}", "--lora-backend", "torch_native"]
    env = probe_env(traced=False, PROBE_UNPIN="1")
    sfi = {"budget": 64, "recent": 32, "carry": "merge"}
    params = {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    with running_server(flags=flags, log=tmp_path / "server.log", env=env) as url:

        def ask(adapter: str | None) -> tuple[str, int]:
            body = {"text": story(40), "lora_path": adapter, "sampling_params": params}
            reply = requests.post(f"{url}/generate", json=body, timeout=120).json()
            return reply["text"], reply["meta_info"]["sfi"]["inherited_tokens"]

        base, adapted = ask(None), ask("a")
        assert base[0] != adapted[0], "the adapter has no effect"
        assert base[1] == adapted[1] == 0
        assert ask(None)[1] == ask("a")[1] == 640
