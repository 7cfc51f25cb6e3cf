"""The request schema: what is accepted, and in which words the rest is refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sfi_sglang.api.options import SelectorOptions, SFIOptions, parse_sfi
from sfi_sglang.api.refusal import field_of


def test_off_on_and_defaults():
    assert parse_sfi(None) is None and parse_sfi(False) is None
    assert parse_sfi(True) == parse_sfi({}) == SFIOptions()
    options = SFIOptions()
    assert (options.sink, options.recent, options.budget) == (4, 1024, 2048)
    assert options.selector.name() == "span"


COUNT = "expected a whole number from 1 to 1048576, got"
STAGES = (
    "(presets: paper, span, plain; stages, joined by +: agreement, prior, nms, exclusion, span, span8, span16, span64)"
)
OPTIONS = (
    "(options: budget, sink, recent, min_gap, max_segment, policy, carry, repair, selector, queries, extend, fast, "
    "detail)"
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"budget": 0}, f"sfi.budget: {COUNT} 0"),
        ({"budget": -5}, f"sfi.budget: {COUNT} -5"),
        ({"budget": 1.5}, f"sfi.budget: {COUNT} 1.5"),
        ({"budget": "512"}, f'sfi.budget: {COUNT} "512"'),
        ({"budget": True}, f"sfi.budget: {COUNT} true"),
        ({"budget": None}, f"sfi.budget: {COUNT} null"),
        ({"budget": 10**12}, f"sfi.budget: {COUNT} 1000000000000"),
        ({"budget": "x" * 99}, f'sfi.budget: {COUNT} "{"x" * 59}...'),
        ({"sink": -1}, "sfi.sink: expected a whole number from 0 to 1048576, got -1"),
        ({"max_segment": 8, "min_gap": 16}, "sfi.max_segment: expected at least min_gap (16), got 8"),
        ({"max_segment": 8}, "sfi.max_segment: expected at least min_gap (16), got 8"),
        ({"min_gap": 100}, "sfi.min_gap: expected at most max_segment (64), got 100"),
        (
            {"policy": "foo"},
            'sfi.policy: expected one of sentence, structural, periodic, random, drift, never, got "foo"',
        ),
        ({"carry": ["inherit"]}, 'sfi.carry: expected one of fresh, inherit, merge, got ["inherit"]'),
        ({"repair": 1}, "sfi.repair: expected true or false, got 1"),
        ({"selector": "papers"}, f'sfi.selector: unknown stage "papers", did you mean paper? {STAGES}'),
        ({"selector": "prior+spam"}, f'sfi.selector: unknown stage "spam", did you mean span? {STAGES}'),
        ({"selector": ""}, f'sfi.selector: unknown stage "" {STAGES}'),
        ({"selector": []}, f"sfi.selector: expected a preset, stages or an object of stages, got [] {STAGES}"),
        ({"selector": {"span": 1}}, "sfi.selector.span: expected one of 0, 8, 16, 32, 64, got 1"),
        (
            {"selector": {"spam": True}},
            "sfi.selector.spam: unknown option, did you mean span? (options: agreement, prior, nms, exclusion, span)",
        ),
        ({"budgt": 5}, f"sfi.budgt: unknown option, did you mean budget? {OPTIONS}"),
        (
            {"x": 5, "sink": -1},
            f"sfi.sink: expected a whole number from 0 to 1048576, got -1; sfi.x: unknown option {OPTIONS}",
        ),
        ({"policy": "\ud800"}, 'sfi.policy: "\\ud800" is not valid text'),
        ("yes", 'sfi: expected true, false or an object of options, got "yes"'),
        (1, "sfi: expected true, false or an object of options, got 1"),
        ([], "sfi: expected true, false or an object of options, got []"),
    ],
)
def test_a_wrong_value_is_refused_in_words(value, message):
    with pytest.raises(ValueError) as refused:
        parse_sfi(value)
    assert str(refused.value) == message
    assert message.startswith(f"{field_of(message)}: ")


def test_of_many_wrong_fields_three_are_named():
    with pytest.raises(ValueError) as refused:
        parse_sfi(dict.fromkeys("abcdefg", 0))
    assert [part.split(":")[0] for part in str(refused.value).split("; ")] == ["sfi.a", "sfi.b", "sfi.c", "and 4 more"]


def test_a_message_of_others_has_no_field_of_ours():
    assert field_of("sfi: not available on this server: it is off") == "sfi"
    assert field_of("temperature must be non-negative") is None and field_of("sfiction: no") is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*SFIOptions.model_fields, *SelectorOptions.model_fields]) | st.text()


@example({":": {}})
@given(anything | st.dictionaries(names, anything | st.dictionaries(names, anything)))
def test_no_refusal_speaks_of_the_library_behind_it(value):
    try:
        parse_sfi(value)
    except ValueError as error:
        message = str(error)
        assert (field_of(message) or "").startswith("sfi") and "\n" not in message
        assert not any(words in message for words in ("Value error", "Input should", "instance of", "valid dict"))
        assert message.encode(), "every JSON encoder takes it"


@given(
    st.builds(
        SFIOptions,
        budget=st.integers(1, 9999),
        sink=st.integers(0, 99),
        recent=st.integers(1, 999),
        policy=st.sampled_from(["sentence", "structural", "periodic", "random", "drift", "never"]),
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


@pytest.mark.parametrize(("name", "width"), [("span", 32), ("span8", 8), ("span16", 16), ("span64", 64), ("plain", 0)])
def test_a_span_has_a_width(name, width):
    for value in (name, {"span": width}):
        selector = parse_sfi({"selector": value}).selector
        assert (selector.span, selector.name()) == (width, name)
    assert parse_sfi({"selector": {"span": bool(width)}}).selector.span == 32 * bool(width)


@given(st.integers(1, 100_000), st.integers(0, 64), st.integers(1, 4096))
def test_recent_start_keeps_at_least_recent_tokens(length, sink, recent):
    options = SFIOptions(sink=sink, recent=recent)
    start = options.recent_start(length)
    assert start >= sink
    assert start == sink or (start % 16 == 0 and recent <= length - start < recent + 16)


def test_policy_never_selects_nothing():
    assert SFIOptions(budget=512, policy="never").dense_limit == 4 + 1024
    assert SFIOptions(budget=512).dense_limit == 4 + 512 + 1024


def test_a_prefill_selects_where_the_next_token_would_not_fit():
    options = SFIOptions(budget=512)  # visible: 4 + 512 + 1024
    assert not options.selects_at(1539) and options.selects_at(1540)
    assert not SFIOptions(budget=512, policy="never").selects_at(100_000)
