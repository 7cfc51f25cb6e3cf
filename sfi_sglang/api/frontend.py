"""`sfi=` in SGLang's frontend language: `sgl.gen("x", sfi=True)` and `program.run(..., sfi=True)`.

The language runs in the client's process, where no plugin is loaded: `import sfi_sglang.frontend` installs this.
The value rides on the sampling parameters and reaches the server as `custom_params`.
"""

import copy
import functools

import sglang

from sfi_sglang import sglang_symbols
from sfi_sglang.api.options import parse_sfi


def install() -> None:
    """Patch the language once.

    Raises:
        LookupError: this SGLang's language lacks a name this module needs.
    """
    if getattr(sglang_symbols.resolve(sglang_symbols.GEN), "sfi", False):
        return
    for target in sglang_symbols.FRONTEND_TARGETS:
        sglang_symbols.resolve(target)
    for target, wrapper in (
        (sglang_symbols.GEN, _gen),
        (sglang_symbols.PROGRAM_RUN, _program),
        (sglang_symbols.PROGRAM_RUN_BATCH, _program),
        (sglang_symbols.RUN_PROGRAM, _run_program),
        (sglang_symbols.RUN_PROGRAM_BATCH, _run_program),
        (sglang_symbols.RESOLVE_PARAMS, _resolve_params),
        (sglang_symbols.SRT_KWARGS, _srt_kwargs),
    ):
        owner, name = target.rsplit(".", 1)
        setattr(sglang_symbols.resolve(owner), name, wrapper(sglang_symbols.resolve(target)))
    sglang.gen = sglang_symbols.resolve(sglang_symbols.GEN)
    sglang.gen.sfi = True


def _gen(original):
    @functools.wraps(original)
    def gen(*args, sfi=None, **kwargs):
        expression = original(*args, **kwargs)
        if sfi is not None:
            parse_sfi(sfi)
            if not hasattr(expression, "sampling_params"):
                raise ValueError("sfi: `choices` scores fixed texts and generates nothing")
            expression.sampling_params.sfi = sfi
        return expression

    return gen


def _program(original):
    """run and run_batch build their default parameters inside: hand `sfi` on through a copy of the program."""

    @functools.wraps(original)
    def run(self, *args, sfi=None, **kwargs):
        parse_sfi(sfi)
        program = copy.copy(self)
        program.sfi = sfi
        return original(program, *args, **kwargs)

    return run


def _run_program(original):
    @functools.wraps(original)
    def run_program(program, backend, func_args, *args, **kwargs):
        position = 1 if original.__name__ == "run_program" else 0  # after func_kwargs, or directly
        args[position].sfi = getattr(program, "sfi", None)
        return original(program, backend, func_args, *args, **kwargs)

    return run_program


def _resolve_params(original):
    @functools.wraps(original)
    def resolve(self, sampling_params):
        resolved = original(self, sampling_params)
        if (sfi := getattr(sampling_params, "sfi", None)) is not None:
            resolved.sfi = sfi
        return resolved

    return resolve


def _srt_kwargs(original):
    @functools.wraps(original)
    def to_srt_kwargs(self):
        kwargs = original(self)
        if (sfi := getattr(self, "sfi", None)) is not None:
            kwargs["custom_params"] = {"sfi": sfi}
        return kwargs

    return to_srt_kwargs
