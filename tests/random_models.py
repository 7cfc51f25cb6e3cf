"""Tiny models with random weights of families that mix kinds of attention, and what Hugging Face makes of them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.api.options import SFIOptions
from tests.model_families import FAMILIES, SMALL, UNTOLD

SHAPES: dict[str, dict[str, Any]] = {  # beside model_families.SMALL; heads are 64 wide for the kernels' sake
    "gpt_oss": {"num_hidden_layers": 4},
    "gemma3_text": {"num_hidden_layers": 6, "query_pre_attn_scalar": 64},
    "llama": {},
    "olmo3": {},
    "lfm2": {"block_auto_adjust_ff_dim": False},
    "qwen3_next": {"linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64},
}
WIDTH = {"head_dim": 64, "hidden_size": 256, "dtype": "float32"}
FLAT = 0.02  # of embeddings, which are the last layer's too: no token may win every time
SPREAD = 0.1  # of the weights: attention has to prefer some tokens


def build(family: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A checkpoint in `folder`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape: dict[str, Any] = {**SMALL, **FAMILIES[family][1], **SHAPES[family], **WIDTH}
    config = AutoConfig.for_model(family, **shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 or "sink" in name:
                weight.normal_(0, FLAT if "embed" in name else SPREAD)
    model.to(dtype).save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **UNTOLD.get(family, {})}))
    return folder


def logprobs(folder: Path, ids: list[int], prompt: int, sfi: SFIOptions | None = None) -> list[float]:
    """Natural log-probabilities of ids[prompt:], by Hugging Face in float32. sfi: of policy `never`; the layers of full
    attention let tokens after the prompt see what its fast steps see."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    query, key = torch.arange(len(ids))[:, None], torch.arange(len(ids))
    causal = key <= query
    full = causal.clone()
    for position in range(prompt, len(ids)) if sfi else ():
        full[position, sfi.sink : sfi.recent_start(position + 1)] = False
    masks = {"full_attention": additive(full), "conv": None}
    if window := getattr(model.config, "sliding_window", None):
        masks["sliding_attention"] = additive(causal & (key > query - window))
    with torch.no_grad():
        mixed = getattr(model.config, "layer_types", None)
        mask = masks if mixed else masks["full_attention"]
        logits = model(torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0]
    scores = logits.float().log_softmax(-1)
    return [float(scores[position - 1, ids[position]]) for position in range(prompt, len(ids))]


def additive(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
