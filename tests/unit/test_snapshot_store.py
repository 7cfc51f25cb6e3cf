"""The store of memories that outlive their request: keys, longest prefix, bytes, eviction."""

from array import array

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.sampling.sampling_params import SamplingParams

from sfi_sglang.selection.snapshot_store import BLOCK, ENTRY_BYTES, Snapshot, SnapshotStore, block_hashes, namespace

MEGABYTE = 1 << 20


def snapshot(tokens, positions=8, covered=None, space="") -> Snapshot:
    blocks = block_hashes(tokens, space)
    return Snapshot(torch.zeros(2, 3, positions, dtype=torch.int32), 0, covered or len(tokens), blocks)


def tokens(*branches: int) -> list[int]:
    """One block of equal ids per branch number."""
    return [branch for branch in branches for _ in range(BLOCK)]


def test_hashes_cover_whole_blocks_and_grow_without_rehashing():
    text = list(range(200))
    assert len(block_hashes(text, "")) == 3
    assert block_hashes(text, "", known=block_hashes(text[:130], "")) == block_hashes(text, "")
    assert block_hashes(text, "")[:1] == block_hashes(text[:64] + [9] * 100, "")[:1]
    assert not set(block_hashes(text, "a")) & set(block_hashes(text, "b"))
    assert block_hashes(text[:63], "") == ()


def test_a_longer_snapshot_serves_a_shorter_match():
    store = SnapshotStore(MEGABYTE)
    kept = snapshot(tokens(1, 2, 3, 4), covered=230)
    store.publish(kept)
    found = store.lookup(block_hashes(tokens(1, 2, 7), ""))
    assert found.snapshot is kept, "shared by reference"
    assert (found.tokens, found.covered) == (128, 128)
    assert store.lookup(block_hashes(tokens(1, 2, 3, 4, 5), "")).covered == 230
    assert store.lookup(block_hashes(tokens(2, 1), "")) is None
    assert (store.stats.lookups, store.stats.hits) == (3, 2)


def test_a_divergence_inside_a_block_shares_only_the_blocks_before_it():
    store = SnapshotStore(MEGABYTE)
    store.publish(snapshot(tokens(1, 2, 3)))
    assert store.lookup(block_hashes([*tokens(1), *([2] * 40), *([9] * 100)], "")).tokens == 64


def test_of_two_snapshots_through_a_block_the_shorter_is_taken():
    store = SnapshotStore(MEGABYTE)
    short, long = snapshot(tokens(1, 2)), snapshot(tokens(1, 2, 3))
    store.publish(long)
    store.publish(short)
    assert store.lookup(block_hashes(tokens(1, 2, 9), "")).snapshot is short
    assert store.lookup(block_hashes(tokens(1, 2, 3), "")).snapshot is long


key = st.none() | st.text("ab',()N \\", min_size=1, max_size=5) | st.text(st.characters(), min_size=1, max_size=5)
tenant = st.fixed_dictionaries({"extra_key": key, "cache_salt": key, "lora_id": key})


def space(tenant) -> str:
    """Of SGLang's own request object, which joins an extra key and an adapter's id without a mark between them."""
    return namespace(Req("rid", "", array("q", [1]), SamplingParams(), **tenant))


def cut(text: str, at: int) -> dict[str, str | None]:
    return {"extra_key": text[:at] or None, "cache_salt": None, "lora_id": text[at:] or None}


@given(tenant, tenant)
@example(cut("abc", 1), cut("abc", 2))
@example(cut("abc", 3), cut("abc", 1))
def test_tenants_share_a_memory_only_if_all_their_keys_are_the_same(one, other):
    store = SnapshotStore(MEGABYTE)
    store.publish(snapshot(tokens(1, 2), space=space(one)))
    assert store.lookup(block_hashes(tokens(1, 2), space(dict(one)))).tokens == 2 * BLOCK
    found = store.lookup(block_hashes(tokens(1, 2), space(other)))
    assert (found is None) == (one != other)


def test_least_recently_used_leaves_first():
    size = snapshot(tokens(1)).nbytes
    store = SnapshotStore(2 * size)
    for branch in (1, 2):
        store.publish(snapshot(tokens(branch)))
    assert store.lookup(block_hashes(tokens(1), ""))
    store.publish(snapshot(tokens(3)))
    assert store.lookup(block_hashes(tokens(2), "")) is None
    assert store.lookup(block_hashes(tokens(1), "")) and store.lookup(block_hashes(tokens(3), ""))
    assert store.stats.evictions == 1


def test_too_large_or_too_short_is_not_kept():
    store = SnapshotStore(100)
    store.publish(snapshot(tokens(1)))
    store.publish(snapshot([1, 2, 3]))
    assert len(store) == 0 and store.nbytes == 0


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(0, 40)), max_size=30),
    st.integers(1, 4),
)
def test_bytes_match_the_contents_and_never_exceed_the_capacity(publications, room):
    store = SnapshotStore(room * 1000)
    for branches, positions in publications:
        store.publish(snapshot(tokens(*branches), positions=positions))
        assert store.nbytes <= store.capacity
        assert store.nbytes == sum(kept.nbytes for kept in store._snapshots.values())
    for branches, _ in publications:
        found = store.lookup(block_hashes(tokens(*branches), ""))
        if found:
            shared = block_hashes(tokens(*branches), "")[: found.tokens // BLOCK]
            assert found.snapshot.blocks[: len(shared)] == shared
    store.clear()
    assert store.nbytes == 0 and len(store) == 0 and not store._through


def test_nbytes_counts_the_index():
    assert snapshot(tokens(1, 2), positions=10).nbytes == 2 * 3 * 10 * 4 + 2 * ENTRY_BYTES
    assert SnapshotStore(5).lookup([]) is None


@pytest.mark.parametrize("count", [1, 64, 65, 640])
def test_hashes_depend_on_every_token(count):
    base = list(range(count))
    changed = [*base]
    changed[0] += 1
    pairs = zip(block_hashes(base, ""), block_hashes(changed, ""), strict=True)
    assert all(a != b for a, b in pairs)
