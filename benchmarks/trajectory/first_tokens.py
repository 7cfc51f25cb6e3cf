"""First tokens of calls whose prompt was cached and of those whose was not, and which part of them is the host's."""

from collections.abc import Sequence

from sfi_sglang.client.call import Call, Record
from sfi_sglang.trajectory.stats import Distribution, describe

CACHED_SHARE = 0.5  # of a prompt's tokens, from which on it counts as cached: turns come near 1, first prompts near 0


class FirstTokens(Record):
    """Seconds. host: the TTFT without queue and prefill passes, of the calls that tell both; prefill: those passes."""

    ttft: Distribution
    host: Distribution
    prefill: Distribution


def first_tokens(calls: Sequence[Call], cached: bool) -> FirstTokens | None:
    """Of the calls with a cached prompt, or of the others; None if there is none that says how much was cached."""
    chosen = [call for call in calls if is_cached(call) is cached and call.ttft is not None]
    if not chosen:
        return None
    timed = [call for call in chosen if call.host is not None]
    return FirstTokens(
        ttft=describe([call.ttft for call in chosen if call.ttft is not None]),
        host=describe([call.host for call in timed if call.host is not None]),
        prefill=describe([call.prefill for call in timed if call.prefill is not None]),
    )


def is_cached(call: Call) -> bool | None:
    """None: the server does not say."""
    return None if call.cached_tokens is None else call.cached_tokens >= CACHED_SHARE * call.prompt_tokens
