"""The HTTP doors: a request whose body says `sfi` enters where that is read, everywhere else it is refused.

SGLang's request models drop fields that they do not know, so a path that is not listed here is taken for closed.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Their bodies are not looked at here: admission reads `sfi` from the requests that they make.
OPEN = frozenset({"/v1/chat/completions", "/v1/completions", "/invocations", "/generate"})
METHODS = frozenset({"POST", "PUT"})
FIELD = b'"sfi"'
NATIVE = "sampling_params.custom_params.sfi"
ELSEWHERE = (
    f"/v1/chat/completions, /v1/completions and /invocations do, /generate does as {NATIVE}; for the other endpoints "
    "that generate, start the server with --sfi-default on"
)
INSTEAD = {"/generate": f"give {NATIVE}", "/vertex_generate": f"give parameters.{NATIVE}"}


def refusal_at(path: str) -> str:
    """Why a top-level `sfi` is refused there, and what to do instead."""
    return f"sfi: {path} takes no such field: {INSTEAD.get(path, ELSEWHERE)}"


def put_on(app: Any, problems: Sequence[str]) -> None:
    """Put the doors on a FastAPI app that does not run yet, behind all its other middleware: behind authentication, and
    where a compressed body is plain. problems: why SFI is not available here; with any, every door is closed."""
    app.add_middleware(Doors, problems=problems)
    app.user_middleware.append(app.user_middleware.pop(0))


class Doors:
    """ASGI middleware. It reads the body of a POST or PUT at a closed door, and hands on unchanged what it has read."""

    def __init__(self, app: App, problems: Sequence[str] = ()) -> None:
        self.app, self.problems = app, problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in METHODS:
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path in OPEN and not self.problems:
            return await self.app(scope, receive, send)
        messages = deque([await receive()])
        while messages[-1].get("more_body"):  # a client that goes away ends this too
            messages.append(await receive())
        if says_sfi(b"".join(message.get("body", b"") for message in messages)):
            return await answer(send, self._refusal(path))

        async def read_again() -> Message:
            return messages.popleft() if messages else await receive()

        return await self.app(scope, read_again, send)

    def _refusal(self, path: str) -> str:
        problems = "; ".join(self.problems)
        return f"sfi: not available on this server: {problems}" if problems else refusal_at(path)


async def answer(send: Send, message: str) -> None:
    """Status 400, in the form that the clients of OpenAI and of Anthropic read."""
    error = {"message": message, "type": "invalid_request_error", "param": "sfi", "code": 400}
    body = json.dumps({"type": "error", "error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def says_sfi(body: bytes) -> bool:
    """Is it a JSON object with a value for `sfi`? Null is none, as where `sfi` is read."""
    if FIELD not in body:
        return False
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("sfi") is not None
