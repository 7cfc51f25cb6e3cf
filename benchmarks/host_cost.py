"""What a turn of a long chat costs the host before the GPU has work: tokenising, and the rest by its parts.

    python -m benchmarks.host_cost --out benchmarks/results/host_cost_cpu.json

The chat is one of a coding agent: files of SGLang's sources and tool calls in JSON, 150K tokens by the embedded model's
tokenizer; the turn adds 1.5K. Every part is the function that the server calls, here in one process; ways of
tokenising are interleaved. HTTP, sockets and the event loop are in the last two rows alone, where a real server gets
the turn and refuses it, because the embedded model's context is shorter.
"""

import gc
import json
import statistics
import time
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import requests
import sglang
import torch
import typer
from rich.table import Table

from sfi_sglang.client.provenance import provenance
from sfi_sglang.integration.token_cache import TokenCache
from sfi_sglang.selection.snapshot_store import block_hashes
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console

CAPACITY = 256 << 20
FILE = 4200  # characters of a file, at most
JSON = {"Content-Type": "application/json"}
Message = dict[str, Any]


def chat(tokens: int, count: Callable[[str], int], skip: int = 0) -> list[Message]:
    """A tool's output and a call by turns, until they have `tokens` tokens. skip: files at the beginning."""
    said: list[Message] = []
    for file in sorted(Path(sglang.__path__[0], "srt").rglob("*.py"))[skip:]:
        text = file.read_text()[:FILE]
        if len(text) < FILE // 4:
            continue
        call = {"name": "edit_file", "arguments": {"path": file.name, "old": text[:300], "new": text[300:900]}}
        said += [{"role": "user", "content": text}, {"role": "assistant", "content": json.dumps(call)}]
        tokens -= sum(count(message["content"]) for message in said[-2:])
        if tokens <= 0:
            break
    return said


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what it returned."""
    gc.collect()
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1e3, result


def tokenising(tokenizer: Any, before: str, turn: str, repeats: int) -> tuple[dict[str, list[float]], list[int]]:
    """Milliseconds by way, all of which give the same ids."""
    from sglang.srt.entrypoints.openai import parallel_prompt_encode as parallel

    parallel_prompt_encode = parallel.parallel_prompt_encode
    parallel._parallel_ok = True  # it gives up for good when other work keeps the cores at its first long prompt

    def cached(cache: TokenCache, text: str) -> list[int]:
        return cache.encode(parallel_prompt_encode, tokenizer, text, {}, CAPACITY).ids

    def turn_after(first: str) -> Callable[[], list[int]]:
        cache = TokenCache()
        cached(cache, first)
        return lambda: cached(cache, turn)

    times: dict[str, list[float]] = {}
    ids: list[int] = tokenizer.encode(turn)
    for _ in range(repeats):
        ways: dict[str, Callable[[], list[int]]] = {
            "whole, one core": lambda: tokenizer.encode(turn),
            "whole, SGLang's parallel way": lambda: parallel_prompt_encode(tokenizer, turn, {}),
            "cache, first prompt": lambda: cached(TokenCache(), turn),
            "cache, next turn": turn_after(before),
            "cache, the same again": turn_after(turn),
        }
        for name, way in ways.items():
            taken, found = timed(way)
            assert found == ids, name
            times.setdefault(name, []).append(taken)
    return times, ids


def others(tokenizer: Any, messages: list[Message], ids: list[int], repeats: int) -> dict[str, list[float]]:
    """The rest of the host's work, in the order of a request."""
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.managers.io_struct import TokenizedGenerateReqInput, msgpack_decode, msgpack_encode
    from sglang.srt.mem_cache.base_prefix_cache import InsertParams, MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixKey
    from sglang.srt.sampling.sampling_params import SamplingParams

    body = json.dumps({"model": "m", "messages": messages})
    tree, long = radix_tree(len(ids)), array("q", ids)
    slots = torch.arange(1, len(ids) + 1)
    tree.insert(InsertParams(key=RadixKey(long[:-1]), value=slots[:-1]))
    tree.insert(InsertParams(key=RadixKey(long), value=slots, prev_prefix_len=len(ids) - 1))
    known = InsertParams(key=RadixKey(long), value=slots, prev_prefix_len=len(ids))
    request = TokenizedGenerateReqInput(
        input_text="", input_ids=long, input_embeds=None, mm_inputs=None, token_type_ids=None, stream=True,
        sampling_params=SamplingParams(), return_logprob=False, logprob_start_len=-1, top_logprobs_num=0,
        token_ids_logprob=None,
    )  # fmt: skip
    packed = msgpack_encode(request)
    parts: dict[str, Callable[[], Any]] = {
        "JSON to Python": lambda: json.loads(body),
        "request model (pydantic)": lambda: ChatCompletionRequest.model_validate({"model": "m", "messages": messages}),
        "chat template (Jinja)": lambda: tokenizer.apply_chat_template(messages, tokenize=False),
        "ids to an array": lambda: array("q", ids),
        "to the scheduler: packed": lambda: msgpack_encode(request),
        "to the scheduler: unpacked": lambda: msgpack_decode(packed),
        "prefix tree: match": lambda: tree.match_prefix(MatchPrefixParams(key=RadixKey(long))),
        "prefix tree: insert": lambda: tree.insert(known),
        "ours, `carry` alone: hashes of blocks": lambda: block_hashes(long, ""),
    }
    return {name: [timed(part)[0] for _ in range(repeats + 1)][1:] for name, part in parts.items()}


def radix_tree(tokens: int) -> Any:
    """SGLang's prefix cache as a server has it by default, with room for two prompts."""
    from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
    from sglang.srt.mem_cache.unified_cache.components import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    pool = ReqToTokenPool(2, 2 * tokens, "cpu", False)
    slots = TokenToKVPoolAllocator(2 * tokens, torch.float16, "cpu", None, False)
    return UnifiedRadixCache(CacheInitParams(False, pool, slots, 1, tree_components=(ComponentType.FULL,)))


def refusals(before: list[Message], turn: list[Message], repeats: int) -> dict[str, list[float]]:
    """Milliseconds until a server refuses the turn because the model's context is shorter: until then it has read,
    rendered and tokenised it as any other, and no pass has run."""
    found = {}
    for name, capacity in (("without the cache", "0"), ("with it", "256")):
        times = []
        with running_server(env={"SFI_TOKENIZER_CACHE_MB": capacity}) as url:
            for number in range(repeats + 1):
                last = {**turn[-2], "content": f"{number} {turn[-2]['content']}"}
                bodies = [json.dumps({"model": "m", "messages": said}) for said in (before, [*turn[:-2], last])]
                for body in bodies:  # the turn before, then this one
                    post = partial(requests.post, f"{url}/v1/chat/completions", data=body, headers=JSON, timeout=60)
                    taken, reply = timed(post)
                    assert reply.status_code == 400 and "context" in reply.text, reply.text
                times.append(taken)
        found[f"server, to the refusal, {name}"] = times[1:]
    return found


def main(
    tokens: Annotated[int, typer.Option(help="prompt tokens before the turn")] = 150_000,
    new: Annotated[int, typer.Option(help="tokens that the turn adds")] = 1500,
    repeats: int = 9,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Milliseconds of the host's work for one turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model(), model_max_length=1 << 30)

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    before = chat(tokens, count)
    turn = before + chat(new, count, skip=len(before))[:2]
    first, second = (
        str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)) for said in (before, turn)
    )
    ways, ids = tokenising(tokenizer, first, second, repeats)
    rest = others(tokenizer, turn, ids, repeats) | refusals(before, turn, repeats)
    sizes = {"prompt_tokens": len(ids), "new_tokens": len(ids) - count(first), "characters": len(second)}
    table = Table("what", "ms", "least", "most", "us a token", title=f"the host's work for a turn: {sizes}")
    for name, times in {**ways, **rest}.items():
        middle = statistics.median(times)
        figures = (f"{value:.1f}" for value in (middle, min(times), max(times)))
        table.add_row(name, *figures, f"{middle * 1e3 / len(ids):.3f}")
    console.print(table)
    if out:
        found = {"tokenising_ms": ways, "rest_ms": rest}
        out.write_text(
            json.dumps({**provenance(), **sizes, "messages": len(turn), "repeats": repeats, **found}, indent=1)
        )


if __name__ == "__main__":
    typer.run(main)
