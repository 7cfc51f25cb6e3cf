"""Rows of `exact` requests that choose by rules: which they are, what grammars forbid there, and their
log-probabilities in SGLang's layout."""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.constrained.xgrammar_backend import XGrammarGrammar, XGrammarGrammarBackend
from transformers import AutoTokenizer

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.integration import logprobs
from sfi_sglang.integration.choices import Choices, Place, places_of, walk
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import DENSE_ROW, ON_DEVICE, Repair, RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.serving.embedded_model import embedded_model

LENGTH = 40


def request(exact: bool, **params) -> tuple[SimpleNamespace, RequestState]:
    options = SFIOptions(exact=exact)
    plain = {"top_k": 1, "logit_bias": None, "temperature": 1.0, "top_p": 1.0, "min_p": 0.0}
    asked = SimpleNamespace(top_logprobs_num=params.pop("top", 0), token_ids_logprob=None)
    req = SimpleNamespace(
        grammar=params.pop("grammar", None),
        return_logprob=params.pop("return_logprob", False),
        logprob=asked,
        sampling_params=SimpleNamespace(**{**plain, **params}),
    )
    return req, RequestState(options, 8, SegmentTracker(options, Vocabulary([])))


def verifying(state: RequestState, drafts: int) -> RowPlan:
    repair = Repair(LENGTH - 1, (ON_DEVICE,) * drafts, (ON_DEVICE,) * drafts)
    return RowPlan(Step.SLOW, LENGTH + drafts, state, repair=repair, settled=LENGTH)


def test_rows_that_choose_here_are_the_requests_own_and_then_those_that_verify():
    (plain, one), (drawing, two), (lossy, three), (drafting, four) = (
        request(True), request(True, top_k=20), request(False, top_k=20), request(True, top_k=1 << 30),
    )  # fmt: skip
    rows = [
        verifying(one, 2),
        verifying(two, 2),
        RowPlan(Step.SLOW, LENGTH, three, repair=Repair(30, (1, 2, 3), (2, 3, 4))),
        RowPlan(Step.FAST, LENGTH + 1, four, settled=LENGTH, pending=1),
        DENSE_ROW,
    ]
    assert places_of([plain, drawing, lossy, drafting, lossy], rows) == [
        Place(1, 1, LENGTH + 2, 2), Place(3, 3, LENGTH + 1, 1), Place(7, 1, LENGTH, 0), Place(8, 1, LENGTH + 1, 1),
    ]  # fmt: skip
    assert Choices.of([plain, lossy], [rows[0], rows[2]]) is None


@pytest.fixture(scope="module")
def grammars():
    tokenizer = AutoTokenizer.from_pretrained(embedded_model())
    backend = XGrammarGrammarBackend(tokenizer, vocab_size=len(tokenizer))
    return tokenizer, lambda regex: backend.dispatch_regex(regex)


def allowed(grammar: XGrammarGrammar, words: int) -> torch.Tensor:
    mask = grammar.allocate_vocab_mask(words, 1, "cpu")
    grammar.fill_vocab_mask(mask, 0)
    return mask[0]


def test_a_grammar_is_asked_after_each_number_of_drafts_and_stays_where_it_was(grammars):
    tokenizer, made = grammars
    ids = tokenizer.encode('[{"a": 12}, {"b": 3}]')
    pattern = r'\[\{"[a-z]": [0-9]+\}, \{"[a-z]": [0-9]+\}\]'
    grammar, words = made(pattern), len(tokenizer)
    grammar.accept_token(ids[0])
    before = allowed(grammar, words)
    mask = grammar.allocate_vocab_mask(words, len(ids), "cpu")
    walk(grammar, ids[1:], {count: count for count in range(len(ids))}, mask)
    assert torch.equal(allowed(grammar, words), before)
    fresh = made(pattern)
    for count, token in enumerate(ids):
        fresh.accept_token(token)
        if not fresh.is_terminated():
            assert torch.equal(mask[count], allowed(fresh, words)), count
    walk(grammar, ids[1:], {3: 0}, single := grammar.allocate_vocab_mask(words, 1, "cpu"))
    assert torch.equal(single[0], mask[3])


def test_a_draft_that_the_grammar_forbids_and_its_end_stop_the_walk(grammars):
    tokenizer, made = grammars
    words, end = len(tokenizer), tokenizer.eos_token_id
    digit, letter = (tokenizer.encode(text)[0] for text in "7x")
    for drafts in ([letter, digit], [end, digit]):
        grammar = made("[0-9]+")
        grammar.accept_token(digit)
        before = allowed(grammar, words)
        mask = grammar.allocate_vocab_mask(words, 3, "cpu")
        walk(grammar, drafts, {0: 0, 1: 1, 2: 2}, mask)
        assert torch.equal(mask[0], before) and (mask[2] == -1).all(), "nothing is said of what cannot pass"
        assert torch.equal(allowed(grammar, words), before) and not grammar.is_terminated()


def test_an_error_ends_the_requests_that_choose_and_nothing_else():
    exact, state = request(True, grammar=object())
    other, _ = request(False)
    choices = Choices.of([exact, other], [RowPlan(Step.SLOW, LENGTH, state, settled=LENGTH), DENSE_ROW])
    choices.choose(torch.zeros(2, 16), SimpleNamespace(logit_bias=None, vocab_size=16), widened=False)
    assert "sfi.exact" in exact.to_finish.message and not hasattr(other, "to_finish")
    assert choices.own(torch.tensor([3, 4])).tolist() == [3, 4]


@pytest.mark.parametrize("top", [0, 2])
def test_logprobs_of_what_passed_stand_where_sglang_looks(top):
    """Of request 1, which verifies two drafts; request 0 is dense."""
    dense, _ = request(False)
    exact, state = request(True, return_logprob=True, top=top)
    rows = [DENSE_ROW, verifying(state, 2)]
    choices = Choices.of([dense, exact], rows)
    logits = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    choices.choose(logits, SimpleNamespace(logit_bias=None), widened=True)
    best = torch.log_softmax(logits, -1).sort(-1, descending=True)
    assert choices.own(torch.tensor([5, 99])).tolist() == [5, best.indices[1, 0]]
    assert choices.added(torch.zeros(2, dtype=torch.int64)).tolist() == best.indices[2:, 0].tolist()
    vals = [torch.empty(0), torch.zeros(top)] if top else None
    output = SimpleNamespace(
        next_token_logprobs=torch.tensor([-0.5, -9.0]), next_token_top_logprobs_val=vals,
        next_token_top_logprobs_idx=vals, next_token_token_ids_logprobs_val=None,
        next_token_token_ids_logprobs_idx=None,
    )  # fmt: skip
    logprobs.put(output, choices, width=3)
    values = output.next_token_logprobs
    assert values.shape == (2, 3) and values[0, 0] == -0.5
    assert torch.allclose(values[1], best.values[[2, 3, 1], 0])
    if top:
        assert torch.allclose(torch.stack(output.next_token_top_logprobs_val[3:]), best.values[[2, 3, 1], :2])
        assert torch.equal(torch.stack(output.next_token_top_logprobs_idx[3:]), best.indices[[2, 3, 1], :2])
