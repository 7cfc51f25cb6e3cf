"""Copying: what agents live from. A thing that stands once in a long text is to be repeated exactly: an id, a path, a
JSON object."""

import json
import random

from sfi_sglang.client.token_count import Count
from sfi_sglang.evals.prose import hide, sentences
from sfi_sglang.evals.task import Item, Task, randomness

FOLDERS = ("src", "lib", "tests", "docs", "tools", "core", "client", "server", "assets", "config")
FILES = ("parser", "router", "session", "worker", "schema", "cache", "loader", "report", "handler", "index")
ENDINGS = ("py", "ts", "go", "rs", "json", "toml")
COLORS = ("red", "green", "blue", "black", "white", "grey")
CITIES = ("Oslo", "Lima", "Cairo", "Perth", "Quito", "Turin")


class Copying(Task):
    name = "copy"
    about = "things of 5 to 60 tokens that stand once in a long text, to be repeated exactly: ids, paths, JSON objects"
    kinds = ("id", "path", "record")

    def item(self, kind: str, length: int, depth: float, seed: int, count: Count) -> Item:
        rng = randomness(self.name, kind, seed)
        things = {name: make(rng) for name, make in THINGS.items()}
        order = [kind, *(name for name in things if name != kind)]
        lines = [f"\nThe {name} of the job is: {things[name]}\n" for name in order]
        asked = f"\nHere it is once more. The {kind} of the job is:"
        size = length - count(asked) - sum(count(line) for line in lines)
        text = " ".join(hide(lines, sentences(size, rng, count), depth))
        return Item(kind, length, depth, seed, text + asked, things[kind], count(things[kind]) + 8)


def identifier(rng: random.Random) -> str:
    return "-".join(f"{rng.randrange(16**4):04x}" for _ in range(rng.randint(2, 5)))


def path(rng: random.Random) -> str:
    folders = rng.sample(FOLDERS, rng.randint(2, 4))
    return f"{'/'.join(folders)}/{rng.choice(FILES)}_{rng.randrange(10, 99)}.{rng.choice(ENDINGS)}"


def record(rng: random.Random) -> str:
    fields = {
        "id": rng.randrange(1000, 9999),
        "city": rng.choice(CITIES),
        "color": rng.choice(COLORS),
        "price": rng.randrange(10, 999),
        "file": f"{rng.choice(FILES)}.{rng.choice(ENDINGS)}",
    }
    kept = sorted(rng.sample(list(fields), rng.randint(3, 5)))
    return json.dumps({name: fields[name] for name in kept})


THINGS = {"id": identifier, "path": path, "record": record}
