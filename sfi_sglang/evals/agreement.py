"""Agreement: would a dense pass have chosen the tokens that SFI wrote, and how far apart are the two distributions?

SFI continues real text greedily; then one dense pass over prompt and continuation gives, at every position, dense
attention's choice and its most probable tokens. All it needs are log-probabilities over HTTP, so any model will do. The
tokens are SFI's own and not the text's: HTTP has no way to force them.
"""

import math
from collections.abc import Sequence
from typing import Any

from sfi_sglang.client.generate import generate
from sfi_sglang.evals import texts
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.variants import Variant

TASK = "agreement"
ALTERNATIVES = 20  # tokens a position of which the probability is known

Top = Sequence[Sequence[Any]]  # of one position: (log-probability, token id, text)


def detailed(variant: Variant) -> dict[str, Any] | bool:
    """The variant's request; SFI is to report its refreshes and the coverage of each head too."""
    return False if variant.sfi is None else {**variant.sfi, "detail": True}


def answer(url: str, text: texts.Text, variant: Variant) -> Outcome:
    """What one variant writes after a text, compared with what dense attention makes of the same tokens.

    The outcome's chosen: dense attention would have chosen this token too. divergence: from dense to the variant, nats.

    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    prompt, sfi = text.ids, detailed(variant)
    written = generate(url, prompt, texts.TOKENS, sfi, ignore_eos=True, logprobs=ALTERNATIVES)["meta_info"]
    ids = [token for _, token, _ in written["output_token_logprobs"]]
    start = len(prompt) - 1  # the position before predicts the first token written
    scored = generate(url, [*prompt, *ids], 1, False, ignore_eos=True, logprobs=ALTERNATIVES, logprobs_from=start)
    dense = scored["meta_info"]["input_top_logprobs"][-len(ids) :]
    best = [max(top)[1] for top in dense]
    report = written.get("sfi") or {}
    return Outcome(
        task=TASK,
        kind=text.kind,
        length=text.length,
        seed=text.seed,
        variant=variant.label,
        fast_steps=report.get("fast_steps", 0),
        slow_steps=report.get("slow_steps", 0),
        chosen=[a == b for a, b in zip(best, ids, strict=True)],
        divergence=[round(divergence(p, q), 5) for p, q in zip(dense, written["output_top_logprobs"], strict=True)],
        refreshes=report.get("refreshes") or [],
    )


def divergence(dense: Top, ours: Top) -> float:
    """Kullback-Leibler divergence, nats, of the distributions as far as they are known: the tokens that both list, one
    by one, and all others as one. It is at most the true one."""
    q = {token: logprob for logprob, token, _ in ours}
    both = [(logprob, q[token]) for logprob, token, _ in dense if token in q]
    total: float = sum(math.exp(a) * (a - b) for a, b in both)
    rest, other = (max(1e-9, 1 - sum(math.exp(pair[side]) for pair in both)) for side in (0, 1))
    return max(0.0, total + rest * math.log(rest / other))
