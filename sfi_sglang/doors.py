"""The server's doors: where a request's `sfi` value enters, is validated and becomes `custom_params["sfi"]`.

Every wrong value is a ValueError here, which SGLang answers with status 400; the scheduler only sees validated values.
"""

from typing import Any

from pydantic.fields import FieldInfo

from sfi_sglang import config, hooks
from sfi_sglang.options import parse_sfi

BACKEND = "sfi"
# Ways of running a batch that do not pass through our plan as it stands.
UNTRIED = ("enable_dp_attention", "enable_two_batch_overlap", "enable_pdmux", "enable_mixed_chunk")


def open_openai_field(model: Any) -> None:
    """Give an OpenAI request model (pydantic) the field `sfi`, so that `extra_body={"sfi": ...}` is not dropped."""
    model.__annotations__["sfi"] = Any
    model.model_fields["sfi"] = FieldInfo(annotation=Any, default=None)
    model.model_rebuild(force=True)


def chat_params(params: dict, request, *args, **kwargs) -> dict:
    """AFTER ChatCompletionRequest.to_sampling_params."""
    return with_sfi(params, request)


def completion_params(params: dict, serving, request, *args, **kwargs) -> dict:
    """AFTER OpenAIServingCompletion._build_sampling_params."""
    return with_sfi(params, request)


def with_sfi(params: dict, request) -> dict:
    """Move an OpenAI request's `sfi` into its custom_params, validated before a stream could start."""
    value = getattr(request, "sfi", None)
    custom = params.get("custom_params")
    if value is not None:
        if isinstance(custom, dict) and "sfi" in custom:
            raise ValueError("sfi: given both at the top level and in custom_params")
        params["custom_params"] = custom = {**(custom or {}), "sfi": value}
    if isinstance(custom, dict):
        parse_sfi(custom.get("sfi"))
    return params


def check_contract(request, *args, **kwargs) -> None:
    """AFTER GenerateRequest.from_json_value: /generate refuses bad values before it answers a stream with 200."""
    params = request.sampling_params
    for one in params if isinstance(params, list) else [params]:
        custom = one.get("custom_params") if isinstance(one, dict) else getattr(one, "custom_params", None)
        if isinstance(custom, dict):
            try:
                parse_sfi(custom.get("sfi"))
            except ValueError as error:
                raise hooks.resolve(hooks.CONTRACT_ERROR)(str(error)) from None


def admit(manager, obj, *args, **kwargs) -> None:
    """BEFORE TokenizerManager._create_tokenized_object: the one gate that HTTP, Engine and batches all pass.

    Raises:
        ValueError: the value is wrong, or this server cannot serve SFI; the message says which.
    """
    params = getattr(obj, "sampling_params", None)
    if not isinstance(params, dict):
        return
    custom = params.get("custom_params")
    value = custom.get("sfi") if isinstance(custom, dict) else None
    if value is None and config.sfi_default():
        value = True
    options = parse_sfi(value)
    if options is None:
        if isinstance(custom, dict) and "sfi" in custom:
            params["custom_params"] = {key: item for key, item in custom.items() if key != "sfi"} or None
        return
    if reason := unavailable(manager.server_args, manager.model_config):
        raise ValueError(f"sfi: not available on this server: {reason}")
    if config.executor() != "torch" and options.selected > config.max_budget():
        raise ValueError(f"sfi.budget: this server allows up to {config.max_budget()} (--sfi-max-budget)")
    if (params.get("beam_width") or 1) > 1:
        raise ValueError("sfi: beam search (beam_width) is not supported")
    params["custom_params"] = {**(custom or {}), "sfi": options.flat()}


def unavailable(server_args, model_config) -> str | None:
    """Why SFI cannot run here, or None. A request that asks for it must never be served densely in silence."""
    if hooks.missing:
        return f"this SGLang has no {', '.join(f'`{name}`' for name in hooks.missing)}"
    decode = server_args.decode_attention_backend or server_args.attention_backend
    if decode != BACKEND:
        return "start it with --decode-attention-backend sfi --radix-cache-backend sfi (or `sfi-sglang serve`)"
    if server_args.speculative_algorithm:
        return "speculative decoding is on"
    if server_args.pp_size > 1:
        return "pipeline parallelism is on"
    for flag in UNTRIED:
        if getattr(server_args, flag, False):
            return f"--{flag.replace('_', '-')} is on"
    if model_config.attention_arch.name != "MHA":
        return f"the model's attention is {model_config.attention_arch.name}, not multi-head or grouped-query"
    if getattr(model_config, "is_hybrid_swa", False):
        return "the model has sliding-window layers"
    if getattr(model_config, "is_encoder_decoder", False):
        return "the model is an encoder-decoder"
    return None
