"""Ids through the cache are those of the text tokenised whole, whatever the tokenizer, the text and what was before."""

import argparse
import random
import threading
import tracemalloc
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang.srt.entrypoints.openai.parallel_prompt_encode import parallel_prompt_encode

from sfi_sglang.api.settings import Settings
from sfi_sglang.integration import server_args, token_cache
from sfi_sglang.integration.prompt_tokens import PromptTokens
from sfi_sglang.integration.token_cache import PieceStore, TokenCache
from tests.made_tokenizers import CALL, CODE, EXACT, SPECIAL, made

NAMES = [*EXACT, "embedded"]
PLENTY = 64 << 20
PLAIN = {"add_special_tokens": False}
EMBEDDED = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<reponame>"]
parts = st.one_of(
    st.sampled_from([*SPECIAL, *EMBEDDED, *EMBEDDED]),
    st.sampled_from(
        [CODE, CALL, "<|im_", "end|>", "|>", "<", " ", "  \n", "\t", "user\n", "harbor master", "́", "ﬁ", "\0"]
    ),
    st.text(max_size=12),
)
texts = st.lists(parts, max_size=14).map("".join)
every_tokenizer = pytest.mark.parametrize("name", NAMES)


def encoded(cache, name, text, options=PLAIN, capacity=PLENTY):
    return cache.encode(parallel_prompt_encode, made(name), text, options, capacity)


def whole(name, text, options=PLAIN):
    return made(name).encode(text, **options)


@every_tokenizer
@settings(max_examples=150)
@given(turns=st.lists(texts, min_size=1, max_size=4), capacity=st.sampled_from([PLENTY, 2000, 400, 1]))
def test_ids_are_those_of_the_whole_text(name, turns, capacity):
    """Of a chat that grows, then of its parts in another order, with room for all, some or no pieces."""
    cache, text = TokenCache(), ""
    for turn in turns:
        text += turn
        assert encoded(cache, name, text, capacity=capacity).ids == whole(name, text)
    for other in ("".join(reversed(turns)), turns[-1], text):
        assert encoded(cache, name, other, capacity=capacity).ids == whole(name, other)
    assert cache.nbytes() <= capacity


@every_tokenizer
@settings(max_examples=30)
@given(text=texts)
def test_ids_with_the_tokens_around_a_text(name, text):
    """The default of `encode`: of tokenizers that add some, these texts are left to SGLang."""
    cache = TokenCache()
    for _ in range(2):
        assert encoded(cache, name, text, None).ids == whole(name, text, {})


@every_tokenizer
def test_a_turn_takes_what_it_has_seen(name):
    cache = TokenCache()
    first = f"<|im_start|>user\n{CODE * 5}<|im_end|>\n<|im_start|>assistant\n"
    second = f"{first}{CALL}<|im_end|>\n<|im_start|>user\nand now?<|im_end|>\n"
    kept = len(encoded(cache, name, first).ids)
    again = encoded(cache, name, second)
    assert again.ids == whole(name, second)
    new = (f"\nassistant\n{CALL}<|im_end|>", "user\nand now?<|im_end|>", "\n")
    assert again.reused >= len(again.ids) - sum(len(whole(name, piece)) for piece in new) > kept / 2
    assert encoded(cache, name, second).reused == len(again.ids)


@every_tokenizer
def test_a_template_that_drops_earlier_reasoning(name):
    """Only the rewritten messages are new: what stands behind them is found again, though its place has moved."""
    cache = TokenCache()

    def said(i, thought=""):
        return f"user\n{CODE}{i}<|im_end|>", f"assistant\n{thought}{CALL}{i}<|im_end|>"

    for last in range(5):
        pieces = [piece for i in range(last) for piece in said(i)] + [*said(last, f"<think>{CODE * 2}{last}</think>")]
        found = encoded(cache, name, "".join(pieces))
        assert found.ids == whole(name, "".join(pieces))
    kept, new = pieces[:-3], pieces[-3:]  # the reasoning of the last but one is gone, the last two were never seen
    assert found.reused == sum(len(whole(name, piece)) for piece in kept) > len(found.ids) / 2
    assert len(found.ids) - found.reused == sum(len(whole(name, piece)) for piece in new)


def test_a_long_text_is_cut_by_sglang_and_short_ones_go_together(monkeypatch):
    calls = []

    def original(tokenizer, text, options=None):
        calls.append(len(text))
        return parallel_prompt_encode(tokenizer, text, options)

    rng = random.Random(0)
    texts = [CODE * count for count in (1, 200, 2, 3)]
    text = "<|im_end|>".join(f"{rng.random()}{each}" for each in texts)
    found = TokenCache().encode(original, made("bytes"), text, PLAIN, PLENTY)
    assert found.ids == whole("bytes", text) and len(calls) == 1 and calls[0] > len(CODE) * 200
    even = "<|im_end|>".join(f"{rng.random()}{CODE * 50}" for _ in range(4))
    assert TokenCache().encode(original, made("bytes"), even, PLAIN, PLENTY).ids == whole("bytes", even)
    assert len(calls) == 1


@every_tokenizer
@pytest.mark.parametrize("text", ["half \ud83d a character", "<|im_end|>\udfff", 7, None, ""])
def test_what_the_tokenizer_refuses_is_refused_alike(name, text):
    def outcome(encode):
        try:
            return list(encode())
        except Exception as error:
            return type(error), str(error)

    tokenizer = made(name)
    assert outcome(lambda: encoded(TokenCache(), name, text).ids) == outcome(lambda: tokenizer.encode(text, **PLAIN))


def test_the_longest_unused_goes_first_and_bytes_are_bounded():
    store = PieceStore(3 * (token_cache.ENTRY_BYTES + 40))
    ids = {bytes([i]): array("i", range(10)) for i in range(4)}
    for i in range(3):
        store.put({bytes([i]): ids[bytes([i])]})
    assert store.get([b"\0"]) == {b"\0": ids[b"\0"]}  # now the second one is the longest unused
    store.put({b"\3": ids[b"\3"]})
    assert set(store.get(list(ids))) == {b"\0", b"\2", b"\3"} and store.nbytes == store.capacity
    store.put({b"\3": ids[b"\3"], b"large": array("i", range(1000))})
    assert len(store) == 3 and store.nbytes == store.capacity


@pytest.mark.parametrize("length", [1, 40, 2000])
def test_an_entry_is_counted_with_all_its_memory(length):
    store, count = PieceStore(1 << 30), 20_000 // length + 2000
    tracemalloc.start()
    try:
        for i in range(count):
            store.put({i.to_bytes(32, "big"): array("i", list(range(length)))})
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * store.nbytes < taken <= 1.02 * store.nbytes


def test_threads_share_it():
    """As SGLang's thread pool does; a small store, so that they evict each other's pieces."""
    cache, wrong, rng = TokenCache(), [], random.Random(1)
    chats = ["".join(rng.choice([*EMBEDDED, CODE, CALL, str(rng.random())]) for _ in range(60)) for _ in range(12)]
    expected = {chat: whole("embedded", chat) for chat in chats}

    def work(seed):
        mine = random.Random(seed)
        for _ in range(40):
            chat = mine.choice(chats)
            if encoded(cache, "embedded", chat, capacity=20_000).ids != expected[chat]:
                wrong.append(chat)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and 0 < cache.nbytes() <= 20_000


def test_the_flag_switches_it_off():
    parser = argparse.ArgumentParser()
    server_args.add_arguments(parser, Settings())
    settings = server_args.from_arguments(parser.parse_args(["--sfi-tokenizer-cache-mb", "0"]), Settings())
    prompts, seen = PromptTokens(lambda: settings.tokenizer_cache_bytes), []

    def original(*given):
        seen.append(given)
        return [5]

    assert prompts.encode_prompt(original, "tokenizer", CODE, PLAIN) == [5]
    assert seen == [("tokenizer", CODE, PLAIN)] and prompts.cache.nbytes() == 0
