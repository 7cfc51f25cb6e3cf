"""A second plugin on a test server's path: it renames a hook target, breaks a module, writes down what every
scheduler decided, keeps coverage of killed processes."""

import itertools
import os
import sys
import threading
import time


def register() -> None:
    if renamed := os.environ.get("PROBE_RENAME"):
        from sfi_sglang import sglang_symbols

        target = getattr(sglang_symbols, renamed) + "_renamed"
        sglang_symbols.SERVER_TARGETS = tuple(
            target if t == getattr(sglang_symbols, renamed) else t for t in sglang_symbols.SERVER_TARGETS
        )
        setattr(sglang_symbols, renamed, target)
    if broken := os.environ.get("PROBE_BREAK"):
        sys.modules[broken] = None  # importing it is an ImportError
    if os.environ.get("PROBE_CONV"):
        _convolve_in_torch()
    if os.environ.get("PROBE_UNPIN"):
        _allow_pin_memory()
    if folder := os.environ.get("PROBE_STEPS"):
        _write_steps(folder)
    if folder := os.environ.get("PROBE_KV"):
        _write_kv(folder)
    threading.Thread(target=_look_often_for_the_end, daemon=True).start()
    if os.environ.get("COVERAGE_PROCESS_CONFIG") or os.environ.get("COVERAGE_PROCESS_START"):
        threading.Thread(target=_save_coverage, daemon=True).start()


def _allow_pin_memory() -> None:
    """SGLang's LoRA layers pin host memory, which torch refuses without an accelerator."""
    import functools

    import torch

    def without_pin(function):
        @functools.wraps(function)
        def call(*args, pin_memory=False, **kwargs):
            return function(*args, **kwargs)

        return call

    for name in ("tensor", "empty", "zeros", "ones", "full", "arange"):
        setattr(torch, name, without_pin(getattr(torch, name)))
    torch.Tensor.pin_memory = lambda tensor, *args: tensor


def _convolve_in_torch() -> None:
    """LFM2's short convolutions, whose kernels need an accelerator."""
    import torch
    from sglang.srt.models import lfm2
    from torch.nn import functional

    def convolve(x, states, weight, bias, lines, starts, fresh):
        """x: [dim, tokens] of sequences that begin at `starts`. states: [lines, dim, kernel - 1], read unless fresh."""
        out = torch.empty_like(x)
        for line, (begin, end), new in zip(lines, itertools.pairwise(starts), fresh, strict=True):
            before = torch.zeros_like(states[line]) if new else states[line]
            seen = torch.cat([before, x[:, begin:end]], 1)
            out[:, begin:end] = functional.conv1d(seen[None], weight[:, None], bias, groups=len(seen))[0]
            states[line] = seen[:, -states.shape[-1] :]
        return out

    def extend(x, weight, bias, query_start_loc, cache_indices, has_initial_state, conv_states, activation):
        fresh = [not kept for kept in has_initial_state.tolist()]
        starts = query_start_loc.tolist()
        return convolve(x, conv_states, weight, bias, cache_indices.tolist(), starts, fresh)

    def decode(x, conv_states, weight, bias, activation, conv_state_indices):
        lines = conv_state_indices.tolist()
        return convolve(x.T, conv_states, weight, bias, lines, range(len(lines) + 1), [False] * len(lines)).T

    lfm2.causal_conv1d_fn, lfm2.causal_conv1d_update = extend, decode


def _write_steps(folder: str) -> None:
    """One file a process, one line a finished request: its slow (01) and fast (00) steps."""
    from sfi_sglang.scheduling.request_state import RequestState

    summary = RequestState.summary

    def write(state, outputs):
        with open(os.path.join(folder, str(os.getpid())), "a") as file:
            file.write(f"{state.steps.hex(' ')}, {state.inherited_tokens} tokens inherited\n")
        return summary(state, outputs)

    RequestState.summary = write


def _write_kv(folder: str) -> None:
    """One file a finished request, NUMBER.pt: the ids of the tokens that enter the tree, and their K and V by layer."""
    import torch
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    checkpoint = UnifiedRadixCache.checkpoint

    def write(cache, req, *, up_to, **kwargs):
        if req.finished():
            pool = cache.token_to_kv_pool_allocator.get_kvcache()
            slots = cache.req_to_token_pool.req_to_token[req.kv.req_pool_idx, :up_to].long()
            layers = range(pool.layer_num)
            kept = [(pool.get_key_buffer(i)[slots].clone(), pool.get_value_buffer(i)[slots].clone()) for i in layers]
            ids = [*req.origin_input_ids, *req.output_ids][:up_to]
            name = f"{len(os.listdir(folder)):04}.pt"
            torch.save({"ids": ids, "kv": kept, "sfi": hasattr(req, "sfi")}, os.path.join(folder, name))
        return checkpoint(cache, req, up_to=up_to, **kwargs)

    UnifiedRadixCache.checkpoint = write


def _look_often_for_the_end() -> None:
    """SGLang looks every five seconds whether its server shall end; the suite ends dozens."""
    import asyncio
    import types

    for _ in range(600):
        if (module := sys.modules.get("sglang.srt.managers.tokenizer_manager")) and hasattr(module, "asyncio"):
            quick = types.ModuleType("asyncio")
            quick.__dict__.update(vars(asyncio), sleep=lambda seconds: asyncio.sleep(min(seconds, 0.2)))
            vars(module)["asyncio"] = quick
            return
        time.sleep(0.1)


def _save_coverage() -> None:
    """SGLang ends its processes by SIGKILL, which leaves coverage no time to write."""
    import coverage

    while True:
        time.sleep(2)
        if current := coverage.Coverage.current():
            current.save()
