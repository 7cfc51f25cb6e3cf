"""Entry point `sglang.srt.plugins`: SGLang calls `register` in every process it starts, before arguments are parsed."""

import logging

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from sfi_sglang import config, doors, hooks
from sfi_sglang.plan import Planner
from sfi_sglang.store import MemoryStore

logger = logging.getLogger(__name__)
planner = Planner(MemoryStore(config.memory_bytes()))  # one scheduler, one attention backend: they meet here


def register() -> None:
    """Install what this SGLang offers; refuse SFI requests (doors.unavailable) if anything is missing."""
    for target in hooks.check():
        logger.error("SFI requests will be refused: this SGLang has no %s", target)
    installers = (_register_arguments, _register_backends, _register_doors, _register_scheduler)
    for install in installers:
        try:
            install()
        except Exception as error:  # SGLang would only log it, and SFI requests would run dense
            logger.exception("SFI requests will be refused: %s failed", install.__name__)
            hooks.missing.append(f"{install.__name__}: {error}")


def _hook(target: str, function, kind: HookType) -> None:
    if hooks.exists(target):
        HookRegistry.register(target, function, kind)


def _register_arguments() -> None:
    _hook(hooks.CLI_ARGUMENTS, lambda _, parser: config.add_arguments(parser), HookType.AFTER)
    _hook(hooks.CLI_PARSED, lambda _cls, args: config.keep_arguments(args), HookType.BEFORE)


def _register_backends() -> None:
    hooks.resolve(hooks.BACKEND_CHOICES)([doors.BACKEND])
    hooks.resolve(hooks.BACKEND_REGISTRY)(doors.BACKEND)(_attention_backend)
    hooks.resolve(hooks.CACHE_REGISTRY)(doors.BACKEND, _radix_cache)


def _attention_backend(runner):
    """`--attention-backend sfi` or, on CUDA, `--decode-attention-backend sfi`."""
    config.check_executor()
    if config.executor() == "torch":
        from sfi_sglang.torch_backend import SFITorchBackend

        return SFITorchBackend(runner, planner)
    from sfi_sglang.triton_backend import SFITritonBackend

    return SFITritonBackend(runner, planner)


def _radix_cache(context):
    from sfi_sglang.radix import SFIRadixCache

    cache = hooks.resolve(hooks.CACHE_FACTORY)(context, cache_class=SFIRadixCache)
    cache.store = planner.store
    return cache


def _register_doors() -> None:
    for model in (hooks.CHAT_REQUEST, hooks.COMPLETION_REQUEST):
        doors.open_openai_field(hooks.resolve(model))
    _hook(hooks.CHAT_PARAMS, doors.chat_params, HookType.AFTER)
    _hook(hooks.COMPLETION_PARAMS, doors.completion_params, HookType.AFTER)
    _hook(hooks.GENERATE_CONTRACT, doors.check_contract, HookType.AFTER)
    _hook(hooks.TOKENIZED, doors.admit, HookType.BEFORE)


def _register_scheduler() -> None:
    from sfi_sglang import responses

    _hook(hooks.RUN_BATCH, _plan_batch, HookType.BEFORE)
    _hook(hooks.META_INFO, responses.attach_info, HookType.AROUND)
    for stream in (hooks.CHAT_STREAM, hooks.COMPLETION_STREAM):
        _hook(stream, responses.stream_report, HookType.AFTER)
    if config.executor() != "torch":
        from sfi_sglang import triton_backend

        _hook(hooks.GRAPH_VARIANTS, triton_backend.graph_variants, HookType.AROUND)
        _hook(hooks.HYBRID_FORWARD, triton_backend.observe_prefill, HookType.AFTER)
    if hooks.exists(hooks.RESPONSE_INFO) and hooks.exists(hooks.HAS_RESPONSE_INFO):
        HookRegistry.register(hooks.RESPONSE_INFO, responses.build_info, HookType.REPLACE)
        hooks.resolve(hooks.STREAMER).has_additional_customized_info = True


def _plan_batch(scheduler, batch, *args, **kwargs) -> None:
    """BEFORE Scheduler.run_batch. An error here may cost the SFI requests of the batch, never the server."""
    try:
        planner.read_vocabulary(scheduler)
        planner.plan(batch)
    except Exception as error:
        logger.exception("SFI planning failed")
        planner.abort(batch, f"sfi: planning failed: {error!r}")
