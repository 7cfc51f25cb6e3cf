"""Results of trajectories that never ran, for the tests of the benchmark's report."""

import numpy as np

from sfi_sglang.client.call import Call
from sfi_sglang.trajectory.records import Header, Results, Run

HEADER = Header(
    workload="made",
    history="fixed",
    arrivals="closed",
    cache="cold",
    loads=[1, 4],
    repeats=2,
    settings={"sfi": {"budget": 512}},
    provenance={"command": "sfi-bench run", "machine": "a machine", "date": "2026-01-01", "versions": {"sglang": "1"}},
)


def made(mode="dense", load=1, trajectory="a", repeat=0, itl=0.01, turns=3, tokens=20, delay=0.5, start=0.0, **more):
    """Prompts double every turn from 1024 tokens; tokens come `itl` seconds apart, every tenth after twice as long."""
    calls, now, noise = [], start, np.random.default_rng([load, repeat, *trajectory.encode()])
    for turn in range(turns):
        now += delay
        gaps = itl * noise.uniform(0.9, 1.1, tokens - 1) * np.where(np.arange(1, tokens) % 10 == 0, 2, 1)
        arrivals = (0.1 * (turn + 1) + np.concatenate([[0], np.cumsum(gaps)])).tolist()
        report = {"slow_steps": 1, "fast_steps": tokens - 2, "inherited_tokens": 7, "coverage": (0.9, None)[turn % 2]}
        sfi = report if mode == "sfi" else None
        prompt = 1024 * 2**turn
        reported = {"prompt_tokens": prompt, "output_tokens": tokens, "cached_tokens": prompt // 2, "sfi": sfi}
        calls.append(
            Call(turn=turn, start=now, end=now + arrivals[-1] + 0.01, arrivals=arrivals, delay=delay, **reported)
        )
        now = calls[-1].end + 0.02
    return Run(mode=mode, load=load, repeat=repeat, trajectory=trajectory, start=start, end=now, calls=calls, **more)


def idle(run):
    """SFI had no fast step in any call."""
    reports = [call.sfi and {**call.sfi, "slow_steps": 19, "fast_steps": 0, "coverage": None} for call in run.calls]
    calls = [call.model_copy(update={"sfi": report}) for call, report in zip(run.calls, reports, strict=True)]
    return run.model_copy(update={"calls": calls})


def both(names="abcde", loads=(1, 4), dense=0.02, sfi=0.01, repeats=2):
    return [
        made(mode, load, name, repeat, itl=itl)
        for load in loads
        for repeat in range(repeats)
        for name in names
        for mode, itl in (("dense", dense), ("sfi", sfi))
    ]


def results(runs, **header):
    return Results(header=HEADER.model_copy(update=header), runs=runs)


def failing(run, **changes):
    return run.model_copy(update={"error": "HTTP 500", **changes})
