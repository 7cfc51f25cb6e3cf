"""Program `repo` in SGLang's frontend language: the same tools, tasks and plans, over /generate."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sglang as sgl

import sfi_sglang.frontend  # noqa: F401  it gives sgl.gen its `sfi`
from sfi_sglang.agents import loop
from sfi_sglang.agents.loop import Session, Step, Turn
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.repo import repo
from sfi_sglang.agents.tools import ANSWER, Tool
from sfi_sglang.client.call import Call


@dataclass(frozen=True)
class FrontendProgram(Program):
    """The session's client only says where the server is. The language has no timeout and no retry.

    template: SGLang's name of the model's chat template; from the path of the embedded model it would guess wrong.
    """

    template: str = "chatml"

    def work(self, session: Session, task: Task, planned: bool, max_steps: int) -> str | None:
        """See Program.work.

        Raises:
            RuntimeError: a refused request.
            OSError: no answer.
        """
        url = str(session.client.base_url).rstrip("/").removesuffix("/v1")
        endpoint = sgl.RuntimeEndpoint(url, chat_template_name=self.template)
        plan = task.plan if planned else ()
        state = agent.run(session, plan, max_steps, backend=endpoint, use_thread=False)
        return state.ret_value


@sgl.function
def agent(s: Any, session: Session, plan: Sequence[Step], max_steps: int) -> str | None:
    """The loop of Session.work. Tool results are the user's texts: the language's templates know no role for them."""
    by_name = {tool.name: tool for tool in session.tools}
    remaining, made = list(plan), []
    system, question = (message["content"] for message in session.messages)
    s += sgl.system(system)
    s += sgl.user(question)
    delay = 0.0
    for number in range(max_steps):
        offered = [by_name[remaining[0].tool]] if remaining else session.tools
        if remaining:
            s += sgl.user(f"Now call {remaining[0].tool}. {remaining[0].instruction}")
        turn = ask(s, f"call{number}", session, offered, delay)
        began = time.perf_counter()
        output = loop.execute(by_name, turn) if turn.tool else loop.NO_CALL
        delay = time.perf_counter() - began
        s += sgl.user(output)
        session.messages[:] = s.messages()
        made.append((turn.tool, turn.arguments))
        if not turn.failed:
            remaining = remaining[1:]
            if turn.tool == ANSWER.name:
                return output
        if made[-loop.REPEATS :] == [made[-1]] * loop.REPEATS:
            break
    return None


def ask(s: Any, name: str, session: Session, tools: Sequence[Tool], delay: float) -> Turn:
    """Generate one call of one of `tools`, which a grammar forces."""
    start = time.perf_counter() - session.began
    cost = Call(turn=0, start=start, end=start, delay=delay)
    turn = Turn([tool.name for tool in tools], None, "", True, cost)
    session.turns.append(turn)
    call = sgl.gen(name, max_tokens=loop.MAX_TOKENS, temperature=0, json_schema=call_schema(tools), sfi=session.sfi)
    try:
        s += sgl.assistant(f"{loop.CALL_START}\n" + call + f"\n{loop.CALL_END}")
    except (RuntimeError, OSError) as error:
        cost.error = f"{type(error).__name__}: {error}"
        raise
    finally:
        cost.end = time.perf_counter() - session.began
    meta = s.get_meta_info(name)
    cost.prompt_tokens, cost.output_tokens = meta["prompt_tokens"], meta["completion_tokens"]
    cost.cached_tokens, cost.sfi = meta["cached_tokens"], meta.get("sfi")
    if loop.whole(s[name]):
        made = json.loads(s[name])
        turn.tool, turn.arguments, turn.failed = made["name"], json.dumps(made["arguments"]), False
    return turn


def call_schema(tools: Sequence[Tool]) -> str:
    """The JSON schema of a call of one of them."""

    def one(tool: Tool) -> dict[str, Any]:
        properties = {"name": {"const": tool.name}, "arguments": tool.schema()}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    return json.dumps({"anyOf": [one(tool) for tool in tools]})


def repo_frontend() -> Program:
    """
    Raises:
        LookupError: the tree is not the standard library's.
    """
    program = repo()
    return FrontendProgram("repo-frontend", program.about, program.toolbox, program.tasks)
