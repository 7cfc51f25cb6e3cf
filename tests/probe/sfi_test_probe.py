"""A second plugin on a test server's path: it renames a hook target, writes down what every
scheduler decided, keeps coverage of killed processes."""

import os
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
    if os.environ.get("PROBE_UNPIN"):
        _allow_pin_memory()
    if folder := os.environ.get("PROBE_STEPS"):
        _write_steps(folder)
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


def _write_steps(folder: str) -> None:
    """One file a process, one line a finished request: its slow (01) and fast (00) steps."""
    from sfi_sglang.scheduling.request_state import RequestState

    summary = RequestState.summary

    def write(state, outputs):
        with open(os.path.join(folder, str(os.getpid())), "a") as file:
            file.write(f"{state.steps.hex(' ')}, {state.inherited_tokens} tokens inherited\n")
        return summary(state, outputs)

    RequestState.summary = write


def _save_coverage() -> None:
    """SGLang ends its processes by SIGKILL, which leaves coverage no time to write."""
    import coverage

    while True:
        time.sleep(2)
        if current := coverage.Coverage.current():
            current.save()
