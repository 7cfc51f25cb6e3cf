"""Program `repo` in SGLang's frontend language: the same tools, tasks and plans, over /generate."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sglang as sgl

import sfi_sglang.frontend  # noqa: F401  it gives sgl.gen its `sfi`
from sfi_sglang.agents.loop import CALL_END, CALL_START, MAX_TOKENS, Session, Step, Turn, whole
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.repo import repo
from sfi_sglang.agents.tools import Tool


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
        answer: str | None = state.ret_value
        return answer


@sgl.function
def agent(s: Any, session: Session, plan: Sequence[Step], max_steps: int) -> str | None:
    """Session.work in the language: `s` holds the conversation, the session its record."""
    system, question = (message["content"] for message in session.messages)
    s += sgl.system(system)
    s += sgl.user(question)
    return FrontendSession(**vars(session), state=s).work(plan, max_steps)


@dataclass
class FrontendSession(Session):
    """state: the language's. Tool results are the user's texts: the language's templates know no role for them."""

    state: Any = None

    def say(self, text: str) -> None:
        self.state += sgl.user(text)
        self.messages[:] = self.state.messages()

    def tell(self, turn: Turn, output: str) -> None:
        self.say(output)

    def ask(self, tools: Sequence[Tool], delay: float) -> Turn:
        """Generate one call of one of `tools`, which a grammar forces.

        Raises:
            RuntimeError: a refused request.
            OSError: no answer.
        """
        turn, name = self.begin(tools, delay), f"call{len(self.turns)}"
        cost = turn.call
        call = sgl.gen(name, max_tokens=MAX_TOKENS, temperature=0, json_schema=call_schema(tools), sfi=self.sfi)
        try:
            self.state += sgl.assistant(f"{CALL_START}\n" + call + f"\n{CALL_END}")
        except (RuntimeError, OSError) as error:
            cost.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            cost.end = time.perf_counter() - self.began
        text, meta = self.state[name], self.state.get_meta_info(name)
        cost.prompt_tokens, cost.output_tokens = meta["prompt_tokens"], meta["completion_tokens"]
        cost.cached_tokens, cost.sfi = meta["cached_tokens"], meta.get("sfi")
        turn.cut = meta["finish_reason"]["type"] == "length"
        if whole(text):
            made = json.loads(text)
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
