"""The libraries of the extra `bench`: a missing one is an error that the user can mend."""

import re
from collections.abc import Callable
from importlib.metadata import requires


def explained(app: Callable[[], None]) -> Callable[[], None]:
    """`app`, as `run_command_line` takes it.

    Raises:
        RuntimeError: a library of the extra is missing; the message says how to install it.
    """

    def run() -> None:
        try:
            app()
        except ModuleNotFoundError as error:
            raise RuntimeError(advice(error)) from None

    return run


def advice(error: ModuleNotFoundError) -> str:
    """How to install what is missing.

    Raises:
        ModuleNotFoundError: `error` itself, where it is none of the extra's libraries.
    """
    library = (error.name or "").split(".")[0]
    if library not in _extra():
        raise error
    return f'{library} is missing: pip install "sfi-sglang[bench]"'


def _extra() -> set[str]:
    """Names of the extra's libraries, which are also those of their modules."""
    found = (re.match(r"(\w+).*extra == .bench.", line) for line in requires("sfi-sglang") or ())
    return {match[1].lower() for match in found if match}
