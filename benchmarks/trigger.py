"""Which trigger keeps fast steps nearest to dense attention? Agreement, share of slow steps and recall on real text.

    python -m benchmarks.trigger --out benchmarks/results/trigger_cpu.json

The embedded model goes on greedily from documents (those of benchmarks/segments.py). Rules: `armed`, an end of sentence
before `min_gap` makes a slow step once `min_gap` is reached; `dropped`, it is forgotten and the next one counts
(dropped_enders/).
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from rich.table import Table

from benchmarks.segments import documents
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

PLUGIN = str(Path(__file__).parent / "dropped_enders")
RULES = {"dropped": [64], "armed": [16, 24, 32, 48, 64]}  # max_segment
BYTES = 8  # of a token, more than it mostly has: shorter documents are not tried


def prompts(count: int, context: int) -> dict[str, list[list[int]]]:
    """Of each kind, the first `context` tokens of `count` documents, spread over those that are long enough."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model())
    found = {}
    for kind, paths in documents().items():
        long = [path for path in paths if path.stat().st_size > BYTES * context]
        chosen = long[:: max(1, len(long) // count)][:count]
        texts = [path.read_text(errors="replace")[: BYTES * context] for path in chosen]
        found[kind] = [tokenizer.encode(text, add_special_tokens=False)[:context] for text in texts]
    return found


def reports(
    url: str, inputs: list[list[int]], options: list[dict[str, Any]], tokens: int
) -> list[list[dict[str, Any]]]:
    """Of every option, a report for each input; all in one batch, so that a prompt is read once."""
    sfi = [one for _ in inputs for one in options]
    params = [
        {"temperature": 0, "ignore_eos": True, "max_new_tokens": tokens, "custom_params": {"sfi": one}} for one in sfi
    ]
    body: dict[str, Any] = {
        "input_ids": [one for one in inputs for _ in options],
        "sampling_params": params,
    }
    reply = requests.post(f"{url}/generate", json=body, timeout=900)
    reply.raise_for_status()
    found = [one["meta_info"]["sfi"] for one in reply.json()]
    return [found[i :: len(options)] for i in range(len(options))]


def figures(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several replies. error: the standard error of the agreement, by replies left out one at a time."""

    def agreement(some: Sequence[dict[str, Any]]) -> float:
        agreed, checked = (sum(one[f"{kind}_tokens"] for one in some) for kind in ("agreed", "checked"))
        return float(agreed / max(checked, 1))

    without = [agreement([*found[:i], *found[i + 1 :]]) for i in range(len(found))]
    slow, fast = (sum(one[f"{kind}_steps"] for one in found) for kind in ("slow", "fast"))
    recalls = [one["recall"] for one in found if one["recall"] is not None]
    return {
        "agreement": round(agreement(found), 4),
        "error": round((len(without) - 1) ** 0.5 * statistics.pstdev(without), 4),
        "checked": sum(one["checked_tokens"] for one in found),
        "slow_share": round(slow / (slow + fast), 4),
        "recall": round(statistics.mean(recalls), 4),
    }


def main(
    count: Annotated[int, typer.Option(min=2, help="prompts of each kind")] = 3,
    context: Annotated[int, typer.Option(help="prompt tokens")] = 3000,
    tokens: Annotated[int, typer.Option(help="decoded tokens of each")] = 112,
    budget: int = 512,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Agreement, slow steps and recall by trigger."""
    inputs, replies = prompts(count, context), {}
    Path("runs").mkdir(exist_ok=True)
    switch = Path("runs/dropped_enders").absolute()
    env = {"PYTHONPATH": PLUGIN, "DROPPED_ENDERS": str(switch)}
    with running_server(log=Path("runs/trigger.log"), env=env) as url, progress(console) as bar:
        task = bar.add_task("trigger", total=len(RULES) * len(inputs))
        for kind, some in inputs.items():
            for rule, segments in RULES.items():
                switch.unlink(missing_ok=True)
                if rule == "dropped":
                    switch.touch()
                found = reports(url, some, [{"budget": budget, "max_segment": size} for size in segments], tokens)
                for size, reply in zip(segments, found, strict=True):
                    replies[rule, size, kind] = reply
                bar.advance(task)
        switch.unlink(missing_ok=True)
    for rule, segments in RULES.items():
        for size in segments:
            replies[rule, size, "all"] = [one for kind in inputs for one in replies[rule, size, kind]]
    rows = [
        {"rule": rule, "max_segment": size, "text": kind, **figures(found)}
        for (rule, size, kind), found in sorted(replies.items())
    ]
    table = Table("rule", "max_segment", "text", "agreement", "error", "checked", "slow share", "recall")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    if out:
        settings = {"prompts_of_a_kind": count, "context": context, "tokens": tokens, "budget": budget}
        out.write_text(json.dumps({**provenance(), **settings, "cells": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
