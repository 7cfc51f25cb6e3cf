"""How an estimate of the summary becomes a field of a table, with the keys under which the summary has its numbers."""

from sfi_sglang.evals.statistics import Estimate
from sfi_sglang.evals.summary import Share
from sfi_sglang.report.fields import Field, Part

NOTHING = Field((Part("–"),))


def words(text: str) -> Field:
    return Field((Part(text),), is_text=True)


def number(key: str, value: float | None, form: str = ",") -> Field:
    """form: as Python's format takes it."""
    return NOTHING if value is None else Field((Part(format(value, form), key),))


def percent(key: str, value: float | None) -> Field:
    return NOTHING if value is None else Field((_percent(key, value),))


def interval(key: str, estimate: Estimate) -> Field:
    """Both ends in percent; one text alone has none."""
    if estimate.low is None or estimate.high is None:
        return Field((Part("too few"),))
    return Field((_percent(f"{key}.low", estimate.low), Part("–"), _percent(f"{key}.high", estimate.high)))


def share_field(key: str, share: Share) -> Field:
    """Share right, and in points its difference from dense with the interval. SFI that is surely worse is marked."""
    parts, gap = [_percent(f"{key}.right.value", share.right.value)], share.against
    if gap and gap.low is not None and gap.high is not None:
        points = [_points(f"{key}.against.{end}", getattr(gap, end)) for end in ("value", "low", "high")]
        parts += [Part(" ("), points[0], Part(", "), points[1], Part(" to "), points[2], Part(")")]
    worse = share.variant == "sfi" and gap is not None and gap.high is not None and gap.high < 0
    return Field(tuple(parts), bad=worse)


def agreement_field(key: str, chosen: Estimate, divergence: Estimate) -> Field:
    """Share of tokens with its interval if there is one, and the divergence."""
    parts = [_percent(f"{key}.chosen.value", chosen.value)]
    if chosen.low is not None and chosen.high is not None:
        low, high = (_percent(f"{key}.chosen.{end}", getattr(chosen, end)) for end in ("low", "high"))
        parts += [Part(" ("), low, Part(" to "), high, Part(")")]
    nats = Part(f"{divergence.value:.3f}", f"{key}.divergence.value")
    return Field((*parts, Part(", "), nats, Part(" nats")))


def _percent(key: str, value: float) -> Part:
    return Part(f"{100 * value:.1f}%", key, 100.0)


def _points(key: str, value: float) -> Part:
    return Part(f"{100 * value:+.1f}", key, 100.0)
