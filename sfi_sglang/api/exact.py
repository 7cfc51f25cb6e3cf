"""Which requests may ask for `exact`: the dense reply, token for token, at the speed of fast steps."""

import contextlib
import os
from typing import Any

ALGORITHM = "SFI"  # of SGLang's --speculative-algorithm
CHANCE_ENV = "SFI_BENCH_ACCEPTANCE"
GREEDY = 1e-6  # SGLang takes lower temperatures for 0
# Sampling parameters that change what full attention would choose, and the value that leaves it.
NEUTRAL = {
    "regex": None, "json_schema": None, "ebnf": None, "structural_tag": None, "logit_bias": None,
    "frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "min_new_tokens": 0,
}  # fmt: skip
FIELDS = ("return_logprob", "return_hidden_states", "return_routed_experts", "custom_logit_processor", "lora_path")


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


def check(params: dict[str, Any], obj: Any, server_args: Any) -> None:
    """A GenerateReqInput that asks for `exact`, and its sampling parameters.

    Raises:
        ValueError: it asks for something beside that is not done yet, or of a server that cannot.
    """
    if not started_for(server_args):
        raise ValueError(f"sfi.exact: start the server with --speculative-algorithm {ALGORITHM}")
    temperature = params.get("temperature")
    if not (params.get("top_k") == 1 or (isinstance(temperature, int | float) and temperature < GREEDY)):
        raise ValueError("sfi.exact: only with temperature 0 as yet")
    if set_ := [name for name, neutral in NEUTRAL.items() if params.get(name) not in (None, neutral, "", {})]:
        raise ValueError(f"sfi.exact: not together with {set_[0]} as yet")
    if set_ := [name for name in FIELDS if getattr(obj, name, None) not in (None, False)]:
        raise ValueError(f"sfi.exact: not together with {set_[0]} as yet")
