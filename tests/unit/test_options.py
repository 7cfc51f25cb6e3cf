"""The request schema: what is accepted, and that every refusal names the field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.api.options import SFIOptions, parse_sfi


def test_off_on_and_defaults():
    assert parse_sfi(None) is None and parse_sfi(False) is None
    assert parse_sfi(True) == parse_sfi({}) == SFIOptions()
    options = SFIOptions()
    assert (options.sink, options.recent, options.budget) == (4, 256, 2048)
    assert options.selector.name() == "span"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"budget": 0}, "sfi.budget"),
        ({"budget": -5}, "sfi.budget"),
        ({"budget": 1.5}, "sfi.budget"),
        ({"budget": "512"}, "sfi.budget"),
        ({"budget": True}, "sfi.budget"),
        ({"budget": None}, "sfi.budget"),
        ({"budget": 10**12}, "sfi.budget"),
        ({"sink": -1}, "sfi.sink"),
        ({"recent": 0}, "sfi.recent"),
        ({"min_gap": 0}, "sfi.min_gap"),
        ({"max_segment": 8, "min_gap": 16}, "max_segment"),
        ({"policy": "always"}, "sfi.policy"),
        ({"selector": "papers"}, "sfi.selector"),
        ({"selector": "prior+spam"}, "sfi.selector"),
        ({"selector": {"span": 1}}, "sfi.selector.span"),
        ({"selector": {"spam": True}}, "sfi.selector.spam"),
        ({"selector": []}, "sfi.selector"),
        ({"budjet": 5}, "sfi.budjet"),
        ("yes", "sfi"),
        (1, "sfi"),
        ([], "sfi"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value, field):
    with pytest.raises(ValueError, match=field):
        parse_sfi(value)


@given(
    st.builds(
        SFIOptions,
        budget=st.integers(1, 9999),
        sink=st.integers(0, 99),
        recent=st.integers(1, 999),
        policy=st.sampled_from(["sentence", "structural", "periodic", "never"]),
        selector=st.fixed_dictionaries(
            {}, optional={n: st.booleans() for n in ("agreement", "prior", "nms", "exclusion", "span")}
        ),
    )
)
def test_the_flat_form_is_scalar_and_reads_back(options):
    flat = options.flat()
    assert all(isinstance(value, int | str) for value in flat.values())
    assert parse_sfi(flat) == options


def test_presets_and_stage_lists():
    paper = parse_sfi({"selector": "paper"}).selector
    assert paper.name() == "agreement+prior+nms+exclusion"
    assert parse_sfi({"selector": "prior+span"}).selector == parse_sfi({"selector": {"prior": True}}).selector
    assert not any(dict(parse_sfi({"selector": "plain"}).selector).values())


@given(st.integers(1, 100_000), st.integers(0, 64), st.integers(1, 4096))
def test_recent_start_keeps_at_least_recent_tokens(length, sink, recent):
    options = SFIOptions(sink=sink, recent=recent)
    start = options.recent_start(length)
    assert start >= sink
    assert start == sink or (start % 16 == 0 and recent <= length - start < recent + 16)


def test_policy_never_selects_nothing():
    assert SFIOptions(budget=512, policy="never").dense_limit == 4 + 256
    assert SFIOptions(budget=512).dense_limit == 4 + 512 + 256
