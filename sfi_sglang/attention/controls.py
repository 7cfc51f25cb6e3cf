"""What the evaluation compares SFI with, in plain torch: fast steps that choose anew each time, and a sign of drift.

Sources: the upper bound is top-k on the true attention; pages are those of Quest (arXiv 2406.10774).
"""

import torch
from torch import Tensor

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.selection import selector
from sfi_sglang.selection.scoring import Scoring

PAGE = 16  # tokens
AHEAD = 3  # tokens


def choose(q: Tensor, keys: Tensor, options: SFIOptions, scoring: Scoring) -> Tensor:
    """What one fast step sees under `fast: oracle` or `fast: pages`: q [heads, D], keys [KV, L, D] of the whole context
    -> positions int64 [KV, n], sink and recent ones among them."""
    kv_heads, length, _ = keys.shape
    first, end = options.sink, options.recent_start(length)
    grouped = q.view(kv_heads, -1, q.shape[-1])
    choice = oracle if options.fast == "oracle" else pages
    picks = first + choice(grouped, keys[:, first:end], options.selected, scoring)
    fixed = torch.cat([torch.arange(first, device=q.device), torch.arange(end, length, device=q.device)])
    return torch.cat([picks, fixed.expand(kv_heads, -1)], -1)


def oracle(q: Tensor, keys: Tensor, k: int, scoring: Scoring) -> Tensor:
    """The k keys that get most of the attention of a KV head's queries: q [KV, G, D], keys [KV, n, D] -> [KV, k]."""
    probabilities = selector.attention_logits(q, keys, scoring).softmax(-1).mean(1)
    return selector.top_positions(probabilities, k)


def pages(q: Tensor, keys: Tensor, k: int, scoring: Scoring) -> Tensor:
    """Whole pages, k tokens together, by the highest logit that a key within the page's bounds could have, the sum of
    the group's queries deciding. The last page may be short: it comes on top."""
    whole = keys.shape[1] // PAGE
    paged = keys[:, : whole * PAGE].float().unflatten(1, (whole, PAGE))
    low, high = paged.amin(2), paged.amax(2)
    query = q.float()[:, :, None] * scoring.dot_scale
    bound = torch.maximum(query * low[:, None], query * high[:, None]).sum(-1)  # [KV, G, pages]
    bound = scoring.capped(bound).sum(1)
    chosen = selector.top_positions(bound, max(1, k // PAGE))
    inside = torch.arange(PAGE, device=keys.device)
    rest = torch.arange(whole * PAGE, keys.shape[1], device=keys.device).expand(keys.shape[0], -1)
    return torch.cat([(chosen[..., None] * PAGE + inside).flatten(1), rest], -1)


def drift(q: Tensor, keys: Tensor, selected: Tensor, recent_start: int, scoring: Scoring) -> Tensor:
    """Attention mass on selected tokens near the end of what can be seen: a copy walks on, and the host acts two steps
    late (RequestState.drifted), so three tokens must be left. q [heads, D]; keys [KV, n, D] of the visible tokens, the
    selected ones last, at positions [KV, count] -> [KV].
    """
    grouped = q.view(keys.shape[0], -1, q.shape[-1])
    mass = selector.attention_logits(grouped, keys, scoring).softmax(-1).mean(1)[:, keys.shape[1] - selected.shape[1] :]
    recent = recent_start + torch.arange(AHEAD, device=selected.device).expand(selected.shape[0], -1)
    after = torch.cat([selected, recent], -1)[:, AHEAD:]
    return (mass * (after != selected + AHEAD)).sum(-1)
