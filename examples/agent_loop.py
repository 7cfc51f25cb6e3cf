"""A small agent: two tools, a long context that grows with every result, SFI in every request.

sfi-sglang serve                    # in another terminal
python examples/agent_loop.py
"""

import argparse
import json
from typing import Any

import openai

LOG = [f"On day {day} the harbor master wrote that {3 * day % 17} ships came in." for day in range(200)]
# The system prompt says how to call: small models' chat templates drop the request's `tools`.
SYSTEM = f"""You keep a harbor's log. Its beginning: {" ".join(LOG[:60])}
Each turn you call one of these tools:
- search(day): what the log says about one day
- answer(text): the final answer
Write <tool_call>, the call as JSON, </tool_call> and nothing else."""
TASK = "How many ships came in on day 120? Call search with the number of the day, then answer."


def tool(name: str, description: str, argument: str) -> Any:
    """strict: the server's grammar then admits no other arguments."""
    schema = {"type": "object", "properties": {argument: {"type": "string", "maxLength": 60}}, "required": [argument]}
    function = {"name": name, "description": description, "parameters": schema, "strict": True}
    return {"type": "function", "function": function}


SEARCH = tool("search", "lines of the log about one day", "day")
ANSWER = tool("answer", "give the final answer", "text")


def search(day: str) -> str:
    return "\n".join(line for line in LOG if f"day {day.removeprefix('day ')} " in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:30000", help="where it listens (%(default)s)")
    client = openai.OpenAI(base_url=f"{parser.parse_args().server}/v1", api_key="none")
    model = client.models.list().data[0].id
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
    offered = SEARCH  # the embedded model is too small to choose: give a larger one both tools in every turn
    for turn in range(1, 5):
        reply: Any = client.chat.completions.create(
            model=model, messages=messages, tools=[offered], tool_choice="required", parallel_tool_calls=False,
            temperature=0, max_tokens=96, extra_body={"sfi": {"budget": 256, "recent": 256}},
        )  # fmt: skip
        steps = f"{reply.sfi['slow_steps']} slow steps, {reply.sfi['fast_steps']} fast ones"
        print(f"turn {turn}: {reply.usage.prompt_tokens} tokens in, {steps}")
        message = reply.choices[0].message
        messages.append(message)
        for call in message.tool_calls or []:
            arguments = json.loads(call.function.arguments)
            print(f"  {call.function.name}({arguments})")
            if call.function.name == "answer":
                return
            output = search(**arguments)
            print(f"    {output or 'nothing'}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output or "No such day."})
            offered = ANSWER if output else SEARCH


if __name__ == "__main__":
    main()
