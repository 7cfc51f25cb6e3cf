"""What a request does with the memory it inherits, at its first selection.

fresh    evidence over the whole context; the inherited memory is not used.
inherit  evidence over the inherited positions and the tokens that are new to the memory: the cost does not grow with
         the prefix. Positions that no earlier selection kept stay out until the first refresh.
merge    evidence over the whole context, with a bonus for inherited positions.
"""

import torch
from torch import Tensor

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.selection.snapshot_store import Inherited

MERGE_BONUS = 1.0  # log-space: an inherited token counts as if it had e times the evidence
NOWHERE = -(1 << 30)  # position of a candidate slot that is empty


def inherited_candidates(inherited: Inherited | None, options: SFIOptions, length: int) -> Tensor | None:
    """What carry=inherit chooses from; None without an inherited memory or with too small a rest of one."""
    if inherited is None or options.carry != "inherit":
        return None
    recent_start = options.recent_start(length)
    if fewest_candidates(inherited, options.sink, recent_start) < options.selected:
        return None  # cut short at a fork: `fresh` serves
    return candidate_positions(inherited, options.sink, recent_start)


def candidate_positions(inherited: Inherited, sink: int, recent_start: int) -> Tensor:
    """Inherited positions, then the new tokens: int64 [layers, KV heads, c], ascending, empty slots (NOWHERE) first."""
    kept = inherited.snapshot.positions.long()
    kept = kept.masked_fill((kept < sink) | (kept >= min(inherited.covered, recent_start)), NOWHERE)
    kept = kept.sort(-1).values
    start = min(max(inherited.covered, sink), recent_start)
    new = torch.arange(start, recent_start, device=kept.device)
    return torch.cat([kept, new.expand(*kept.shape[:-1], -1)], dim=-1)


def fewest_candidates(inherited: Inherited, sink: int, recent_start: int) -> int:
    """Candidates that every head has at least, told from the host's copy of the snapshot's counts: no pass waits for
    the device."""
    kept = inherited.snapshot.least_below(min(inherited.covered, recent_start))
    hidden = max(sink - inherited.snapshot.first, 0)  # at most so many are sink tokens here
    new = recent_start - min(max(inherited.covered, sink), recent_start)
    return max(kept - hidden, 0) + new


def gather_keys(keys: Tensor, positions: Tensor) -> Tensor:
    """Keys of one layer's candidates: keys [KV, L, D], positions [KV, c] -> [KV, c, D]; NOWHERE slots hold anything."""
    index = positions.clamp_min(0)[..., None].expand(-1, -1, keys.shape[-1])
    return keys.gather(1, index)


def mask_logits(logits: Tensor, positions: Tensor) -> Tensor:
    """No evidence for NOWHERE slots: logits [KV, R, c], positions [KV, c]."""
    return logits.masked_fill((positions == NOWHERE)[:, None, :], -torch.inf)


def add_bonus(log_f: Tensor, inherited: Inherited, sink: int) -> Tensor:
    """Favour inherited positions: log scores [layers, KV, n] over candidates that start at `sink`."""
    if log_f.shape[-1] == 0:
        return log_f
    positions = inherited.snapshot.positions.long() - sink
    valid = (positions >= 0) & (positions < min(inherited.covered - sink, log_f.shape[-1]))
    bonus = torch.zeros_like(log_f)
    bonus.scatter_add_(-1, positions.clamp(0, log_f.shape[-1] - 1), valid * MERGE_BONUS)
    return log_f + bonus
