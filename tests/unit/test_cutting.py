"""How wide rows are cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.attention.cutting import splits_of


@given(
    rows=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 4)), min_size=1, max_size=8),
    wave=st.integers(1, 40),
    most=st.sampled_from([1, 3, 16, 64]),
)
def test_no_other_size_of_pieces_is_done_sooner(rows, wave, most):
    lengths, tiles = zip(*rows, strict=True)
    room = 2 * max(wave, sum(tiles))
    counts = splits_of(lengths, tiles, wave, room, most)
    assert sum(n * count for n, count in zip(tiles, counts, strict=True)) <= room
    assert all(1 <= count <= most for count in counts)

    def turns(size: int) -> float:
        """Blocks that the GPU takes one after the other."""
        pieces = sum(n * -(-length // size) for length, n in rows)
        fits = pieces <= room and size * most >= max(lengths)
        return -(-pieces // wave) * size if fits else float("inf")

    size = max(-(-length // count) for length, count in zip(lengths, counts, strict=True))
    assert turns(size) == min(map(turns, range(1, max(lengths) + 1)))


def test_rows_of_one_length_are_cut_alike():
    assert splits_of([512] * 8, [1] * 8, wave=33, room=66, most=64) == [4] * 8  # 8192 tokens each, 32 pieces


def test_a_long_row_among_many_short_ones_gets_splits_yet():
    (*_, long) = splits_of([8] * 7 + [2048], [4] * 8, wave=33, room=66, most=64)
    assert long >= 9
