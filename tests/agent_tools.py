"""An agent's tools, called as a model would call them."""

import json
from collections.abc import Callable, Sequence

from sfi_sglang.agents.tools import Tool


def caller(tools: Sequence[Tool]) -> Callable[..., str]:
    by_name = {tool.name: tool for tool in tools}
    return lambda name, **arguments: by_name[name].run(json.dumps(arguments))
