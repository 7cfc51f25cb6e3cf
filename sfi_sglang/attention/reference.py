"""Attention in plain torch, device-agnostic: the CPU's executor and the reference of every kernel.

One primitive serves dense and sparse decoding: gather the visible tokens of each KV head through the request's slots,
then attend. Indices are flat rows of the KV pool seen as [slots * KV heads, D].
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.selector import attention_logits


def head_major(slots: Tensor, kv_heads: int) -> Tensor:
    """Flat pool rows of `slots` [..., n], shared by the heads, or [..., KV, n], own per head -> int64 [..., KV, n]."""
    heads = torch.arange(kv_heads, device=slots.device)[:, None]
    return slots.long() * kv_heads + heads


def dense_index(slots: Tensor, kv_heads: int) -> Tensor:
    """Every token of a request: slots [L] -> [KV, L]."""
    return head_major(slots[None, :], kv_heads)


def visible_positions(positions: Tensor, sink: int, recent_start: int, length: int) -> Tensor:
    """sink + selected + recent: positions [layers, KV, n] -> [layers, KV, sink + n + length - recent_start]."""
    device = positions.device
    fixed = torch.cat([torch.arange(sink, device=device), torch.arange(recent_start, length, device=device)])
    return torch.cat([fixed.expand(*positions.shape[:-1], -1), positions], dim=-1)


def gather(pool: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of a KV pool [slots, KV, D] by flat index [KV, n] -> [KV, n, D], as stored: the Scoring has the scales."""
    rows = pool.view(-1, pool.shape[-1]).index_select(0, index.reshape(-1))
    return rows.view(*index.shape, pool.shape[-1]).to(dtype)


def decode(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """One query token: q [heads, D], k and v [KV, n, D] -> [heads, Dv]. Query heads ride on the query axis (GQA)."""
    if scoring.cap or scoring.sinks is not None:
        return _written_out(q[:, None], k, v, scoring)[:, 0]
    kv_heads = k.shape[0]
    grouped = q.view(1, kv_heads, -1, q.shape[-1])
    out = scaled_dot_product_attention(grouped, k[None], v[None], scale=scoring.dot_scale)
    return out.reshape(q.shape[0], -1) * scoring.v_scale


def extend(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, positions: Tensor | None = None, window: int | None = None
) -> Tensor:
    """The tokens at `positions` [m] of a context of L, without them the last m: q [m, heads, D], k and v [KV, L, D] ->
    [m, heads, Dv], causal. window: tokens before its own that each sees, all without it."""
    m, heads, _ = q.shape
    length, group = k.shape[1], heads // k.shape[0]
    q = q.transpose(0, 1)
    if scoring.cap or scoring.sinks is not None:
        return _written_out(q, k, v, scoring, _seen(length, m, positions, window).to(q.device)).transpose(0, 1)
    k, v = (x.repeat_interleave(group, 0)[None] for x in (k, v))
    whole = m == length and positions is None and window is None
    mask = None if whole else _seen(length, m, positions, window).to(q.device)
    out = scaled_dot_product_attention(q[None], k, v, attn_mask=mask, is_causal=whole, scale=scoring.dot_scale)
    return out[0].transpose(0, 1) * scoring.v_scale


def _seen(length: int, m: int, positions: Tensor | None, window: int | None) -> Tensor:
    """Which tokens each of `extend`'s queries sees, bool [m, L]."""
    key = torch.arange(length)
    query = (key[length - m :] if positions is None else positions.cpu())[:, None]
    seen = key <= query
    return seen if window is None else seen & (key >= query - window)


def _written_out(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, seen: Tensor | None = None) -> Tensor:
    """What torch's own attention cannot do, in float32 and head by head, so that no more than one head's logits exist:
    q [heads, m, D], k and v [KV, n, D], seen bool [m, n] -> [heads, m, Dv]."""
    heads, m, _ = q.shape
    out = q.new_empty(heads, m, v.shape[-1])
    for head in range(heads):
        of = slice(head * k.shape[0] // heads, head * k.shape[0] // heads + 1)
        logits = attention_logits(q[head : head + 1], k[of], scoring)[0]
        if seen is not None:
            logits = logits.masked_fill(~seen, -torch.inf)
        if scoring.sinks is not None:
            logits = torch.cat([logits, scoring.sinks[head].float().expand(m, 1)], -1)
        weights = logits.softmax(-1)[:, : v.shape[1]]
        out[head] = (weights @ v[of][0].float()) * scoring.v_scale
    return out


def grouped_queries(q: Tensor, kv_heads: int) -> Tensor:
    """Evidence rows by KV head: q [W, heads, D] -> [KV, W * G, D]."""
    w, heads, dim = q.shape
    return q.view(w, kv_heads, heads // kv_heads, dim).transpose(0, 1).reshape(kv_heads, -1, dim)


def coverage(logits: Tensor, visible: Tensor, candidates: range) -> Tensor:
    """Attention mass on the visible tokens, mean of the queries, of all tokens and of the candidates alone (recall):
    logits [KV, R, L], visible [KV, n] positions -> [KV, 2]. What a Scoring's sinks take is no token's mass: it counts
    neither as seen nor as missed."""
    everywhere = logits.softmax(-1).mean(1).gather(-1, visible).sum(-1)
    inside = (visible >= candidates.start) & (visible < candidates.stop)
    among = logits[..., candidates.start : candidates.stop].softmax(-1).mean(1)
    index = (visible - candidates.start).clamp(0, len(candidates) - 1)
    return torch.stack([everywhere, (among.gather(-1, index) * inside).sum(-1)], -1)
