"""Every SGLang internal this plugin touches, named once, and whether it is there.

SGLang only logs a plugin's exceptions, so a name that moved would leave a request silently dense. Therefore each
target is looked up when the plugin loads; SFI requests are refused with the name of what is missing, while dense
requests go on (api/admission.py).
"""

import pkgutil
from collections.abc import Sequence
from typing import Any

SRT = "sglang.srt"

# Imported by name: without these SGLang could not load the plugin or the platform.
HOOK_REGISTRY = f"{SRT}.plugins.hook_registry.HookRegistry.register"
HOOK_AROUND = f"{SRT}.plugins.hook_registry.HookType.AROUND"
CPU_DEVICE = f"{SRT}.platforms.cpu.CpuDeviceMixin"
PLATFORM_KIND = f"{SRT}.platforms.device_mixin.PlatformEnum.OOT"
PLATFORM_ATTENTION = f"{SRT}.platforms.interface.SRTPlatform.get_default_attention_backend"

# Wrapped by SGLang's own hook registry (srt/plugins/hook_registry.py).
CLI_ARGUMENTS = f"{SRT}.server_args.ServerArgs.add_cli_args"
CLI_PARSED = f"{SRT}.server_args.ServerArgs.from_cli_args"
CHAT_PARAMS = f"{SRT}.entrypoints.openai.protocol.ChatCompletionRequest.to_sampling_params"
COMPLETION_PARAMS = f"{SRT}.entrypoints.openai.serving_completions.OpenAIServingCompletion._build_sampling_params"
GENERATE_CONTRACT = "sglang.api.v1.api_types.GenerateRequest.from_json_value"
TOKENIZED = f"{SRT}.managers.tokenizer_manager.TokenizerManager._create_tokenized_object"
META_INFO = f"{SRT}.managers.tokenizer_manager.TokenizerManager.update_request_meta_info"
CHAT_STREAM = f"{SRT}.entrypoints.openai.serving_chat.OpenAIServingChat._generate_chat_stream"
COMPLETION_STREAM = f"{SRT}.entrypoints.openai.serving_completions.OpenAIServingCompletion._generate_completion_stream"
CHAT_RESPONSE = f"{SRT}.entrypoints.openai.serving_chat.OpenAIServingChat._build_chat_response"
COMPLETION_RESPONSE = f"{SRT}.entrypoints.openai.serving_completions.OpenAIServingCompletion._build_completion_response"
OPENAI_ERROR = f"{SRT}.entrypoints.openai.serving_base.OpenAIServingBase.create_error_response"
BEFORE_LISTENING = f"{SRT}.utils.common.set_uvicorn_logging_configs"  # of the HTTP server, right before it runs
GENERATE = f"{SRT}.managers.tokenizer_manager.TokenizerManager.generate_request"
RUN_BATCH = f"{SRT}.managers.scheduler.Scheduler.run_batch"
GRAPH_VARIANTS = f"{SRT}.model_executor.runner.decode_cuda_graph_runner.create_attention_graph_variants"
MODEL_FORWARD = f"{SRT}.model_executor.model_runner.ModelRunner.forward"
EAGER_LOAD = f"{SRT}.model_executor.runner.eager_runner.EagerRunner.load_batch"
WRAP_BACKEND = f"{SRT}.model_executor.model_runner_components.attention_backend_setup.attn_backend_wrapper"
INIT_INFO = f"{SRT}.managers.scheduler.Scheduler.get_init_info"
SCHEDULERS_READY = f"{SRT}.entrypoints.engine._wait_for_scheduler_ready"
RESPONSE_INFO = (
    f"{SRT}.managers.scheduler_components.output_streamer.SchedulerOutputStreamer.build_additional_customized_info"
)

# Used, subclassed or extended in place.
CHAT_REQUEST = f"{SRT}.entrypoints.openai.protocol.ChatCompletionRequest"
COMPLETION_REQUEST = f"{SRT}.entrypoints.openai.protocol.CompletionRequest"
CONTRACT_ERROR = "sglang.api.v1.api_types.JsonContractError"
STREAMER = f"{SRT}.managers.scheduler_components.output_streamer.SchedulerOutputStreamer"
HAS_RESPONSE_INFO = f"{STREAMER}.has_additional_customized_info"
BACKEND_CHOICES = f"{SRT}.server_args.add_attention_backend_choices"
BACKEND_REGISTRY = f"{SRT}.layers.attention.attention_registry.register_attention_backend"
CACHE_REGISTRY = f"{SRT}.mem_cache.registry.register_radix_cache_backend"
CACHE_FACTORY = f"{SRT}.mem_cache.registry.create_unified_radix_cache"
BASE_BACKEND = f"{SRT}.layers.attention.torch_native_backend.TorchNativeAttnBackend"
BASE_CACHE = f"{SRT}.mem_cache.unified_radix_cache.UnifiedRadixCache"
BACKENDS = f"{SRT}.layers.attention.attention_registry.ATTENTION_BACKENDS"
READ_ENDS = f"{SRT}.layers.attention.base_attn_backend.SharedReadEnds.POST_REPLAY"
CAPTURED_VARIANT = f"{SRT}.model_executor.runner_utils.capture_mode.get_capture_attention_variant"
RADIX_ATTENTION = f"{SRT}.layers.radix_attention.RadixAttention"
KV_POOL = f"{SRT}.mem_cache.memory_pool.MHATokenToKVPool"
WINDOW_POOL = f"{SRT}.mem_cache.swa_memory_pool.SWAKVPool"
WINDOW_SLOTS = f"{WINDOW_POOL}.translate_loc_from_full_to_swa"
LINE_POOL = f"{SRT}.mem_cache.memory_pool.ReqToTokenPool"
STATE_POOL = f"{SRT}.mem_cache.memory_pool.HybridLinearKVPool"
DELTA_NET = f"{SRT}.configs.hybrid_arch.hybrid_gdn_config"  # None for models without
STATE_LINES = f"{SRT}.mem_cache.memory_pool.HybridReqToTokenPool"
WEIGHT_UPDATER = f"{SRT}.managers.scheduler_components.weight_updater.SchedulerWeightUpdaterManager"
NEW_WEIGHTS = f"{WEIGHT_UPDATER}.flush_cache_after_weight_update"  # whatever they came from, also without a flush
KV_WRITE = f"{SRT}.mem_cache.memory_pool.KVWriteLoc.for_batch"
FINISH_ABORT = f"{SRT}.managers.schedule_batch.FINISH_ABORT"
POOL_ROW = f"{SRT}.managers.schedule_batch.ReqKvInfo.req_pool_idx"
PARALLEL = f"{SRT}.runtime_context.get_parallel"
EXECUTION = f"{SRT}.runtime_context.get_exec"
OBSERVABILITY = f"{SRT}.runtime_context.get_observability"
CACHE_MATCH = f"{BASE_CACHE}.match_prefix"
CACHE_RELEASE = f"{BASE_CACHE}.on_release"
CACHE_CHECKPOINT = f"{BASE_CACHE}.checkpoint"
CACHE_STATES = f"{SRT}.mem_cache.unified_radix_cache.UnifiedRadixCache.supports_mamba"
KEPT_STATES = f"{SRT}.mem_cache.cache_init_params.CacheInitParams.enable_mamba_extra_buffer"
PROTECTED_LENGTH = f"{SRT}.managers.schedule_batch.ReqKvInfo.cache_protected_len"
CACHE_RESET = f"{BASE_CACHE}.reset"
# Ours stands in place of such a backend: a method that SGLang renamed would pass it by.
STOCK_BACKEND = f"{SRT}.layers.attention.base_attn_backend.AttentionBackend"
BACKEND_METHODS = (
    f"{STOCK_BACKEND}.init_forward_metadata",
    f"{STOCK_BACKEND}.init_forward_metadata_out_graph",
    f"{STOCK_BACKEND}.init_forward_metadata_in_graph",
    f"{STOCK_BACKEND}.shared_read_ends",
    f"{STOCK_BACKEND}.forward",
    f"{STOCK_BACKEND}.forward_decode",
    f"{STOCK_BACKEND}.forward_extend",
)

# Of `exact` (integration/speculation.py); without them SFI requests are served and `exact` alone is refused.
SPECULATION = f"{SRT}.speculative.spec_info.SpeculativeAlgorithm"
SPEC_REGISTER, SPEC_FUTURES = f"{SPECULATION}.register", f"{SPECULATION}.create_future_map"
SPEC_CLASS = f"{SRT}.speculative.spec_registry.CustomSpecAlgo"
SPEC_INPUT, SPEC_STATE = (
    f"{SRT}.speculative.spec_info.SpecInput",
    f"{SRT}.speculative.spec_info.SpecInputType.UNO_STATE",
)
SPEC_WORKER = f"{SRT}.speculative.base_spec_worker.BaseSpecWorker"
SPEC_READ = f"{SPEC_WORKER}.on_verify_complete_cpu"
SPEC_PREPARE = f"{SRT}.speculative.spec_utils.spec_prepare_for_decode"
SPEC_NEEDED = f"{SRT}.managers.schedule_batch.ScheduleBatch._new_tokens_required_next_decode_spec_v2"
SPEC_LENGTHS = f"{SRT}.managers.overlap_utils.FutureMap.resolve_seq_lens_cpu"
ALLOC_SLOTS = f"{SRT}.mem_cache.allocation.alloc_token_slots"
FINISH_STATE = f"{SRT}.managers.schedule_batch.Req.update_finish_state"
STREAM_ACCEPT = f"{SRT}.managers.scheduler_components.output_streamer._GenerationStreamAccumulator.accept"
KV_MOVES = f"{KV_POOL}._init_kv_copy_and_warmup"
LOGPROBS = f"{SRT}.layers.logprob_processor"
OUTPUT_LOGPROBS, LOGPROB_RESULT = f"{LOGPROBS}.OutputLogprobProcessor.compute_logprobs", f"{LOGPROBS}.LogprobResult"
UNSCALED_LOGPROBS = f"{SRT}.layers.sampler.SGLANG_RETURN_ORIGINAL_LOGPROB"
GRAMMAR = f"{SRT}.constrained.base_grammar_backend.BaseGrammarObject"
ROLLBACK, FILL_MASK, TERMINATED = (f"{GRAMMAR}.{name}" for name in ("rollback", "fill_vocab_mask", "is_terminated"))

# Wrapped where it is there; without it requests are served as well, only later (integration/token_cache.py).
PROMPT_ENCODE = f"{SRT}.entrypoints.openai.parallel_prompt_encode.parallel_prompt_encode"
# Called where it is there; without it sparse extend takes longer (attention/flash_*.py).
FLASH_ATTENTION = "sglang.kernels.ops.attention.flash_attention_v3.flash_attn_with_kvcache"

# Looked up in the process of the HTTP server alone: schedulers need not load it.
HTTP_APP = f"{SRT}.entrypoints.http_server.app"

# The frontend language, patched in the client's process (api/frontend.py).
GEN = "sglang.lang.api.gen"
PROGRAM_RUN = "sglang.lang.ir.SglFunction.run"
PROGRAM_RUN_BATCH = "sglang.lang.ir.SglFunction.run_batch"
RUN_PROGRAM = "sglang.lang.interpreter.run_program"
RUN_PROGRAM_BATCH = "sglang.lang.interpreter.run_program_batch"
RESOLVE_PARAMS = "sglang.lang.interpreter.StreamExecutor._resolve_sampling_params"
SRT_KWARGS = "sglang.lang.ir.SglSamplingParams.to_srt_kwargs"

LOADING_TARGETS = (HOOK_REGISTRY, HOOK_AROUND, CPU_DEVICE, PLATFORM_KIND, PLATFORM_ATTENTION)
SERVER_TARGETS = (
    CLI_ARGUMENTS, CLI_PARSED, CHAT_PARAMS, COMPLETION_PARAMS, GENERATE_CONTRACT, TOKENIZED, META_INFO, RUN_BATCH,
    CHAT_STREAM, COMPLETION_STREAM, CHAT_RESPONSE, COMPLETION_RESPONSE, OPENAI_ERROR, BEFORE_LISTENING,
    GENERATE, RESPONSE_INFO, CHAT_REQUEST, COMPLETION_REQUEST, CONTRACT_ERROR, HAS_RESPONSE_INFO, BACKEND_CHOICES,
    BACKEND_REGISTRY, CACHE_REGISTRY, CACHE_FACTORY, BASE_BACKEND, CACHE_MATCH, CACHE_RELEASE, CACHE_CHECKPOINT,
    CACHE_RESET, PROTECTED_LENGTH, CACHE_STATES, KEPT_STATES,
    GRAPH_VARIANTS, MODEL_FORWARD, EAGER_LOAD, WRAP_BACKEND, BACKENDS, READ_ENDS, CAPTURED_VARIANT,
    INIT_INFO, SCHEDULERS_READY, RADIX_ATTENTION, KV_POOL, WINDOW_POOL, WINDOW_SLOTS, LINE_POOL,
    STATE_POOL, STATE_LINES, DELTA_NET, KV_WRITE, FINISH_ABORT, OBSERVABILITY, EXECUTION,
    PARALLEL, POOL_ROW, NEW_WEIGHTS, *BACKEND_METHODS,
)  # fmt: skip
EXACT_TARGETS = (
    SPEC_REGISTER, SPEC_FUTURES, SPEC_CLASS, SPEC_INPUT, SPEC_STATE, SPEC_WORKER, SPEC_READ, SPEC_PREPARE, SPEC_NEEDED,
    SPEC_LENGTHS, ALLOC_SLOTS, FINISH_STATE, STREAM_ACCEPT, KV_MOVES, OUTPUT_LOGPROBS, LOGPROB_RESULT, ROLLBACK,
    FILL_MASK, TERMINATED, UNSCALED_LOGPROBS,
)  # fmt: skip
APP_TARGETS = (HTTP_APP,)
OPTIONAL_TARGETS = (PROMPT_ENCODE, FLASH_ATTENTION)
FRONTEND_TARGETS = (GEN, PROGRAM_RUN, PROGRAM_RUN_BATCH, RUN_PROGRAM, RUN_PROGRAM_BATCH, RESOLVE_PARAMS, SRT_KWARGS)


def needed() -> tuple[str, ...]:
    """All without which something is refused."""
    return (*LOADING_TARGETS, *SERVER_TARGETS, *APP_TARGETS, *EXACT_TARGETS, *FRONTEND_TARGETS)


def resolve(target: str) -> Any:
    """The object behind a dotted name.

    Raises:
        LookupError: SGLang has no such name.
    """
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"this SGLang has no `{target}`") from error


def exists(target: str) -> bool:
    try:
        resolve(target)
    except LookupError:
        return False
    return True


def missing(targets: Sequence[str] | None = None) -> list[str]:
    """Those that SGLang lacks, of `targets` or of all that a server needs."""
    return [target for target in (targets or SERVER_TARGETS) if not exists(target)]
