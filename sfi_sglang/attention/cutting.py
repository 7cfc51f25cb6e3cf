"""Into how many splits the contexts of wide rows are cut, so that the GPU is done with all of them soonest."""

from bisect import bisect_left
from collections.abc import Sequence


def splits_of(lengths: Sequence[int], tiles: Sequence[int], wave: int, room: int, most: int) -> list[int]:
    """Of each wide row. lengths: blocks of tokens of their contexts; tiles: of their queries, each of which reads every
    split. wave: pieces, a tile and a split each, that run at a time. room: for pieces, no fewer than there are tiles.
    most: splits of a row.
    """
    sizes = range(-(-max(lengths) // most), max(lengths) + 1)  # blocks of the largest piece
    best = None
    for pieces in [*range(wave, room, wave), room]:
        at = bisect_left(sizes, True, key=lambda size: _pieces(lengths, tiles, size) <= pieces)
        if at == len(sizes):  # even whole rows are more
            continue
        time = -(-_pieces(lengths, tiles, sizes[at]) // wave) * sizes[at]
        if best is None or time < best[0]:
            best = time, sizes[at]
    assert best is not None, "more tiles than there is room for"
    return [-(-length // best[1]) for length in lengths]


def _pieces(lengths: Sequence[int], tiles: Sequence[int], size: int) -> int:
    return sum(count * -(-length // size) for length, count in zip(lengths, tiles, strict=True))
