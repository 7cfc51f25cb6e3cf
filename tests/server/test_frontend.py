"""`sfi=` in SGLang's frontend language, against the real server."""

import pytest
import sglang as sgl

import sfi_sglang.frontend  # noqa: F401  (adds sfi= to sgl.gen)
from tests.helpers import story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
LONG = story(60)  # about 1000 tokens


@sgl.function
def two_answers(s, text, first):
    s += text + sgl.gen("first", max_tokens=12, ignore_eos=True, sfi=first)
    s += "\nAgain:" + sgl.gen("second", max_tokens=12, ignore_eos=True)


def test_frontend_language(server):
    backend = sgl.RuntimeEndpoint(server)
    state = two_answers.run(text=LONG, first=SMALL, temperature=0, backend=backend)
    assert state.get_meta_info("first")["sfi"]["fast_steps"] > 0
    assert "sfi" not in state.get_meta_info("second")


@sgl.function
def one_answer(s, text):
    s += text + sgl.gen("answer", max_tokens=12, ignore_eos=True)


def test_frontend_program_run_and_batch(server):
    backend = sgl.RuntimeEndpoint(server)
    state = one_answer.run(text=LONG, temperature=0, backend=backend, sfi=SMALL)
    assert state.get_meta_info("answer")["sfi"]["fast_steps"] > 0
    batch = one_answer.run_batch([{"text": LONG}, {"text": story(30)}], temperature=0, backend=backend, sfi=SMALL)
    assert all(state.get_meta_info("answer")["sfi"]["fast_steps"] > 0 for state in batch)
    assert "sfi" not in one_answer.run(text=LONG, temperature=0, backend=backend).get_meta_info("answer")
    with pytest.raises(ValueError, match=r"sfi\.budget"):
        one_answer.run(text=LONG, backend=backend, sfi={"budget": 0})
    with pytest.raises(ValueError, match="choices"):
        sgl.gen("x", choices=["a", "b"], sfi=True)
