"""The Triton backend in a real server, under the interpreter, beside the torch backend."""

import pytest

from sfi_sglang.serving.server import running_server
from tests.helpers import GPU, probe_env
from tests.small_model import FLAGS, answers, assert_same

pytestmark = [pytest.mark.server, pytest.mark.skipif(GPU, reason="interprets the kernels on a CPU")]


def test_triton_and_torch_agree(small_answers, tmp_path):
    """Also on page size: 16 here, 1 there."""
    flags = [*FLAGS, "--sfi-executor", "triton", "--page-size", "16"]
    with running_server(flags=flags, env=probe_env(traced=False), log=tmp_path / "server.log") as url:
        replies = answers(url)
    for name, reply in replies.items():
        assert_same(reply, small_answers[name])
        mine, theirs = (r["meta_info"].get("sfi", {}).get("coverage") for r in (reply, small_answers[name]))
        assert mine == (theirs if theirs is None else pytest.approx(theirs, abs=1e-3))
    assert replies["span"]["meta_info"]["sfi"]["coverage"] is not None
