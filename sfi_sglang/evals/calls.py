"""Tool calls: arguments under a schema whose values must be copied out of an earlier tool's result."""

import json

from sfi_sglang.client.token_count import Count
from sfi_sglang.evals.prose import hide, sentences
from sfi_sglang.evals.task import Item, Task, randomness

CITIES = ("Oslo", "Lima", "Cairo", "Perth", "Quito", "Turin")
SCHEMAS = {  # what the constrained continuation looks like, after `{"order": "`
    "one argument": r'[A-H][0-9]{4}"\}\)',
    "two arguments": r'[A-H][0-9]{4}", "city": "[A-Z][a-z]{2,8}"\}\)',
}


class Calls(Task):
    name = "tools"
    about = "arguments of a tool call, held to a schema, that stand once in an earlier tool's result"
    kinds = tuple(SCHEMAS)

    def item(self, kind: str, length: int, depth: float, seed: int, count: Count) -> Item:
        rng = randomness(self.name, kind, seed)
        order = {"order": f"{rng.choice('ABCDEFGH')}{rng.randrange(1000, 9999)}", "city": rng.choice(CITIES)}
        fact = f"\nResult of create_order: {json.dumps(order)}\n"
        call = order if kind == "two arguments" else {"order": order["order"]}
        begun = '{"order": "'
        asked = f"\nNext, the order is tracked.\nCall: track_order({begun}"
        size = length - count(asked) - count(fact)
        text = " ".join(hide([fact], sentences(size, rng, count), depth))
        answer = json.dumps(call).removeprefix(begun) + ")"
        return Item(kind, length, depth, seed, text + asked, answer, 40, regex=SCHEMAS[kind])

    def right(self, item: Item, text: str) -> bool:
        return text == item.answer
