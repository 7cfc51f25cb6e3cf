"""Learning rate and lengths as functions of the share of the training time that has gone, 0 to 1: the clock ends it."""

import random

WARM_UP = 0.05  # share of the time in which the rate rises
SHORT_UNTIL, LONG_FROM = 0.10, 0.25  # between them the mix of lengths goes over from EARLY to LATE
DIVISORS = (8, 4, 2, 1)  # of the longest length
EARLY = (0.3, 0.7, 0.0, 0.0)  # share of the tokens, by length: the raised RoPE base settles where steps are cheap
LATE = (0.08, 0.12, 0.25, 0.55)  # the short ones keep what the model could before


def rate(share: float, peak: float) -> float:
    """A straight rise, then a straight fall to 0 at the end."""
    return peak * max(0.0, min(share / WARM_UP, (1 - share) / (1 - WARM_UP)))


def lengths(longest: int, shortest: int = 128) -> list[int]:
    """Tokens of a document, short ones first."""
    return [max(min(shortest, longest), longest // divisor) for divisor in DIVISORS]


def pick_length(rng: random.Random, share: float, longest: int) -> int:
    over = min(1.0, max(0.0, (share - SHORT_UNTIL) / (LONG_FROM - SHORT_UNTIL)))
    weights = [early + over * (late - early) for early, late in zip(EARLY, LATE, strict=True)]
    return rng.choices(lengths(longest), weights)[0]
