"""When the pass after a verification need not wait for the host, and what the host then takes for the lengths."""

from types import SimpleNamespace

import pytest
import torch

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.integration.unread import Unread
from sfi_sglang.scheduling.drafting import MOST_DRAFTS
from sfi_sglang.scheduling.exact_steps import plan_exact
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import DENSE_ROW
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.table import HostSelection

PROMPT, COMMITTED = 100, [105, 300]


def request(rid: str, exact: bool = True, **params) -> SimpleNamespace:
    options = SFIOptions(budget=16, recent=16, exact=True)
    state = RequestState(options, PROMPT, SegmentTracker(options, Vocabulary([])))
    state.selection = HostSelection(torch.zeros(1, 1, 0, dtype=torch.int64))
    plain = {"max_new_tokens": 500, "top_k": 1, "logit_bias": None, **params}
    own = {"sfi": state} if exact else {}
    return SimpleNamespace(rid=rid, grammar=None, return_logprob=False, sampling_params=SimpleNamespace(**plain), **own)


def verified(reqs: list[SimpleNamespace], drafts: int = 6, offer: int = 0) -> tuple[Unread, SimpleNamespace]:
    """After a pass in which the first request verified, and a dense one ran beside it."""
    unread = Unread(SimpleNamespace(blind_passes=True))
    state = reqs[0].sfi
    state.drafting.pending, state.drafting.offer = 0 if offer else drafts, offer
    row = plan_exact(state, COMMITTED[0] + 1, PassRoom(None), 400, together=True)
    assert row.verifies == (offer or drafts)
    unread.launched(reqs, COMMITTED, [row, DENSE_ROW])
    return unread, SimpleNamespace(reqs=reqs, spec_info=SimpleNamespace(future_indices=torch.tensor([1, 2])))


class Futures:
    """FutureMap's part in it: it waits, or the device alone gets the lengths."""

    needs_cpu_seq_lens = True

    def resolve(self, batch: SimpleNamespace) -> None:
        batch.waited, batch.seq_lens_cpu = self.needs_cpu_seq_lens, None


def resolve(unread: Unread, batch: SimpleNamespace) -> list[int] | None:
    futures = Futures()
    unread.resolve(futures, futures.resolve, batch)
    assert futures.needs_cpu_seq_lens and batch.waited != unread.blind
    return None if batch.seq_lens_cpu is None else batch.seq_lens_cpu.tolist()


def test_after_a_verification_the_host_takes_the_longest():
    unread, batch = verified([request("a"), request("b", exact=False)])
    assert resolve(unread, batch) == [105 + 6 + 1, 301] and batch.seq_lens_sum == 112 + 301
    assert unread.blind
    unread.launched(batch.reqs, [112, 301], [DENSE_ROW] * 2)
    assert resolve(unread, batch) is None and not unread.blind, "two blind passes in a row"


@pytest.mark.parametrize(
    "why", ["read", "a new request", "copies", "draws", "almost done", "flashinfer", "a full draft", "a first pass"]
)
def test_else_it_waits(why):
    params = {"top_k": 50} if why == "draws" else {"max_new_tokens": 13} if why == "almost done" else {}
    unread, batch = verified([request("a", **params), request("b", exact=False)], offer=8 if why == "copies" else 0)
    if why == "read":
        unread.read()
    elif why == "a new request":
        batch.reqs = [*batch.reqs, request("c")]
    elif why == "flashinfer":
        unread.planner.blind_passes = False
    elif why == "a full draft":
        batch.reqs[0].sfi.drafting.pending = MOST_DRAFTS - 1
    elif why == "a first pass":
        batch.spec_info = None
    assert resolve(unread, batch) is None and not unread.blind
