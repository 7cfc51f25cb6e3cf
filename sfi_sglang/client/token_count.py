"""Token counters: a local tokenizer, the served model's own, or an estimate calibrated on the server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from tokenizers import Tokenizer

from sfi_sglang.client.call import Message, reasoning_of

Count = Callable[[str], int]  # tokens of a text, without special tokens

MESSAGE_TOKENS = (
    5  # what chat templates put around one message; ChatML: <|im_start|> role newline ... <|im_end|> newline
)
CHARACTERS_PER_TOKEN = 4.0
TIMEOUT = 60.0  # seconds


def from_tokenizer(path: Path) -> Count:
    """Counts with a tokenizer.json, or with the one in a model's folder.

    Raises:
        FileNotFoundError: there is none at `path`.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no tokenizer at {file}")
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def estimate(characters_per_token: float = CHARACTERS_PER_TOKEN) -> Count:
    """Counts characters, for a tokenizer that cannot be had. The default is usual for English text."""
    return lambda text: round(len(text) / characters_per_token)


def from_server(url: str, model: str, sample: str) -> Count:
    """The served model's tokenizer if its folder is on this machine, else `calibrated`."""
    folder = model_folder(url)
    if folder and (folder / "tokenizer.json").is_file():
        return from_tokenizer(folder)
    return calibrated(url, model, sample)


def of_served_model(url: str) -> Count:
    """Counts with the tokenizer of the model that an SGLang server at `url` serves from this machine.

    Raises:
        FileNotFoundError: its folder is not here.
    """
    return from_tokenizer(model_folder(url) or Path())


def model_folder(url: str) -> Path | None:
    """Where an SGLang server has its model from; None from other servers."""
    answer = requests.get(f"{url}/model_info", timeout=TIMEOUT)
    return Path(answer.json()["model_path"]) if answer.ok else None


def calibrated(url: str, model: str, sample: str) -> Count:
    """An estimate from what the server counts for `sample`, a text like the workload's of 1K tokens or more.

    Two requests of one output token each: the difference of their prompts is the sample, without the chat template.

    Raises:
        requests.RequestException: no answer, or a refused request.
    """
    empty, full = (_prompt_tokens(url, model, text) for text in ("a", f"a\n{sample}"))
    return estimate(len(sample) / (full - empty))


def _prompt_tokens(url: str, model: str, text: str) -> int:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
    answer = requests.post(f"{url}/v1/chat/completions", json=body, timeout=TIMEOUT)
    answer.raise_for_status()
    return int(answer.json()["usage"]["prompt_tokens"])


def message_tokens(message: Message, count: Count) -> int:
    """Tokens of a chat message in a prompt, with about MESSAGE_TOKENS for the template around it.

    Tool calls count where there is no text: with text, templates differ in whether they repeat the calls.
    """
    return count(text_of(message)) + MESSAGE_TOKENS


def reply_tokens(message: Message, count: Count) -> int:
    """Tokens that a model wrote for an assistant's message, its reasoning too, which later prompts leave out."""
    return max(count(reasoning_of(message)) + count(text_of(message)), 1)


def text_of(message: Message) -> str:
    """The content of a chat message; text parts joined, tool calls as JSON where it has none."""
    content: Any = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    calls = message.get("tool_calls")
    return content or ("\n".join(json.dumps(call.get("function")) for call in calls) if calls else "")
