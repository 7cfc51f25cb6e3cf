"""Drafts found in the context: the longest match of its end, the latest of these, and when they are worth it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.scheduling.copying import LONGEST, SHORTEST, WORTH, Copying


def slowly(ids: list[int], most: int) -> list[int]:
    """By comparing at every place."""
    best, at = 0, 0
    for end in range(len(ids) - 1):
        length = 0
        while length < min(end + 1, LONGEST) and ids[end - length] == ids[-1 - length]:
            length += 1
        if length >= max(best, 1):
            best, at = length, end
    found = ids[at + 1 : at + 1 + most]
    return found if best >= SHORTEST and len(found) >= WORTH else []


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 15), st.lists(st.integers(0, 60)))
def test_finds_what_followed_the_latest_of_the_longest_matches(ids, most, cuts):
    first, second = sorted([*cuts, 0, 0])[:2]
    parts = [ids[:first], ids[first:second], ids[second:]]
    assert Copying().find(parts, most) == slowly(ids, most)


def test_a_context_that_grows_is_read_once_and_found_alike():
    rng, copying = random.Random(1), Copying()
    prompt = [rng.randrange(6) for _ in range(300)]
    outputs: list[int] = []
    found = []
    for _ in range(80):
        new = [rng.randrange(6) for _ in range(rng.randrange(1, 9))]
        found.append(copying.find([prompt, outputs, new], 15))
        assert found[-1] == slowly(prompt + outputs + new, 15)
        outputs = outputs + new
    assert any(found) and copying.known == 300 + len(outputs)


def test_copies_that_fail_need_longer_matches_until_they_pass_again():
    copying, before = Copying(), list(range(100))
    short, long = before + before[10 : 10 + SHORTEST], before + before[10 : 10 + LONGEST]
    assert Copying().find([short], 5) == before[10 + SHORTEST : 15 + SHORTEST]
    for _ in range(3):
        copying.verified(0)
    assert not copying.find([short], 5)
    again = Copying(gain=copying.gain)
    assert again.find([long], 5) == before[10 + LONGEST : 15 + LONGEST]
    for _ in range(3):
        again.verified(15)
    assert Copying(gain=again.gain).find([short], 5)
