"""One streamed chat completion over the `openai` client, and when each piece of it came."""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import openai.resources.chat.completions  # openai would load it within the first request's time

from sfi_sglang import TIMING_HEADER
from sfi_sglang.client.call import Message, reasoning_of

TIMEOUT, RETRIES = 300.0, 2


class BrokenStream(openai.APIConnectionError):
    """The stream ended before the reply did."""


@dataclass
class Reply:
    """The assistant's message and its cost. began: time.perf_counter() at the request; ended and arrivals (of chunks
    that carried text): seconds after it. sfi: the server's report, None from others and on dense requests. timing: what
    the server says it spent, seconds of `queue` and `prefill`; empty from others.

    Servers hold the text of a tool call back until they have parsed a part of it, and its last part is no text: in a
    reply with calls, the chunks that open and close the message count as arrivals too.
    """

    message: Message
    finish_reason: str | None
    began: float
    ended: float
    arrivals: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    sfi: dict[str, Any] | None = None
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def decode_seconds(self) -> float:
        """From the first token to the last."""
        return self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0


def make_client(url: str, timeout: float = TIMEOUT, retries: int = RETRIES) -> openai.OpenAI:
    """A client of the server at `url`. timeout: seconds without a byte. retries: of a request that got no answer, a
    timeout or a status of 408, 409, 429 or 5xx."""
    key = os.environ.get("OPENAI_API_KEY", "none")
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=timeout, max_retries=retries)


def chat(client: openai.OpenAI, **request: Any) -> Reply:
    """Send `request` (arguments of chat.completions.create) as a stream and collect it.

    Bytes are only timed as they come and read afterwards: a server on the same processors feels the parsing.

    Raises:
        openai.OpenAIError: no answer, a refused request, an error in the stream, or a stream that broke off.
    """
    began = time.perf_counter()
    pieces: list[tuple[float, bytes]] = []
    with client.chat.completions.with_streaming_response.create(
        stream=True, stream_options={"include_usage": True}, extra_headers={TIMING_HEADER: "1"}, **request
    ) as response:
        try:
            pieces.extend((time.perf_counter() - began, piece) for piece in response.iter_bytes())
        except httpx.TimeoutException as error:
            raise openai.APITimeoutError(request=response.http_request) from error
        except httpx.TransportError as error:
            raise BrokenStream(message=str(error), request=response.http_request) from error
        ended = time.perf_counter() - began
        reply = _read(_lines(pieces), response.http_request)
    reply.began, reply.ended = began, ended
    return reply


def _lines(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Lines with the time of the piece that ended them. They end at CR and LF alone: the text in them may hold all
    else that Python, and httpx, takes for a line's end."""
    rest, now = b"", 0.0
    for now, piece in pieces:
        *whole, rest = re.split(rb"[\r\n]", rest + piece)
        yield from ((now, line) for line in whole)
    yield now, rest


def _read(lines: Iterable[tuple[float, bytes]], request: httpx.Request) -> Reply:
    """
    Raises:
        openai.APIError: the stream holds an error.
        BrokenStream: it ended before the reply did.
    """
    reply = Reply({"role": "assistant", "content": ""}, None, 0.0, 0.0)
    calls: dict[int, dict[str, Any]] = {}
    edges: list[float] = []
    for now, line in lines:
        if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
            continue
        try:
            chunk = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            break  # cut in the middle
        if not isinstance(chunk, dict):
            break
        if error := chunk.get("error"):
            raise openai.APIError(_message(error), request, body=error)
        if chunk.get("usage"):
            _account(reply, chunk)
        for choice in chunk.get("choices") or []:
            reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
            delta = choice.get("delta") or {}
            # SGLang announces the role in a chunk of its own, with empty text, when the first token is there.
            spoken = delta.get("content") or delta.get("tool_calls") or reasoning_of(delta)
            (reply.arrivals if spoken else edges).append(now)
            reply.message["content"] += delta.get("content") or ""
            for piece in delta.get("tool_calls") or []:
                _collect(calls, piece)
    if reply.finish_reason is None:
        raise BrokenStream(message="the stream ended before the reply did", request=request)
    reply.message["content"] = _whole(reply.message["content"])
    if calls:
        for call in calls.values():
            call["function"]["arguments"] = _whole(call["function"]["arguments"])
        reply.message["tool_calls"] = [calls[index] for index in sorted(calls)]
        reply.arrivals = sorted([*edges, *reply.arrivals])
    return reply


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _whole(text: str) -> str:
    """Servers that cut texts between UTF-16 units send a character's halves apart; a half alone cannot be sent back."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _account(reply: Reply, chunk: dict[str, Any]) -> None:
    usage = chunk["usage"]
    reply.prompt_tokens, reply.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
    reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    reply.sfi, reply.timing = chunk.get("sfi"), chunk.get("timing") or {}


def _collect(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add a streamed piece of a tool call: the id and name come once, the arguments in parts."""
    call = calls.setdefault(piece["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function") or {}
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""
