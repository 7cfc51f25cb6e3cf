"""Training by the clock: full fine-tuning with AdamW, float32 weights, bf16 arithmetic."""

import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.probe_model.attention import fastest_attention
from benchmarks.probe_model.model import load, precision, save, weighted_loss
from benchmarks.probe_model.schedule import lengths, pick_length, rate
from benchmarks.probe_model.stream import Batch, streams
from benchmarks.probe_model.texts import Texts
from sfi_sglang.client.provenance import provenance, without_folders

BATCHES = 2  # a step, each of the longest document's tokens: 65,536, so that minutes give hundreds of steps
BETAS, DECAY, CLIP = (0.9, 0.95), 0.01, 1.0
EVERY = 5  # steps between two lines of the log


@dataclass(frozen=True)
class Settings:
    """minutes: of the whole command but for saving, from when it read its texts. longest: tokens of a document.
    peak: learning rate. workers: processes that make documents, for each of four lengths."""

    minutes: float
    longest: int
    peak: float
    seed: int
    workers: int
    compiled: bool = False


def default_workers() -> int:
    return max(1, ((os.cpu_count() or 1) - 2) // 4)


def train(folder: Path, out: Path, texts: Texts, settings: Settings, begun: float | None = None) -> dict[str, Any]:
    """Continue the model in `folder`, write it to `out` with its record, train.json, and return the record.
    begun: time.monotonic() when the minutes began."""
    begun = begun or time.monotonic()
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = lengths(settings.longest)
    batches = streams(sizes, settings.longest, texts, folder, settings.seed, settings.workers)
    model = load(folder, settings.longest).to(device)
    backend = fastest_attention(model.config, [(settings.longest // size, size) for size in sizes], device)
    if settings.compiled:
        torch._dynamo.config.suppress_errors = True  # what does not compile runs as it is
        for layer in model.model.layers:
            layer.compile()
    optimizer = _optimizer(model)
    rng, curve, start, step, tokens = random.Random(settings.seed), list[dict[str, Any]](), time.monotonic(), 0, 0
    end = begun + 60 * settings.minutes
    print(f"{start - begun:.0f} s until the first step; {end - start:.0f} s left", flush=True)
    while (share := (time.monotonic() - start) / max(1e-9, end - start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate(share, settings.peak)
        chosen = [pick_length(rng, share, settings.longest) for _ in range(BATCHES)]
        before = time.monotonic()
        found = [_backward(model, next(batches[length]), device, backend) for length in chosen]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item()
        if norm == norm and norm != float("inf"):  # a step with a broken gradient is left out
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + sum(one["tokens"] for one in found)
        row = {"step": step, "seconds": round(time.monotonic() - start, 1), "tokens": tokens, "norm": round(norm, 3)}
        row |= {"took": round(time.monotonic() - before, 3), "lengths": chosen, "rate": rate(share, settings.peak)}
        curve.append(row | {name: [one[name] for one in found] for name in ("loss", "answers", "right")})
        if step % EVERY == 0:
            _show(curve[-EVERY:])
    took = time.monotonic() - start
    out.mkdir(parents=True, exist_ok=True)
    save(model, folder, out)
    command = f"python -m benchmarks.probe_model {without_folders(sys.argv[1:])}"
    record = provenance() | {"command": command, "settings": asdict(settings), "texts": texts.about}
    record |= {
        "attention": backend.name if backend else None,
        "steps": step,
        "tokens": tokens,
        "seconds": round(took, 1),
    }
    record |= {"tokens_a_second": round(tokens / took), "curve": curve}
    (out / "train.json").write_text(json.dumps(record, indent=1))
    print(
        f"{step} steps, {tokens / 1e6:.1f} million tokens, {tokens / took:.0f} a second; saved in {out.name}",
        flush=True,
    )
    return record


def _optimizer(model: Any) -> torch.optim.AdamW:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)


def _backward(model: Any, batch: Batch, device: torch.device, backend: Any) -> dict[str, Any]:
    """Add a batch's gradient. loss: weighted. answers: mean over the tokens of answers, nats. right: share of them with
    a probability above one half, which greedy decoding is sure to write. Both are None where there are no answers."""
    ids, weights = (part.to(device) for part in batch)
    with precision(device, backend):
        loss, losses = weighted_loss(model, ids, weights)
    (loss / BATCHES).backward()
    of_answers = losses[weights[:, 1:] > 1]
    found: dict[str, Any] = {"tokens": ids.numel(), "loss": round(loss.item(), 4), "answers": None, "right": None}
    if of_answers.numel():
        found["answers"] = round(of_answers.mean().item(), 4)
        found["right"] = round((of_answers < 0.6931).float().mean().item(), 4)
    return found


def _show(rows: list[dict[str, Any]]) -> None:
    """A line for some steps."""
    took = sum(row["took"] for row in rows)
    size = rows[-1]["tokens"] - rows[0]["tokens"]
    values = {}
    for name in ("loss", "answers", "right"):
        known = [value for row in rows for value in row[name] if value is not None]
        values[name] = sum(known) / len(known) if known else float("nan")
    speed = size / max(1e-9, took - rows[0]["took"])
    last = rows[-1]
    print(
        f"{last['seconds']:6.0f} s  step {last['step']:4}  {last['tokens'] / 1e6:6.2f} M tokens  {speed:7.0f}/s  "
        f"loss {values['loss']:.3f}  answers {values['answers']:.3f} right {values['right']:.1%}  "
        f"norm {last['norm']:.2f}  rate {last['rate']:.1e}",
        flush=True,
    )
