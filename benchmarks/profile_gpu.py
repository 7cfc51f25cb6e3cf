"""Where the time of a decode step goes on a GPU: kernels of dense, fast and slow steps in the real runtime.

    python -m benchmarks.profile_gpu MODEL --cases 1x131072,6x131072 --out result.json

Three kinds of steps, each recorded by SGLang's own profiler: dense, all requests fast, and the first request slow at
every step while the others are fast. A step is one replay of a CUDA graph. A kernel's time is what it adds to that of
the kernels before it (programmatic dependent launch lets them overlap), so the times of a step add up to its busy time.
"""

import asyncio
import gzip
import json
import random
import re
import statistics
import tempfile
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.decode_gpu import WARM_UP, Options, decode, launch, parse_cases, stream
from sfi_sglang.client.provenance import provenance
from sfi_sglang.terminal import console

FEWEST = 50  # kernels in a step's graph; what is smaller is not the model
NEVER = 4096
FAMILIES = {  # the first that matches
    "norms": r"norm",
    "dense attention (FlashInfer)": r"flashinfer|BatchDecode|BatchPrefill|MergeStates",
    "matrix products": r"gemm|nvjet|cutlass|cublas|splitk|gemv",
    "rotary embedding, KV writes": r"rope|rotary|kv_buffer|store_cache|kvcache",
    "activation": r"silu|act_and_mul|gelu",
}


@dataclass
class Profile:
    """One kind of step. Microseconds; medians over steps; kernels: means."""

    batch: int
    context: int
    mode: str
    steps: int
    period: float  # from one step's first kernel to the next one's
    graph: float  # from the first to the last kernel of the graph
    busy: float  # of that, while a kernel ran
    kernels: dict[str, tuple[float, float]]  # launches a step and time


def family(name: str) -> str:
    """What a kernel is for; its own name if that says more."""
    for label, pattern in FAMILIES.items():
        if re.search(pattern, name, re.IGNORECASE):
            return label
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    return re.split(r"[<(]", name)[0].split("::")[-1]


def analyse(trace: dict[str, Any], batch: int, context: int, mode: str) -> Profile:
    """
    trace: of Chrome's format, as torch.profiler writes it.

    Raises:
        ValueError: fewer than three whole steps in it.
    """
    graphs: dict[int, list[tuple[float, float, str]]] = {}
    for event in trace["traceEvents"]:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            kernel = (float(event["ts"]), float(event["dur"]), event["name"])
            graphs.setdefault(event["args"]["correlation"], []).append(kernel)
    steps = sorted(sorted(kernels) for kernels in graphs.values() if len(kernels) >= FEWEST)[1:-1]
    if len(steps) < 2:
        raise ValueError(f"tokens: the trace holds {len(steps)} whole steps, more are needed")
    times: defaultdict[str, float] = defaultdict(float)
    counts, busy, spans = Counter[str](), [], []
    for step in steps:
        end, total = step[0][0], 0.0
        for start, duration, name in step:
            added = max(0.0, start + duration - max(start, end))
            end, total = max(end, start + duration), total + added
            times[family(name)] += added
            counts[family(name)] += 1
        busy.append(total)
        spans.append(end - step[0][0])
    n = len(steps)
    ranked = sorted(times.items(), key=lambda item: -item[1])
    kernels = {name: (counts[name] / n, time / n) for name, time in ranked}
    period = statistics.median(after[0][0] - before[0][0] for before, after in pairwise(steps))
    middles = (period, statistics.median(spans), statistics.median(busy))
    return Profile(batch, context, mode, n, *middles, kernels)


async def record(engine: Any, prompts: list[list[int]], options: list[Options], tokens: int) -> dict[str, Any]:
    """Trace of the last steps that all requests share."""
    from sglang.srt.managers.io_struct import ProfileReq

    decoding = [asyncio.Event() for _ in prompts]

    async def one(prompt: list[int], sfi: Options, warm: asyncio.Event) -> None:
        async for info in stream(engine, prompt, sfi, tokens + WARM_UP):
            if info["completion_tokens"] >= WARM_UP:
                warm.set()

    with tempfile.TemporaryDirectory() as folder:
        each = zip(prompts, options, decoding, strict=True)
        requests = [asyncio.ensure_future(one(*request)) for request in each]
        await asyncio.gather(*(warm.wait() for warm in decoding))
        await engine.tokenizer_manager.start_profile(
            ProfileReq(output_dir=folder, activities=["GPU"], with_stack=False, record_shapes=False)
        )
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        await engine.tokenizer_manager.stop_profile()
        await asyncio.gather(*requests)
        (file,) = Path(folder).glob("*.json.gz")
        trace: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
        return trace


def main(
    model: Annotated[str, typer.Argument(help="folder with a config.json")],
    cases: Annotated[str, typer.Option(help="batch x context tokens, comma-separated")] = "1x131072",
    budget: int = 1536,
    tokens: Annotated[int, typer.Option(help="decoded tokens a run")] = 64,
    engine_arguments: Annotated[str, typer.Option(help="more Engine arguments, JSON")] = "{}",
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Profile dense, fast and slow steps."""
    fast, slow = (
        {"budget": budget, "policy": "periodic", "min_gap": 1, "max_segment": length} for length in (NEVER, 1)
    )
    engine = launch(model, False, None, json.loads(engine_arguments))
    loop = asyncio.get_event_loop()
    rng = random.Random(1)
    profiles: list[Profile] = []
    for batch, context in parse_cases(cases):
        prompts = [[rng.randrange(1000, 100000) for _ in range(context)] for _ in range(batch)]
        loop.run_until_complete(decode(engine, prompts, None, WARM_UP))  # fill the radix cache
        modes: dict[str, list[Options]] = {
            "dense": [None] * batch,
            "fast": [fast] * batch,
            "slow": [slow, *[fast] * (batch - 1)],
        }
        for mode, options in modes.items():
            trace = loop.run_until_complete(record(engine, prompts, options, tokens))
            profile = analyse(trace, batch, context, mode)
            profiles.append(profile)
            print(f"{batch} x {context} {mode}: {profile.period:.0f} us a step, {profile.busy:.0f} busy", flush=True)
        engine.flush_cache()
    engine.shutdown()
    for profile in profiles:
        title = f"{profile.batch} x {profile.context} {profile.mode}: {profile.period:.0f} µs a step"
        table = Table("kernel", "launches", "µs", title=title)
        for name, (launches, time) in list(profile.kernels.items())[:14]:
            table.add_row(name, f"{launches:.0f}", f"{time:.0f}")
        table.add_row("idle inside of the graph", "", f"{profile.graph - profile.busy:.0f}")
        table.add_row("between graphs", "", f"{profile.period - profile.graph:.0f}")
        console.print(table)
    if out:
        rows = [asdict(profile) for profile in profiles]
        out.write_text(json.dumps({**provenance(), "budget": budget, "profiles": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
