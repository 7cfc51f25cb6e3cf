"""Conversations as files hold them: chat messages of the OpenAI API, checked as far as they are read or sent on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sfi_sglang.client.call import REASONING, Message
from sfi_sglang.client.json_text import FieldError, Json, Step, read_json

ROLES = ("system", "developer", "user", "assistant", "tool")
SUFFIXES = (".json", ".json.gz")  # of transcripts in a folder


def check_message(message: Message) -> Message:
    """
    Raises:
        FieldError: no role, or content or calls that servers and templates do not take.
    """
    _need(message.get("role") in ROLES, f"needs a role, one of {', '.join(ROLES)}", "role")
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, list):
        for number, part in enumerate(content):
            typed = isinstance(part, dict) and isinstance(part.get("type"), str)
            _need(typed, "needs an object with a type", "content", number)
            text = part.get("text", None if part["type"] == "text" else "")
            _need(isinstance(text, str), "needs a string", "content", number, "text")
    elif content is None:
        _need(message["role"] == "assistant", "needs a string or a list of parts", "content")
    else:
        _need(isinstance(content, str), "needs a string or a list of parts", "content")
    _need(calls is None or isinstance(calls, list), "needs a list", "tool_calls")
    for number, call in enumerate(calls or ()):
        function = call.get("function") if isinstance(call, dict) else None
        named = isinstance(function, dict) and isinstance(function.get("name"), str)
        _need(named, "needs an object with a function and its name", "tool_calls", number)
    for name in REASONING:
        _need(isinstance(message.get(name) or "", str), "needs a string", name)
    return message


def check_reply(message: Message) -> Message:
    _need(message.get("role") == "assistant", "needs the role assistant", "role")
    return check_message(message)


def _need(good: bool, message: str, *field: Step) -> None:
    if not good:
        raise FieldError(message, *field)


Messages = list[Annotated[Message, AfterValidator(check_message)]]
Reply = Annotated[Message, AfterValidator(check_reply)]


class Exported(BaseModel):
    """Fields that another program wrote: null is as good as absent, times and lengths are finite."""

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def no_null(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Transcript(Exported):
    """branches: conversations that went on from a copy of the first messages."""

    messages: Messages = Field(min_length=1)
    branches: list[Messages] = Field(default_factory=list)
    tools: list[dict[str, Any]] = Field(default_factory=list)


def is_transcript(value: Any, other_keys: Sequence[str] | set[str] = ()) -> bool:
    """Whether a value is meant as a conversation: a list of messages, or an object with one as `messages` and none of
    `other_keys`."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict) and "role" in value[0]
    return isinstance(value, dict) and "messages" in value and not value.keys() & set(other_keys)


def transcript(found: Json) -> Transcript:
    """
    Raises:
        ValueError: no conversation; names file, line and field.
    """
    if isinstance(found.value, list):
        found = replace(found, value={"messages": found.value})
    return found.check(Transcript)


def transcripts(folder: Path, limit: int | None = None) -> list[Json]:
    """The values of the first `limit` transcripts in a folder, by name.

    Raises:
        ValueError: none there, or a file of none or several values; names file and line.
    """
    files = sorted(file for file in folder.glob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise ValueError(f"{folder}: no transcripts ({' or '.join(SUFFIXES)}) in this folder")
    found = []
    for file in files[:limit]:
        first, *more = read_json(file)
        if more:
            raise more[0].error("a second value, where a transcript has one")
        found.append(first)
    return found
