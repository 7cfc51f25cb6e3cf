"""Which requests may ask for `exact`: the dense reply, token for token, at the speed of fast steps."""

import contextlib
import os
import random
from typing import Any

ALGORITHM = "SFI"  # of SGLang's --speculative-algorithm
CHANCE_ENV = "SFI_BENCH_ACCEPTANCE"
# Sampling parameters that count the tokens so far, drafts among them, and the value that leaves all as it is.
NEUTRAL = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "min_new_tokens": 0}
GRAMMARS = ("regex", "json_schema", "ebnf", "structural_tag")
GRAMMAR_BACKEND = "xgrammar"  # takes tokens back; also the default
FIELDS = (
    "return_hidden_states", "return_routed_experts", "return_sampling_mask", "custom_logit_processor", "lora_path",
)  # fmt: skip


def chance() -> float | None:
    """For benchmarks of models with random weights: at what chance drafts pass, whatever full attention would choose.
    Replies are wrong then, and their reports say so.

    Raises:
        ValueError: it is no share.
    """
    if (value := os.environ.get(CHANCE_ENV)) is None:
        return None
    with contextlib.suppress(ValueError):
        if 0 <= (share := float(value)) <= 1:
            return share
    raise ValueError(f"{CHANCE_ENV}: {value!r} is no share, from 0 to 1")


def started_for(server_args: Any) -> bool:
    return (server_args.speculative_algorithm or "").upper() == ALGORITHM


def seeded(params: dict[str, Any]) -> dict[str, Any]:
    """Draws of all its passes, and on all tensor-parallel ranks, share a seed."""
    drawn = random.getrandbits(62) if params.get("sampling_seed") is None else params["sampling_seed"]
    return {**params, "sampling_seed": drawn}


def check(params: dict[str, Any], obj: Any, server_args: Any) -> None:
    """A GenerateReqInput that asks for `exact`, and its sampling parameters.

    Raises:
        ValueError: it asks for something beside that is not done yet, or of a server that cannot.
    """
    if not started_for(server_args):
        raise ValueError(f"sfi.exact: start the server with --speculative-algorithm {ALGORITHM}")
    if set_ := [name for name, neutral in NEUTRAL.items() if params.get(name) not in (None, neutral, "", {})]:
        raise ValueError(f"sfi.exact: not together with {set_[0]} as yet")
    backend = server_args.grammar_backend or GRAMMAR_BACKEND
    if backend != GRAMMAR_BACKEND and (set_ := [name for name in GRAMMARS if params.get(name)]):
        raise ValueError(f"sfi.exact: {set_[0]} only with --grammar-backend {GRAMMAR_BACKEND} as yet, not {backend}")
    if getattr(server_args, "enable_watermark", False):
        raise ValueError("sfi.exact: not together with --enable-watermark as yet")
    if set_ := [name for name in FIELDS if getattr(obj, name, None) not in (None, False)]:
        raise ValueError(f"sfi.exact: not together with {set_[0]} as yet")
