"""Does sparse extend keep what a long cached prefix says? Facts in the prefix, a tool result, a question about a fact.

    python -m benchmarks.sparse_extend --out benchmarks/results/sparse_extend_cpu.json

The embedded model in float32 reads a prefix densely and then the new tokens in every way of VARIANTS
(sfi_sglang/attention/sparse_extend.py). Replies are decoded with full attention, so that a difference comes from the
new tokens alone: how many name the right number, and, dense's own reply forced upon every way, how far its
distribution is from dense's. The same over every STRIDE-th token of the tool result. What is asked:
extend_questions.py. Results are written after every prefix; a run goes on where the last one ended.
"""

import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor

from benchmarks.dense_llama import Context, Llama
from benchmarks.extend_questions import KINDS, Asked, ask
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.attention.reference import grouped_queries
from sfi_sglang.attention.sparse_extend import Sparsity, sparse_extend
from sfi_sglang.client.filler import Filler
from sfi_sglang.client.provenance import provenance
from sfi_sglang.client.token_count import from_tokenizer
from sfi_sglang.evals.retrieval import tells
from sfi_sglang.selection import selector
from sfi_sglang.selection.reuse import MERGE_BONUS
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.terminal import console

STRIDE, REPLY, ANSWER = 8, 24, 10  # tokens: of a reply, of its part that must have the number
DENSE = "dense"


def variants(budget: int, recent: int) -> dict[str, tuple[Sparsity | None, bool]]:
    """How to extend (None: densely), and whether the memory of the last turn counts."""
    base = Sparsity(budget, recent=recent, group=64, tail=16, mean=False, dense=True)
    finer = replace(base, group=16, tail=64, block=32)
    mean = replace(finer, group=64, mean=True)
    return {
        DENSE: (None, False),
        "inherit": (replace(base, evidence=False), True),
        "slow": (base, False),
        "slow + delta": (replace(base, delta=True), False),
        "slow + inherit + delta": (replace(base, delta=True), True),
        "tail 64": (replace(base, tail=64), False),
        "group 16": (replace(base, group=16), False),
        "group 16, tail 64": (replace(finer, block=0), False),
        "group 16, tail 64, blocks": (finer, False),
        "group 16, tail 64, blocks, choosing only": (replace(finer, dense=False), False),
        "group 16, tail 64, blocks, delta": (replace(finer, delta=True), False),
        "group 16, tail 64, blocks, inherit": (finer, True),
        "group 64, tail 64, blocks, delta": (replace(mean, mean=False, delta=True), False),
        "mean of 64, tail 64, blocks": (mean, False),
        "mean of 64, tail 64, blocks, choosing only": (replace(mean, dense=False), False),
        "mean of 64, tail 64, blocks, delta": (replace(mean, delta=True), False),
        "mean of 64, tail 64, blocks, choosing only, inherit": (replace(mean, dense=False), True),
        "mean of 32, tail 64, blocks, choosing only": (replace(mean, group=32, dense=False), False),
        "group 4, tail 64, blocks, choosing only": (replace(finer, group=4, dense=False), False),
    }


class Attention:
    """Of one variant over a context; `memory` is what the last turn selected, by layer."""

    def __init__(self, how: Sparsity | None, inherits: bool, options: SFIOptions, memory: dict[int, Tensor]) -> None:
        self.how, self.inherits, self.options, self.memory = how, inherits, options, dict(memory)
        self.seconds = 0.0

    def __call__(self, llama: Llama, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        began = time.perf_counter()
        if self.how is None:
            out = llama.dense(layer, q, k, v)
        else:
            inherited = self.memory[layer] if self.inherits else None
            out = sparse_extend(q, k, v, llama.scoring, self.how, inherited)
        self.seconds += time.perf_counter() - began
        if self.how is None or self.inherits:
            self.remember(llama, layer, q, k)
        return out

    def remember(self, llama: Llama, layer: int, q: Tensor, k: Tensor) -> None:
        """Select as the end of a prompt does; carry `merge` where there is a memory."""
        first, end = self.options.sink, self.options.recent_start(k.shape[1])
        rows = grouped_queries(q[-self.options.queries :], k.shape[0])
        logits = selector.attention_logits(rows, k[:, first:end], llama.scoring)
        scores = selector.power_mean(logits.log_softmax(-1), self.options.selector)
        if self.inherits:
            scores.scatter_add_(-1, self.memory[layer] - first, torch.full_like(scores, MERGE_BONUS))
        picks = selector.select(scores, rows.shape[1], self.options.budget, self.options.selector)
        self.memory[layer] = picks + first


def divergence(reference: Tensor, other: Tensor) -> tuple[list[float], list[bool]]:
    """KL of `other` from `reference` in nats, and whether both choose the same: logits [n, vocabulary]."""
    a, b = reference.log_softmax(-1), other.log_softmax(-1)
    kl = (a.exp() * (a - b)).sum(-1)
    return kl.tolist(), (reference.argmax(-1) == other.argmax(-1)).tolist()


def read_prefix(llama: Llama, asked: Asked, options: SFIOptions, file: Path) -> tuple[Context, dict[int, Tensor]]:
    """Densely, and what its end selects by layer; from `file` if it has been read before."""
    context = Context(llama, asked.longest + REPLY)
    n = len(asked.prefix)
    if file.exists():
        keys, values, memory = torch.load(file)
        context.keys[..., :n, :], context.values[..., :n, :], context.length = keys, values, n
        return context, memory
    attention = Attention(None, False, options, {})
    llama.forward(asked.prefix, context, attention)
    torch.save((context.keys[..., :n, :].clone(), context.values[..., :n, :].clone(), attention.memory), file)
    return context, attention.memory


def measure(
    llama: Llama, tokenizer: Any, asked: Asked, chosen: Sequence[str], options: SFIOptions, file: Path
) -> list[dict[str, Any]]:
    """All questions of one prefix in all variants; dense comes first."""
    context, memory = read_prefix(llama, asked, options, file)
    found, dense, forced = list[dict[str, Any]](), dict[int, list[Tensor]](), dict[int, list[int]]()
    for name in chosen:
        context.length = len(asked.prefix)
        how, inherits = variants(options.budget, options.recent)[name]
        attention = Attention(how, inherits, options, memory)
        for turn in asked.turns:
            llama.forward(turn, context, attention)
        start, carried = context.length, dict(attention.memory)
        for number, (ids, answer) in enumerate(asked.questions):
            context.length, attention.memory, attention.seconds = start, dict(carried), 0.0
            hidden = llama.forward(ids, context, attention)
            first = llama.logits(hidden[-1:])
            if name == DENSE:
                forced[number] = llama.greedy(first, context, REPLY)
                context.length = start + len(ids)
            reply = forced[number]
            replied = torch.cat([first, llama.logits(llama.forward(reply[:-1], context, llama.plain))])
            logits = [llama.logits(hidden[STRIDE // 2 :: STRIDE]), replied]
            (tool_kl, tool_same), (kl, same) = map(divergence, dense.setdefault(number, logits), logits)
            most = REPLY if asked.kind == "values" else ANSWER
            if not all(same[:most]):
                context.length = start + len(ids)
                reply = llama.greedy(first, context, most)
            text = tokenizer.decode(reply[:most])
            row = {"kind": asked.kind, "trial": asked.trial, "question": number, "variant": name}
            row |= {"prefix": start, "new": len(ids), "right": tells(text, re.findall(r"\d+", answer)), "text": text}
            row |= {"reply_kl": statistics.mean(kl), "first_kl": kl[0], "reply_top1": statistics.mean(same)}
            row |= {"tool_kl": statistics.mean(tool_kl), "tool_top1": statistics.mean(tool_same)}
            found.append({**row, "attention_seconds": round(attention.seconds, 2)})
    return found


def show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table("kind", "variant", "right", "reply KL", "first KL", "reply top-1", "tool KL", "tool top-1", "s")
    means = ("reply_kl", "first_kl", "reply_top1", "tool_kl", "tool_top1", "attention_seconds")
    for kind, name in dict.fromkeys((row["kind"], row["variant"]) for row in rows):
        of = [row for row in rows if (row["kind"], row["variant"]) == (kind, name)]
        right = f"{sum(row['right'] for row in of)}/{len(of)}"
        table.add_row(kind, name, right, *(f"{statistics.mean(row[mean] for row in of):.4f}" for mean in means))
    console.print(table)


def main(
    out: Annotated[Path, typer.Option(help="JSON; a run goes on where the file ends")],
    trials: Annotated[int, typer.Option(help="prefixes of each kind; a prefix has FACTS questions")] = 12,
    kinds: str = ",".join(KINDS),
    chosen: Annotated[str, typer.Option("--variants", help="joined by ; (all without it)")] = "",
    budget: int = 512,
    recent: int = 256,
    prefixes: Annotated[Path, typer.Option(help="folder for what was read, .3 GB a question")] = Path("runs/prefixes"),
) -> None:
    """Right answers and divergence from dense, by way of extending."""
    from transformers import AutoTokenizer

    options = SFIOptions(budget=budget, recent=recent)
    names = [DENSE, *(name for name in chosen.split(";") if name)] if chosen else list(variants(budget, recent))
    settings = {"trials": trials, "budget": budget, "recent": recent}
    stored = json.loads(out.read_text()) if out.exists() else {**provenance(), **settings, "rows": []}
    rows = stored["rows"]
    prefixes.mkdir(parents=True, exist_ok=True)
    tokenizer, llama = AutoTokenizer.from_pretrained(embedded_model()), Llama(embedded_model())
    filler = Filler(from_tokenizer(embedded_model()))
    done = {(row["kind"], row["trial"], row["variant"]) for row in rows}
    for trial in sorted(range(trials), key=lambda trial: trial * 5 % 12):
        for kind in kinds.split(","):
            if missing := [name for name in names if (kind, trial, name) not in done]:
                asked = ask(kind, trial, trials, tokenizer, filler)
                file = prefixes / f"{kind} {trial} {budget} {recent}.pt"
                found = measure(llama, tokenizer, asked, list(dict.fromkeys([DENSE, *missing])), options, file)
                rows += [row for row in found if (kind, trial, row["variant"]) not in done]
                out.write_text(json.dumps(stored, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    typer.run(main)
