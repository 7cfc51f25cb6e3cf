"""`sfi-sglang eval` before its first question: what a server takes, and what is missing here."""

import sys

import pytest

from sfi_sglang.cli import eval_all, evals
from sfi_sglang.cli.extra import explained
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.generate import Refusal
from sfi_sglang.client.token_count import estimate
from sfi_sglang.evals import accepted
from sfi_sglang.evals.jobs import Target, agent_runs, answers, coverages
from sfi_sglang.evals.texts import Text
from sfi_sglang.evals.variants import Sight, Variant, variants

NOWHERE = "http://127.0.0.1:9"
DENSE, SFI, ORACLE = (
    Variant("dense", None, ""),
    Variant("sfi", {"budget": 9}, ""),
    Variant("oracle", {"fast": "oracle"}, ""),
)


def served(monkeypatch, refuse, status=400, report=True):
    """A server that answers all but `refuse`, values of `sfi` with its reasons. report: it knows SFI."""

    def generate(url, prompt, tokens, sfi):
        if reason := refuse.get(str(sfi)):
            raise Refusal(f"{url}/generate", status, reason)
        return {"meta_info": {"sfi": {}} if sfi and report else {}}

    monkeypatch.setattr(accepted, "generate", generate)


def test_a_control_that_is_refused_is_left_out_with_the_reason(monkeypatch):
    served(monkeypatch, {str(ORACLE.sfi): "sfi.fast: only torch"})
    assert accepted.accepted(NOWHERE, [DENSE, SFI, ORACLE]) == ([DENSE, SFI], {"oracle": "sfi.fast: only torch"})


@pytest.mark.parametrize(
    ("refused", "status", "reason"),
    [
        (SFI.sfi, 400, "sfi: not with sessions"),
        (ORACLE.sfi, 400, "no memory"),
        (ORACLE.sfi, 500, "sfi: broken"),
        (False, 400, "sfi"),
    ],
)
def test_any_other_refusal_ends_the_run_in_the_servers_words(monkeypatch, refused, status, reason):
    served(monkeypatch, {str(refused): reason}, status)
    with pytest.raises(Refusal, match=f"/generate refused: {reason}"):
        accepted.accepted(NOWHERE, [DENSE, SFI, ORACLE])


def test_a_server_without_sfi_is_not_taken_for_dense_sfi(monkeypatch):
    served(monkeypatch, {}, report=False)
    assert accepted.accepted(NOWHERE, [DENSE]) == ([DENSE], {})
    with pytest.raises(RuntimeError, match="knows no SFI"):
        accepted.accepted(NOWHERE, [DENSE, SFI])


def test_without_the_extra_agents_are_refused_before_a_server_starts(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openai", None)
    for name in ("sfi_sglang.evals.agents", "sfi_sglang.client.openai_stream"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(RuntimeError, match=r'openai is missing: pip install "sfi-sglang\[bench\]"'):
        explained(lambda: evals.agents(server=NOWHERE))()
    assert eval_all.agent_runs(1) == []
    assert 'left out: agents (openai is missing: pip install "sfi-sglang[bench]")' in capsys.readouterr().out


def test_jobs_ask_what_their_command_says():
    target = Target(Endpoint(NOWHERE, "m"), estimate(), variants(Sight(64), "controls"), Sight(64), "controls", 2)
    task = evals.TASKS["copy"]
    job = answers(target, task, [500, 900], 2, "held-out")
    assert len(job.questions) == 2 * 2 * len(task.kinds) and {item.length for item in job.questions} == {500, 900}
    tuning = answers(target, task, [500], 2, "tuning")
    assert {item.seed for item in job.questions}.isdisjoint(item.seed for item in tuning.questions)
    assert job.identity["variants"]["sfi"] == {"budget": 64, "recent": 1024} and job.identity["trials"] == 2
    labels = {variant.label for variant in coverages(target, [Text("code", 9, 1, [1])], "").variants}
    assert "sfi" in labels and labels.isdisjoint({"dense", "sink+recent", "oracle", "pages"})
    runs = eval_all.agent_runs(1)
    assert [run.kind for run in runs] == ["repo", "data", "research", "fork-join", "logbook"]
    assert [variant.label for variant in agent_runs(target, runs, None).variants] == ["dense", "sfi"]
