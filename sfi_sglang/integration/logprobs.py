"""Log-probabilities of what `exact` requests choose, where SGLang's scheduler looks for those of several tokens a
request (`_apply_decode_logprobs`, srt/managers/scheduler_components/batch_result_processor.py)."""

from typing import Any

import torch

from sfi_sglang.attention.transfer import to_device
from sfi_sglang.integration.choices import Choices

PARTS = ("top_logprobs_val", "top_logprobs_idx", "token_ids_logprobs_val", "token_ids_logprobs_idx")


def put(output: Any, choices: Choices | None, width: int | None = None) -> None:
    """output: SGLang's LogitsProcessorOutput, with a token a request as its sampler took it. width: the tokens that a
    request may get from the pass; None: of a prefill, which gives one."""
    own = output.next_token_logprobs
    if own is None:
        return
    if choices is None or choices.logprobs is None:
        output.next_token_logprobs = own if width is None else own[:, None]
        return
    slots = width or 1
    used = [n for n, place in enumerate(choices.places) if place.drafts < slots]
    at = [choices.places[n].request * slots + choices.places[n].drafts for n in used]
    values = torch.zeros(len(own), slots, dtype=own.dtype, device=own.device)
    values[:, 0] = own
    mine = choices.logprobs.token_logprobs
    assert mine is not None
    if len(used) < len(mine):
        mine = mine[to_device(used, mine.device)]
    values.view(-1)[to_device(at, own.device)] = mine.to(own.dtype)
    output.next_token_logprobs = values[:, 0] if width is None else values
    for part in PARTS:
        theirs, ours = getattr(output, f"next_token_{part}"), getattr(choices.logprobs, part)
        if theirs is None:
            continue
        spread = [own.new_empty(0)] * (len(own) * slots)
        spread[::slots] = theirs
        for n, place in zip(used, at, strict=True):
            spread[place] = ours[n] if ours is not None else own.new_empty(0)
        setattr(output, f"next_token_{part}", spread)
