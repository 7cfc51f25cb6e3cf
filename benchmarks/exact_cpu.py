"""Is an `exact` reply the dense one? Prose, code, JSON and tool turns, in batches with dense and lossy neighbours.

    python -m benchmarks.exact_cpu --prompts 200 --tokens 96 --out benchmarks/results/exact_cpu.json
    python -m benchmarks.exact_cpu --prompts 48 --temperature 0.7 --out benchmarks/results/exact_drawn_cpu.json

SmolLM2 whole, in float32. The server prefills in chunks, takes requests back in the midst of a batch, and checks the
accounts of its KV pool after every pass. A first difference comes with the gap that dense attention sees there between
its two best tokens: a gap of rounding's size says nothing, a larger one is an error. Above temperature 0 a reply is
compared with that of the same request with the same seed and no drafts: every step attends to everything.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from rich.table import Table

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.generate import TIMEOUT, generate
from sfi_sglang.client.provenance import provenance
from sfi_sglang.client.token_count import of_served_model
from sfi_sglang.evals.texts import tokenize
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

FLAGS = [
    "--speculative-algorithm", "SFI", "--dtype", "float32", "--context-length", "4096", "--chunked-prefill-size", "512",
    "--max-running-requests", "12", "--max-total-tokens", "16384",
]  # fmt: skip
CHECKS = {
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1",
    "SGLANG_TEST_RETRACT": "1",
    "SGLANG_TEST_RETRACT_INTERVAL": "150",
}
KINDS: tuple[Kind, ...] = ("prose", "code", "listing")
BATCH = 8  # prompts; a dense and a lossy neighbour come beside them
RETRACTED = "sglang:num_retracted_requests_total"


@dataclass
class Sums:
    """Of one kind of text. gaps: of each reply that differs, in the log-probabilities of dense attention."""

    prompts: int = 0
    equal: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    copied: int = 0
    dense: int = 0  # passes with full attention
    steps: int = 0  # all passes
    gaps: tuple[float, ...] = ()


def prompts(url: str, number: int, length: int) -> list[tuple[str, list[int]]]:
    """Kind and ids. A tool turn: a question, a call, its JSON lines as result."""
    filler, made = Filler(of_served_model(url)), []
    for i in range(number):
        kind = (*KINDS, "tool turn")[i % 4]
        if kind == "tool turn":
            call = json.dumps({"name": "search", "arguments": {"query": f"def {i}", "limit": 20}})
            texts = (
                ("user", "Which of these functions takes a path?"),
                ("assistant", f"<tool_call>\n{call}\n</tool_call>"),
                ("user", f"<tool_response>\n{filler.text('listing', length - 90, f'tool {i}')}</tool_response>"),
            )
            ids = tokenize(url, messages=[{"role": role, "content": text} for role, text in texts])
        else:
            ids = tokenize(url, prompt=filler.text(kind, length, f"{i}"))  # type: ignore[arg-type]
        made.append((kind, ids))
    return made


def batch(url: str, ids: list[list[int]], options: list[dict[str, Any] | None], **how: Any) -> list[dict[str, Any]]:
    sampling = [{**how, "sampling_seed": 1, "custom_params": {"sfi": option}} for option in options]
    body: dict[str, Any] = {"input_ids": ids, "sampling_params": sampling}
    reply = requests.post(f"{url}/generate", json=body, timeout=TIMEOUT)
    reply.raise_for_status()
    found: list[dict[str, Any]] = reply.json()
    return found


def gap_at(url: str, ids: list[int], dense: list[int], exact: list[int]) -> float:
    """Between the two best tokens of dense attention, where the replies part."""
    place = next(i for i, (one, other) in enumerate(zip(dense, exact, strict=True)) if one != other)
    reply = generate(url, ids + dense[:place], 1, False, ignore_eos=True, logprobs=2)
    best, second = reply["meta_info"]["output_top_logprobs"][0]
    return float(best[0] - second[0])


def main(
    number: Annotated[int, typer.Option("--prompts")] = 200,
    length: Annotated[int, typer.Option(help="prompt tokens")] = 520,
    tokens: Annotated[int, typer.Option(help="of each reply")] = 96,
    budget: int = 128,
    recent: int = 64,
    temperature: float = 0.0,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Exact replies beside dense ones."""
    lossy = {"budget": budget, "recent": recent}
    whole = {**lossy, "exact": True, "budget": 4096} if temperature else None
    how = {"temperature": temperature, "max_new_tokens": tokens, "ignore_eos": True}
    sums: dict[str, Sums] = {}
    Path("runs").mkdir(exist_ok=True)
    neighbours_equal = retracted = 0.0
    with running_server(flags=FLAGS, log=Path("runs/exact_cpu.log"), env=CHECKS) as url:
        endpoint = Endpoint.connect(url)
        asked = prompts(url, number, length)
        with progress(console) as bar:
            task = bar.add_task("prompts", total=number)
            for start in range(0, number, BATCH):
                part = asked[start : start + BATCH]
                ids = [one for _, one in part]
                dense = batch(url, ids, [whole] * len(ids), **how)
                endpoint.flush_cache()
                options = [{**lossy, "exact": True}] * len(ids) + [None, lossy]
                exact = batch(url, [*ids, ids[0], ids[0]], options, **how)
                neighbours_equal += exact[len(ids)]["output_ids"] == dense[0]["output_ids"]
                retracted = endpoint.counters().get(RETRACTED, 0.0)
                for (kind, one), expected, reply in zip(part, dense, exact, strict=False):
                    count(sums.setdefault(kind, Sums()), url, one, expected["output_ids"], reply, temperature == 0)
                endpoint.flush_cache()
                bar.advance(task, len(part))
    columns = ("text", "prompts", "equal", "tokens", "drafts accepted", "of them copies", "dense passes a token")
    table = Table(*columns, "passes a token", "gaps of the others")
    for kind, row in sums.items():
        shares = row.accepted / row.drafted, row.copied / row.accepted, row.dense / row.tokens, row.steps / row.tokens
        gaps = ", ".join(f"{gap:.1e}" for gap in row.gaps)
        counts = (f"{row.prompts}", f"{row.equal}", f"{row.tokens}")
        table.add_row(kind, *counts, *(f"{share:.3f}" for share in shares), gaps)
    console.print(table)
    if out:
        settings = {
            "length": length,
            "tokens": tokens,
            "temperature": temperature,
            "options": lossy,
            "flags": FLAGS,
            "environment": CHECKS,
        }
        found = {"kinds": {kind: asdict(row) for kind, row in sums.items()}, "retracted": retracted}
        batches = -(-number // BATCH)
        neighbours = {"dense_neighbours": batches, "dense_neighbours_equal": int(neighbours_equal)}
        neighbours = neighbours if temperature == 0 else {}
        out.write_text(json.dumps({**provenance(), **settings, **found, **neighbours}, indent=1))


def count(row: Sums, url: str, ids: list[int], expected: list[int], reply: dict[str, Any], greedy: bool) -> None:
    report, given = reply["meta_info"]["sfi"], reply["output_ids"]
    row.prompts += 1
    row.equal += given == expected
    row.tokens += len(given)
    row.drafted += report["drafted_tokens"]
    row.accepted += report["accepted_tokens"]
    row.copied += report["copied_tokens"]
    row.dense += report["slow_steps"]
    row.steps += report["slow_steps"] + report["fast_steps"]
    if given != expected and greedy:
        row.gaps += (gap_at(url, ids, expected, given),)


if __name__ == "__main__":
    typer.run(main)
