"""Admission: where a request's `sfi` value enters, is validated and becomes `custom_params["sfi"]`.

Every wrong value is a ValueError here, which SGLang answers with status 400; the scheduler only sees validated values.
"""

import json
from collections.abc import Sequence
from typing import Any

from pydantic.fields import FieldInfo

from sfi_sglang.api import exact
from sfi_sglang.api.options import SFIOptions, parse_sfi
from sfi_sglang.api.settings import Settings, switched_on

BACKEND = "sfi"
NAMESPACE = "|sfi-extend:"  # in an extra_key
# Ways of running a batch that do not pass through our plan as it stands.
UNTRIED = (
    "enable_dp_attention", "enable_two_batch_overlap", "enable_pdmux", "enable_mixed_chunk", "enable_unified_memory",
    "enable_hierarchical_cache",  # copies K and V between host and device behind the tree
    "enable_deterministic_inference",  # our kernels cut a row's work by what else is in the batch
)  # fmt: skip
GLUE_GRAPH = "SGLANG_ENABLE_METADATA_GLUE_GRAPH"  # repeats on the device what the host planned for an earlier pass
UNTRIED_SIZES = ("attn_cp_size", "dcp_size", "dp_size")


def open_openai_field(model: Any) -> None:
    """Give an OpenAI request model (pydantic) the field `sfi`, so that `extra_body={"sfi": ...}` is not dropped."""
    model.__annotations__["sfi"] = Any
    model.model_fields["sfi"] = FieldInfo(annotation=Any, default=None)
    model.model_rebuild(force=True)


def with_sfi(params: dict[str, Any], request: Any) -> dict[str, Any]:
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


def check_all(sampling_params: Any) -> None:
    """The values of a /generate request, of one item or a list: refused before a stream is answered with 200.

    Raises:
        ValueError: a value is wrong.
    """
    for one in sampling_params if isinstance(sampling_params, list) else [sampling_params]:
        custom = one.get("custom_params") if isinstance(one, dict) else getattr(one, "custom_params", None)
        if isinstance(custom, dict):
            parse_sfi(custom.get("sfi"))


def joined(params: dict[str, Any], preferred: str | dict[str, Any] | None) -> dict[str, Any]:
    """Sampling parameters over those of `--preferred-sampling-params`, as SGLang joins them after our gate. preferred:
    JSON, or parsed."""
    stated = json.loads(preferred) if isinstance(preferred, str) else preferred
    return {**(stated or {}), **params}


def admitted(
    params: dict[str, Any], settings: Settings, refusal: str | None
) -> tuple[dict[str, Any], SFIOptions | None]:
    """The sampling parameters as the scheduler shall see them, a copy, and the options (None: dense): the one gate that
    HTTP, Engine and batches all pass. refusal: why this server cannot serve SFI.

    Raises:
        ValueError: the value is wrong, or this server cannot serve it; the message says which.
    """
    custom = params.get("custom_params")
    value = custom.get("sfi") if isinstance(custom, dict) else None
    if value is None and settings.sfi_default:
        value = True
    options = parse_sfi(value)
    if options is None:
        if isinstance(custom, dict) and "sfi" in custom:
            others = {key: item for key, item in custom.items() if key != "sfi"}
            return {**params, "custom_params": others or None}, None
        return params, None
    if refusal:
        raise ValueError(f"sfi: not available on this server: {refusal}")
    if settings.resolved_executor() != "torch" and options.selected > settings.max_budget:
        raise ValueError(f"sfi.budget: this server allows up to {settings.max_budget} (--sfi-max-budget)")
    if settings.resolved_executor() != "torch" and (reason := options.torch_alone()):
        raise ValueError(f"{reason} and needs a server with --sfi-executor torch")
    if isinstance(beams := params.get("beam_width"), int) and beams > 1:
        raise ValueError("sfi: beam search (beam_width) is not supported")
    return {**params, "custom_params": {**(custom or {}), "sfi": options.flat()}}, options


def set_apart(tokenized: Any, *args: Any, **kwargs: Any) -> Any:
    """AFTER TokenizerManager._create_tokenized_object: approximate K and V get a namespace of their own in the prefix
    cache, which nobody reads without asking for it.

    Raises:
        ValueError: the request's own extra_key would reach one, or it does not generate.
    """
    key = getattr(tokenized, "extra_key", None) or ""
    if NAMESPACE in key:
        raise ValueError(f"extra_key: `{NAMESPACE}` is reserved for requests with sfi.extend")
    custom = getattr(tokenized.sampling_params, "custom_params", None)
    options = parse_sfi(custom.get("sfi") if isinstance(custom, dict) else None)
    if options is not None and options.namespace:
        if not hasattr(tokenized, "extra_key"):
            raise ValueError("sfi.extend: sparse is for requests that generate")
        tokenized.extra_key = f"{key}{NAMESPACE}{options.namespace}"
    return tokenized


def check_request(obj: Any, ids: Sequence[int] | None, embedded: bool, vocabulary: int) -> None:
    """What a GenerateReqInput that asks for SFI may not be. SGLang's scheduler, and with it the server, would die of a
    prompt that is empty or has unknown tokens. ids: of the prompt. embedded: it comes as embeddings. vocabulary: ids
    below it exist.

    Raises:
        ValueError: such a prompt, or a session.
    """
    if getattr(obj, "session_params", None) or getattr(obj, "session_id", None):
        raise ValueError("sfi: sessions are not supported")
    if not ids:
        if not embedded:
            raise ValueError("sfi: the prompt is empty")
    elif not 0 <= min(ids) <= max(ids) < vocabulary:
        raise ValueError(f"sfi: input_ids has a number outside of the vocabulary, 0 to {vocabulary - 1}")


def refusal_of(server_args: Any, problems: Sequence[str]) -> str | None:
    """Why SFI cannot run here, or None. A request that asks for it must never be served densely in silence. problems:
    what the plugin could not install."""
    if problems:
        return "; ".join(problems)
    if server_args.radix_cache_backend != BACKEND:
        return "start it with --enable-sfi (or `sfi-sglang serve`)"
    if server_args.disaggregation_mode != "null":
        return f"--disaggregation-mode {server_args.disaggregation_mode} is on"
    for size in UNTRIED_SIZES:
        if (getattr(server_args, size, None) or 1) > 1:
            return f"--{size.replace('_', '-')} is above 1"
    if server_args.speculative_algorithm and not exact.started_for(server_args):
        return "speculative decoding is on"
    if server_args.pp_size > 1:
        return "pipeline parallelism is on"
    for flag in UNTRIED:
        if getattr(server_args, flag, False):
            return f"--{flag.replace('_', '-')} is on"
    if switched_on(GLUE_GRAPH):
        return f"{GLUE_GRAPH} is on"
    return None
