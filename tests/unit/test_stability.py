"""The benchmark `stability` against loops in float64, on small tensors."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks import stability, stability_report
from sfi_sglang.api.options import SelectorOptions, SFIOptions
from sfi_sglang.scheduling.enders import TokenKind
from sfi_sglang.scheduling.segments import Vocabulary
from sfi_sglang.selection import selector

TEXT, BLANK, ENDER = TokenKind.TEXT, TokenKind.BLANK, TokenKind.ENDER
HEADS, KV_HEADS, LENGTH, QUERIES, DIM, FIRST, LAST = 6, 2, 60, 9, 8, 4, 40
SCALE = DIM**-0.5
VOCABULARY = Vocabulary(["word", ".", " ", "\n"])


def layer(seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k = (3 * torch.randn(rows, length, DIM, generator=generator) for rows, length in ((HEADS, QUERIES), (2, LENGTH)))
    return q, k


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def attended(q, k, head, query):
    """Attention [query's position + 1] of one head's query to everything that it sees."""
    position = LENGTH - QUERIES + query
    keys = k[head // (HEADS // KV_HEADS), : position + 1].double().numpy()
    return softmax(keys @ q[head, query].double().numpy() * SCALE)


def group(kv_head):
    return range(kv_head * HEADS // KV_HEADS, (kv_head + 1) * HEADS // KV_HEADS)


def evidence64(q, k, kv_head, query):
    found = [attended(q, k, head, query)[FIRST:LAST] for head in group(kv_head)]
    return np.mean([one / one.sum() for one in found], 0)


def shares64(q, k, kv_head, query):
    return np.mean([attended(q, k, head, query)[FIRST:LAST] for head in group(kv_head)], 0)


def test_attention():
    q, k = layer()
    evidence, shares = stability.attention(q, k, SCALE, FIRST, LAST)
    for kv_head in range(KV_HEADS):
        for query in range(QUERIES):
            expected = evidence64(q, k, kv_head, query), shares64(q, k, kv_head, query)
            np.testing.assert_allclose(evidence[kv_head, query].exp(), expected[0], rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(shares[kv_head, query], expected[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", stability.SELECTORS)
@pytest.mark.parametrize("size", [5, 20])
def test_compare(name, size):
    q, k = layer(1)
    evidence, shares = stability.attention(q, k, SCALE, FIRST, LAST)
    picks = selector.select(evidence, 1, size, SelectorOptions.model_validate(name))
    found = dict(zip(stability.MEASURES, stability.compare(evidence, shares, picks), strict=True))
    assert all(values.shape == (QUERIES, QUERIES) for values in found.values())
    for target in range(QUERIES):
        for source in range(QUERIES):
            expected = dict.fromkeys(stability.MEASURES, 0.0)
            for kv_head in range(KV_HEADS):
                mine, theirs = (set(picks[kv_head, query].tolist()) for query in (target, source))
                p, share = evidence64(q, k, kv_head, target), shares64(q, k, kv_head, target)
                values = {
                    "overlap": len(mine & theirs) / size,
                    "mass": sum(p[i] for i in theirs),
                    "own": sum(p[i] for i in mine),
                    "latest": sum(p[LAST - FIRST - size :]),
                    "missed": sum(share[i] for i in range(LAST - FIRST) if i not in theirs),
                    "own_missed": sum(share[i] for i in range(LAST - FIRST) if i not in mine),
                    "share": sum(share),
                }
                expected = {measure: expected[measure] + values[measure] / KV_HEADS for measure in expected}
            for measure, value in expected.items():
                assert found[measure][target, source] == pytest.approx(value, rel=1e-4, abs=1e-6), measure
    assert (found["overlap"].diagonal() == 1).all()


def test_a_sentence_begins_with_the_first_word_after_its_end():
    kinds = [TEXT, ENDER, BLANK, ENDER, TEXT, TEXT, BLANK, TEXT, ENDER, TEXT]
    assert stability.sentence_numbers(kinds).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


def test_refreshes_come_where_a_request_would_have_them():
    """The first token is the prompt's. A step sees the outputs before its own token: the word after the full stop at 5
    lets the step after it, 7, refresh; then `max_segment` steps pass."""
    tokens = [0] * 5 + [1] + [0] * 11
    options = SFIOptions(min_gap=2, max_segment=8)
    found = stability.last_refreshes(tokens, options, VOCABULARY).tolist()
    assert found == [0] * 7 + [7] * 8 + [15] * 2


def test_pairs():
    """A target has one pair at every distance that the window has room for, and it is inside or across."""
    sentences = torch.tensor([0] * 5 + [1] * 20)
    refreshes = torch.tensor([0] * 7 + [7] * 18)
    found = stability.pairs(sentences, refreshes)
    for distance in stability.DISTANCES:
        for target in range(distance, len(sentences)):
            same = sentences[target] == sentences[target - distance]
            for place in ("inside", "across"):
                targets, sources = found[place, distance]
                assert (target in targets.tolist()) == (place == ("inside" if same else "across"))
                assert (targets - sources == distance).all()
    targets, sources = found["refresh", 0]
    assert targets.tolist() == [*range(1, 7), *range(8, 25)]  # those that refresh see everything
    assert (sources == refreshes[targets]).all()


def test_intervals_are_over_texts():
    found = stability.intervals([[value] * len(stability.MEASURES) for value in (0.2, 0.4, 0.6)])
    for middle, half in found.values():
        assert (middle, half) == pytest.approx((0.4, 4.303 * 0.2 / math.sqrt(3)), abs=1e-3)


def test_cells_table_and_plot(tmp_path):
    """Numbers of a made-up text come out where they belong."""
    tokens = ([0] * 11 + [1]) * (stability.WINDOW // 12) + [0] * (stability.WINDOW % 12)
    place = torch.arange(float(stability.WINDOW))
    values = (place[:, None] - place).abs() / 1000  # every measure is the distance
    maps = {
        (name, size): values.expand(len(stability.MEASURES), -1, -1)
        for name in stability.SELECTORS
        for size in stability.SIZES
    }
    texts = [stability.text_means(tokens, maps, VOCABULARY)] * 3
    cells = [cell for kind in stability_report.SHOWN for cell in stability.summarise(kind, texts)]
    assert {cell["place"] for cell in cells} == {"inside", "across", "refresh", "difference"}
    for cell in cells:
        expected = 0 if cell["place"] == "difference" else cell["distance"] / 1000
        assert cell["mass"] == pytest.approx((expected, 0), abs=1e-3)
    counted = {(cell["place"], cell["distance"]): cell["pairs"] for cell in cells if "pairs" in cell}
    assert counted["inside", 1] + counted["across", 1] == 3 * (stability.WINDOW - 1)
    assert ("inside", 16) not in counted
    assert stability_report.table(cells, 100).row_count == 3 * 2 * 2 * 2 * 2
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"candidates": 100, "cells": cells}))
    assert "</svg>" in stability_report.plot(result).read_text()
