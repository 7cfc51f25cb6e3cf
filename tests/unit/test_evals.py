"""Tasks whose answers stand in their prompts, and statistics against their definitions."""

import itertools
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from sfi_sglang.cli.evals import TASKS
from sfi_sglang.client.token_count import estimate, from_tokenizer
from sfi_sglang.evals import agreement, texts
from sfi_sglang.evals.carry import FACTS, conversation
from sfi_sglang.evals.prose import hide
from sfi_sglang.evals.retrieval import tells
from sfi_sglang.evals.statistics import T, Z, difference, mean_over, share, share_over
from sfi_sglang.evals.variants import CHANGES, SETS, Sight, variants
from sfi_sglang.serving.embedded_model import embedded_model

KINDS = [(name, kind) for name, task in TASKS.items() for kind in task.kinds]


@pytest.mark.parametrize(("name", "kind"), KINDS)
@given(seed=st.integers(0, 10**6), depth=st.floats(0, 0.99), length=st.integers(300, 2000))
def test_an_item_is_seeded_whole_and_answered_in_its_prompt(name, kind, seed, depth, length):
    task, count = TASKS[name], estimate()
    item = task.item(kind, length, depth, seed, count)
    assert item == task.item(kind, length, depth, seed, count)
    assert item.prompt != task.item(kind, length, depth, seed + 1, count).prompt
    assert abs(count(item.prompt) - length) < 100
    assert task.right(item, item.answer if item.regex else f" {item.answer}, and so on")
    assert not task.right(item, "") and not task.right(item, item.answer[1:])
    for number in re.findall(r"\d{4,}", item.answer):
        assert len(re.findall(number, item.prompt)) == 1
    if item.regex:
        assert re.fullmatch(item.regex, item.answer)
    for earlier, later in itertools.pairwise([*item.turns, item.prompt]):
        assert later.startswith(earlier)


def test_prompts_have_the_asked_length_in_the_models_tokens():
    count = from_tokenizer(embedded_model())
    for name, kind in KINDS:
        assert abs(count(TASKS[name].item(kind, 2000, 0.5, 7, count).prompt) - 2000) < 80


def test_depths_are_spread_and_the_fact_is_there():
    made = [f"Sentence {i}." for i in range(100)]
    for depth in (0.0, 0.25, 0.5, 0.99):
        assert abs(hide(["HERE"], made, depth).index("HERE") - 100 * depth) <= 1
    first, second = sorted(hide(["A", "B"], made, 0.1).index(fact) for fact in "AB")
    assert second - first >= 49
    task = TASKS["retrieval"]
    items = task.items(600, 4, range(4), estimate())
    assert [item.depth for item in items[:4]] == [0.125, 0.375, 0.625, 0.875]
    assert len({(item.kind, item.seed) for item in items}) == len(items) == 4 * len(task.kinds)


def test_values_in_order_are_asked_for_in_order():
    for seed in range(20):
        item = TASKS["retrieval"].item("multi-value", 800, 0.9, seed, estimate())
        places = [item.prompt.index(number) for number in item.answer.split(", ")]
        assert places == sorted(places)
        assert not TASKS["retrieval"].right(item, ", ".join(reversed(item.answer.split(", "))))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_its_equation(counts):
    right, n = counts
    found = share(right, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(found.value - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / n), rel=1e-6)


def test_wilsons_interval_is_scipys():
    for right, n in ((0, 5), (3, 7), (190, 200), (200, 200)):
        low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert (share(right, n).low, share(right, n).high) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_a_difference_holds_the_truth():
    """Simulated pairs of answers: 95% intervals miss the true difference about one time in twenty."""
    rng, missed, runs = random.Random(1), 0, 1000
    for _ in range(runs):
        theirs = [rng.random() < 0.9 for _ in range(200)]
        ours = [right if rng.random() < 0.95 else not right for right in theirs]
        found, truth = difference(ours, theirs), -0.05 * 0.9 + 0.05 * 0.1
        missed += not found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
    assert 0.02 < missed / runs < 0.08
    assert difference([True] * 200, [True] * 200).low > -0.02


def test_means_are_as_sure_as_their_groups_are_many():
    found = mean_over([(0.9, 1), (1.0, 1), (0.8, 1)])
    assert found.value == pytest.approx(0.9) and found.high - found.value == pytest.approx(T[1] * 0.1 / math.sqrt(3))
    assert pytest.approx(student.ppf(0.975, range(1, len(T) + 1)), abs=1e-3) == T
    assert mean_over([(0.0, 4), (1.0, 4)] * 40).high == pytest.approx(0.125 + Z * 0.125 / math.sqrt(79))
    alone = mean_over([(0.5, 1)])
    assert (alone.value, alone.low, alone.high) == (0.5, None, None)


def test_the_interval_of_a_mean_over_texts_holds_the_truth():
    """Simulated texts, each with a share of its own: tokens taken as independent would miss the truth far oftener."""
    rng, missed, runs = random.Random(2), 0, 1000
    for _ in range(runs):
        shares = [min(1.0, max(0.0, rng.gauss(0.8, 0.1))) for _ in range(6)]
        found = share_over([(sum(rng.random() < each for _ in range(100)), 100) for each in shares])
        missed += not found.low <= 0.8 <= found.high
    assert 0.02 < missed / runs < 0.08


def test_texts_that_are_all_right_are_not_sure():
    assert share_over([(9, 9)] * 3).low == pytest.approx(share(27, 27).low) and share_over([(9, 9)] * 3).high == 1


def test_a_conversations_facts_are_in_its_first_turn():
    count = estimate()
    made = conversation(2000, 4, 7, count)
    assert made == conversation(2000, 4, 7, count) and made.prompts != conversation(2000, 4, 8, count).prompts
    assert len(made.prompts) == 3 and len(made.asked) == FACTS and made.kind == "told in turn 1 of 4"
    for prompt, fact in made.asked:
        assert made.prompts[0].count(fact) == prompt.count(fact) == 1 and abs(count(prompt) - 2000) < 200
    for earlier, later in itertools.pairwise([*made.prompts, made.asked[0][0]]):
        assert later.startswith(earlier)
    assert tells(" 48213.\nThe 9", ["48213"]) and not tells("482134", ["48213"]) and not tells("", ["1"])


def test_variants_have_the_same_budget_and_are_accepted():
    from sfi_sglang.api.options import parse_sfi

    for name in SETS:
        made = variants(Sight(2048), name)
        assert made[0].sfi is None and len({variant.label for variant in made}) == len(made)
        for variant in made[1:]:
            options = parse_sfi(variant.sfi)
            if not variant.label.isdecimal() and variant.label != "recent 256":
                assert options.dense_limit == 4 + 1024 + 2048
    assert {label for label in set().union(*SETS.values()) if not label.isdecimal()} == set(CHANGES)


def logprobs(*given: float) -> list[tuple[float, int, None]]:
    return [(math.log(p), token, None) for token, p in enumerate(given)]


def test_divergence():
    p, q = (0.5, 0.3, 0.2), (0.4, 0.4, 0.2)
    truth = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert agreement.divergence(logprobs(*p), logprobs(*q)) == pytest.approx(truth, abs=1e-6)
    assert agreement.divergence(logprobs(*p), logprobs(*p)) == pytest.approx(0, abs=1e-6)
    assert 0 < agreement.divergence(logprobs(*p[:2]), logprobs(*q[:2])) <= truth + 1e-9


def test_transcripts_that_are_none_are_named(tmp_path):
    with pytest.raises(ValueError, match="no transcripts"):
        texts.transcripts("http://unused", tmp_path)
    file = tmp_path / "a.json"
    for content, words in (
        ("{", "1: not JSON: "),
        ("[]", "1: messages: List should have at least 1 item"),
        ('{\n"messages": "x"}', "2: messages: Input should be a valid list"),
        ('[{"role": "user",\n"content": 3}]', "2: messages.0.content: needs a string"),
        ("3", "1: needs an object"),
        ("{}\n{}", "2: a second value"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"a\.json:{words}"):
            texts.transcripts("http://unused", tmp_path)
