"""The model: its RoPE base raised, one causal pass without a mask, a loss whose logits never exist all at once."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

# At base 100,000 and 8,192 tokens, pairs of channels from 0.62 of the way on have not gone round once. At 32,768 tokens
# they stay within the angles seen so far if the base grows by 4 ** (1 / 0.62), about 9.3.
ROPE_THETA = 1_000_000.0
LONGEST = 32768  # tokens
CHUNK = 4096  # tokens whose logits exist at once: 800 MB in float32


def load(folder: Path, longest: int = LONGEST) -> Any:
    """The model in float32 with ROPE_THETA; `longest` only raises what it says it can read."""
    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_type": "default", "rope_theta": ROPE_THETA}
    config.max_position_embeddings = max(longest, config.max_position_embeddings)
    return AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="sdpa")


def hidden_states(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """[documents, length, width] for token ids [documents, length]: SDPA is told it is causal and given no mask, which
    the flash kernels ask for. The residual stream has the type that autocast computes in, as when it is served."""
    body = model.model
    states = body.embed_tokens(ids)
    if torch.is_autocast_enabled(ids.device.type):
        states = states.to(torch.get_autocast_dtype(ids.device.type))
    turned = body.rotary_emb(states, torch.arange(ids.shape[1], device=ids.device)[None])
    for layer in body.layers:
        states = layer(states, attention_mask=None, position_embeddings=turned)
    normed: torch.Tensor = body.norm(states)
    return normed


def token_losses(states: torch.Tensor, head: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, nats, of every next token: [documents, length - 1], float32."""
    states, labels = states[:, :-1].flatten(0, 1), ids[:, 1:].flatten()

    def part(some: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(F.linear(some, head).float(), wanted, reduction="none")

    pairs = zip(states.split(CHUNK), labels.split(CHUNK), strict=True)
    losses = torch.cat([checkpoint(part, some, wanted, use_reentrant=False) for some, wanted in pairs])
    return losses.view(ids.shape[0], -1)


def weighted_loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss by weight, and the losses of all tokens, detached. weights: as ids; the first of each is unused."""
    losses = token_losses(hidden_states(model, ids), model.lm_head.weight, ids)
    weights = weights[:, 1:]
    return (losses * weights).sum() / weights.sum(), losses.detach()


@contextmanager
def precision(device: torch.device, backend: SDPBackend | None) -> Iterator[None]:
    """bf16 autocast with the chosen attention kernel; on a CPU plain float32, which is faster there."""
    if backend is None:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(backend):
        yield


def save(model: Any, source: Path, out: Path) -> None:
    """A Hugging Face folder in bf16 with the tokenizer of `source`."""
    model.to(torch.bfloat16).save_pretrained(out)
    for name in ("tokenizer.json", "generation_config.json"):
        shutil.copy(source / name, out / name)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings["model_max_length"] = model.config.max_position_embeddings
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
