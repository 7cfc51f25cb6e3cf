"""`sfi=` in SGLang's frontend language: `sgl.gen("x", sfi=True)` and `program.run(..., sfi=True)`.

The language runs in the client's process, where no plugin is loaded: `import sfi_sglang.frontend` installs this.
The value rides on the sampling parameters and reaches the server as `custom_params`.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import sglang

from sfi_sglang import sglang_symbols
from sfi_sglang.api.options import parse_sfi

Function = Callable[..., Any]


def install() -> None:
    """Patch the language once.

    Raises:
        LookupError: this SGLang's language lacks a name this module needs.
    """
    if getattr(sglang_symbols.resolve(sglang_symbols.GEN), "sfi", False):
        return
    for target in sglang_symbols.FRONTEND_TARGETS:
        sglang_symbols.resolve(target)
    wrappers: dict[str, Callable[[Function], Function]] = {
        sglang_symbols.GEN: _gen,
        sglang_symbols.PROGRAM_RUN: _program,
        sglang_symbols.PROGRAM_RUN_BATCH: _program,
        sglang_symbols.RUN_PROGRAM: _run_program,
        sglang_symbols.RUN_PROGRAM_BATCH: _run_program,
        sglang_symbols.RESOLVE_PARAMS: _resolve_params,
        sglang_symbols.SRT_KWARGS: _srt_kwargs,
    }
    for target, wrapper in wrappers.items():
        owner, name = target.rsplit(".", 1)
        setattr(sglang_symbols.resolve(owner), name, wrapper(sglang_symbols.resolve(target)))
    sglang.gen = sglang_symbols.resolve(sglang_symbols.GEN)
    sglang.gen.sfi = True


def _gen(original: Function) -> Function:
    @functools.wraps(original)
    def gen(*args: Any, sfi: Any = None, **kwargs: Any) -> Any:
        expression = original(*args, **kwargs)
        if sfi is not None:
            parse_sfi(sfi)
            if not hasattr(expression, "sampling_params"):
                raise ValueError("sfi: `choices` scores fixed texts and generates nothing")
            expression.sampling_params.sfi = sfi
        return expression

    return gen


def _program(original: Function) -> Function:
    """run and run_batch build their default parameters inside: hand `sfi` on through a copy of the program."""

    @functools.wraps(original)
    def run(self: Any, *args: Any, sfi: Any = None, **kwargs: Any) -> Any:
        parse_sfi(sfi)
        program = copy.copy(self)
        program.sfi = sfi
        return original(program, *args, **kwargs)

    return run


def _run_program(original: Function) -> Function:
    position = 1 if original.__name__ == "run_program" else 0  # of the parameters: after func_kwargs, or directly

    @functools.wraps(original)
    def run_program(program: Any, backend: Any, func_args: Any, *args: Any, **kwargs: Any) -> Any:
        args[position].sfi = getattr(program, "sfi", None)
        return original(program, backend, func_args, *args, **kwargs)

    return run_program


def _resolve_params(original: Function) -> Function:
    @functools.wraps(original)
    def resolve(self: Any, sampling_params: Any) -> Any:
        resolved = original(self, sampling_params)
        if (sfi := getattr(sampling_params, "sfi", None)) is not None:
            resolved.sfi = sfi
        return resolved

    return resolve


def _srt_kwargs(original: Function) -> Function:
    @functools.wraps(original)
    def to_srt_kwargs(self: Any) -> dict[str, Any]:
        kwargs: dict[str, Any] = original(self)
        if (sfi := getattr(self, "sfi", None)) is not None:
            kwargs["custom_params"] = {"sfi": sfi}
        return kwargs

    return to_srt_kwargs
