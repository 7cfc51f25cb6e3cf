"""Plain greedy text from SGLang's own `/generate`, for the evals."""

from typing import Any

import requests

from sfi_sglang.client.endpoint import no_answer

TIMEOUT = 600.0  # seconds; a long prompt on a slow machine


def generate(
    url: str,
    prompt: str,
    tokens: int,
    sfi: dict[str, Any] | bool,
    *,
    ignore_eos: bool = False,
    extra_key: str | None = None,
) -> dict[str, Any]:
    """The answer's `text` and `meta_info`. tokens: at most; exactly with `ignore_eos`. extra_key: prefixes are shared
    among requests of one key only.

    Raises:
        ConnectionError: no answer.
        RuntimeError: the server refused, with its reason.
    """
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": ignore_eos, "custom_params": {"sfi": sfi}}
    body: dict[str, Any] = {"text": prompt, "sampling_params": sampling, "extra_key": extra_key}
    try:
        reply = requests.post(f"{url}/generate", json=body, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise no_answer(f"{url}/generate", error) from None
    if not reply.ok:
        raise RuntimeError(f"server: {url}/generate refused: {_reason(reply)}")
    answer: dict[str, Any] = reply.json()
    return answer


def _reason(reply: requests.Response) -> str:
    """What an error's body says; its status where it says nothing."""
    try:
        error = reply.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (requests.JSONDecodeError, LookupError, TypeError):
        return f"HTTP {reply.status_code}"
