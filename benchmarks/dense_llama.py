"""A checkpoint of the Llama architecture in float32, layer by layer, so that attention can be replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.attention.reference import decode, extend
from sfi_sglang.selection.scoring import Scoring

Attend = Callable[["Llama", int, Tensor, Tensor, Tensor], Tensor]  # layer, q [n, heads, D], k and v [KV, L, D]


class Context:
    """Keys and values of one text, [layers, KV, tokens, D]; the first `length` tokens count."""

    def __init__(self, llama: "Llama", tokens: int) -> None:
        config = llama.model.config
        shape = (config.num_hidden_layers, config.num_key_value_heads, tokens, llama.dim)
        self.keys, self.values, self.length = torch.empty(shape), torch.empty(shape), 0


class Llama:
    """Hugging Face's weights and layers; the loop over them is ours."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        self.model: Any = loader.from_pretrained(folder, dtype=torch.float32).eval()
        config = self.model.config
        self.dim = config.head_dim
        self.scoring = Scoring(self.dim**-0.5)

    @torch.inference_mode()
    def forward(self, ids: list[int], context: Context, attend: Attend) -> Tensor:
        """Read tokens behind a context, which grows by them -> hidden states [n, width]."""
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        inner, start, end = self.model.model, context.length, context.length + len(ids)
        x = inner.embed_tokens(torch.tensor([ids]))
        cos, sin = inner.rotary_emb(x, torch.arange(start, end)[None])
        for number, layer in enumerate(inner.layers):
            own, normed = layer.self_attn, layer.input_layernorm(x)
            q, k, v = (
                project(normed).unflatten(-1, (-1, self.dim)).transpose(1, 2)
                for project in (own.q_proj, own.k_proj, own.v_proj)
            )
            q, k = apply_rotary_pos_emb(q, k, cos, sin)
            context.keys[number, :, start:end], context.values[number, :, start:end] = k[0], v[0]
            seen = context.keys[number, :, :end], context.values[number, :, :end]
            x = x + own.o_proj(attend(self, number, q[0].transpose(0, 1), *seen).flatten(1))[None]
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        context.length = end
        found: Tensor = inner.norm(x)[0]
        return found

    def dense(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return decode(q[0], k, v, self.scoring)[None] if len(q) == 1 else extend(q, k, v, self.scoring)

    @staticmethod
    def plain(llama: "Llama", layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Full attention, as an Attend."""
        return llama.dense(layer, q, k, v)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.model.lm_head(hidden)
        return found

    def greedy(self, logits: Tensor, context: Context, tokens: int) -> list[int]:
        """Go on from the logits of the last token [1, vocabulary], with full attention."""
        found = [int(logits.argmax())]
        while len(found) < tokens:
            found.append(int(self.logits(self.forward(found[-1:], context, self.plain)).argmax()))
        return found
