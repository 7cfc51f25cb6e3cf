"""Plain greedy text from SGLang's own `/generate`, for the evals."""

from typing import Any

import requests

from sfi_sglang.client.endpoint import no_answer

TIMEOUT = 600.0  # seconds; a long prompt on a slow machine


class Refusal(RuntimeError):
    """A request that the server did not take. status: of HTTP. reason: the server's own words, if it has any."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"server: {url} refused: {reason}")
        self.status, self.reason = status, reason


def generate(
    url: str,
    prompt: str | list[int],
    tokens: int,
    sfi: dict[str, Any] | bool,
    *,
    ignore_eos: bool = False,
    extra_key: str | None = None,
    regex: str | None = None,
    logprobs: int | None = None,
    logprobs_from: int = -1,
) -> dict[str, Any]:
    """The answer's `text` and `meta_info`. prompt: text or token ids. tokens: at most; exactly with `ignore_eos`.
    extra_key: prefixes are shared among requests of one key only. logprobs: how many alternatives a position (None: no
    log-probabilities); logprobs_from: first position of the prompt that has them, -1 for none of it.

    Raises:
        ConnectionError: no answer.
        Refusal: the server did not take it.
    """
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": ignore_eos, "custom_params": {"sfi": sfi}}
    body: dict[str, Any] = {
        "text" if isinstance(prompt, str) else "input_ids": prompt,
        "sampling_params": {**sampling, "regex": regex},
        "extra_key": extra_key,
    }
    if logprobs is not None:
        body |= {"return_logprob": True, "top_logprobs_num": logprobs, "logprob_start_len": logprobs_from}
    try:
        reply = requests.post(f"{url}/generate", json=body, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise no_answer(f"{url}/generate", error) from None
    if not reply.ok:
        raise Refusal(f"{url}/generate", reply.status_code, _reason(reply))
    answer: dict[str, Any] = reply.json()
    return answer


def _reason(reply: requests.Response) -> str:
    """What an error's body says; its status where it says nothing."""
    try:
        error = reply.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (requests.JSONDecodeError, LookupError, TypeError):
        return f"HTTP {reply.status_code}"
