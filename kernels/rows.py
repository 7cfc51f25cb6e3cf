"""What the host tells the kernels about each row of a batch: one int32 table, copied to the device before a pass.

A dense row is one whose sink is the whole context; so one kernel serves dense, fast and slow rows.
"""

import triton.language as tl

from sfi_sglang.selection.stages import STAGES as ALL_STAGES

SINK = tl.constexpr(0)  # leading visible tokens
COUNT = tl.constexpr(1)  # selected tokens
RECENT = tl.constexpr(2)  # first recent position
LENGTH = tl.constexpr(3)  # context tokens, the new one included
SPLIT = tl.constexpr(4)  # tokens per split
SELECTION = tl.constexpr(5)  # line of the selection table
EVIDENCE_AT = tl.constexpr(6)  # where the evidence of a slow row goes, in candidates; -1: not slow
FIRST = tl.constexpr(7)  # position of the first candidate
CANDIDATES = tl.constexpr(8)  # how many
KEEP = tl.constexpr(9)  # how many to select
STAGES = tl.constexpr(10)  # bit mask of Selector stages
OLD_COUNT = tl.constexpr(11)  # of a slow row's old selection: selected tokens
OLD_RECENT = tl.constexpr(12)  # and first recent position; 0: there was no old selection
OBSERVED = tl.constexpr(13)  # slow steps of this request whose coverage is in its sum
WIDE = tl.constexpr(14)  # queries of a wide row, itself the last; 0: one; -1: a query of another row
TAIL = tl.constexpr(15)  # of a wide row, the row of its first query
PARTS = tl.constexpr(16)  # the partial result of the row's first split; those of the others follow
COLUMNS = 17

AGREEMENT, PRIOR, NMS, EXCLUSION, SPAN = (tl.constexpr(stage.bit) for stage in ALL_STAGES)
