"""Values to be copied: many forms, of 3 to 60 tokens. Each is a function of the random numbers alone."""

import base64
import json
import random
import string
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks.probe_model.words import (
    ACTIONS,
    ALIASES,
    DIRECTORIES,
    FIELDS,
    FIRST_NAMES,
    NOUNS,
    RESOURCES,
    STEMS,
    SUFFIXES,
    THINGS,
    town,
)

Make = Callable[[random.Random], str]


def number(rng: random.Random) -> str:
    many = rng.choice((3, 4, 4, 5, 5, 5, 6, 6, 7, 8, 9))
    return str(rng.randrange(10 ** (many - 1), 10**many))


def decimal(rng: random.Random) -> str:
    return f"{rng.randrange(10, 9999)}.{rng.randrange(10, 999)}"


def hexadecimal(rng: random.Random) -> str:
    """Groups of hex digits: how many, how wide, with what between them and in which case varies."""
    width, groups = rng.randint(2, 8), rng.randint(1, 6)
    text = rng.choice(("-", "-", "-", ":", "_", ".", " ", "/", "")).join(
        f"{rng.randrange(16**width):0{width}x}" for _ in range(groups)
    )
    text = text.upper() if rng.random() < 0.25 else text
    return f"0x{text}" if groups == 1 and rng.random() < 0.3 else text


def identifier(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))


def base32(rng: random.Random) -> str:
    text = base64.b32encode(rng.randbytes(rng.randint(5, 20))).decode().rstrip("=")
    return text if rng.random() < 0.5 else "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def mixed(rng: random.Random) -> str:
    """Letters and digits in groups, as on tickets and number plates: `K4821`, `QX-291-T`."""
    alphabet = string.ascii_uppercase if rng.random() < 0.8 else string.ascii_lowercase
    groups = []
    for _ in range(rng.randint(1, 4)):
        letters = "".join(rng.choices(alphabet, k=rng.randint(1, 3)))
        digits = "".join(rng.choices(string.digits, k=rng.randint(1, 5)))
        groups.append(rng.choice((letters, digits, letters + digits, digits + letters, letters + digits)))
    text = rng.choice(("-", "", "/", " ")).join(groups)
    return text if len(text) > 3 else f"{text}{rng.randrange(1000, 9999)}"


def file_path(rng: random.Random) -> str:
    parts = rng.choices([*DIRECTORIES, *STEMS], k=rng.randint(1, 5))
    mark = rng.choice(
        ("", f"_{rng.randrange(1, 999)}", f"-{rng.choice(ALIASES)}", f"_{rng.choice(STEMS)}", f"{rng.randrange(10)}")
    )
    name = f"{rng.choice([*STEMS, *RESOURCES])}{mark}.{rng.choice(SUFFIXES)}"
    start, between = rng.choice((("/", "/"), ("", "/"), ("", "/"), ("./", "/"), ("~/", "/"), ("C:\\", "\\")))
    return start + between.join([*parts, name])


def url(rng: random.Random) -> str:
    host = f"{rng.choice(STEMS)}.{rng.choice(ALIASES)}.{rng.choice(('com', 'org', 'net', 'io', 'example'))}"
    tail = rng.choice((f"?id={number(rng)}", f"/{rng.choice(RESOURCES)}/{number(rng)}", f"#{rng.choice(FIELDS)}"))
    return f"{rng.choice(('http', 'https', 'ftp'))}://{host}/{rng.choice(DIRECTORIES)}{tail}"


def email(rng: random.Random) -> str:
    user = f"{rng.choice(FIRST_NAMES).lower()}{rng.choice(('.', '_', ''))}{rng.choice(ALIASES)}{rng.randrange(100)}"
    return f"{user}@{town(rng).lower()}.{rng.choice(('com', 'org', 'edu', 'net'))}"


def date(rng: random.Random) -> str:
    year, month, day = rng.randrange(1900, 2090), rng.randrange(1, 13), rng.randrange(1, 29)
    return rng.choice((f"{year}-{month:02}-{day:02}", f"{day}.{month}.{year}", f"{month:02}/{day:02}/{year}"))


def moment(rng: random.Random) -> str:
    return f"{date(rng)} {rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"


def address(rng: random.Random) -> str:
    text = ".".join(str(rng.randrange(256)) for _ in range(4))
    return f"{text}:{rng.randrange(1024, 65535)}" if rng.random() < 0.5 else text


def release(rng: random.Random) -> str:
    return (
        f"v{rng.randrange(20)}.{rng.randrange(40)}.{rng.randrange(100)}{rng.choice(('', '-rc1', '-beta', '+build7'))}"
    )


def money(rng: random.Random) -> str:
    amount = f"{rng.randrange(1, 999)},{rng.randrange(100, 999)}.{rng.randrange(100):02}"
    return rng.choice(("$", "EUR ", "£", "CHF ")) + amount


def phrase(rng: random.Random) -> str:
    words = rng.sample([*ALIASES, *THINGS, *NOUNS], rng.randint(2, 6))
    return rng.choice(("-", " ", "_", ".")).join(words)


def scalar(rng: random.Random) -> Any:
    """A JSON value without parts."""
    return rng.choice(
        (
            lambda: rng.randrange(10, 10 ** rng.randint(2, 6)),
            lambda: round(rng.uniform(0, 500), 2),
            lambda: town(rng),
            lambda: rng.choice(ALIASES),
            lambda: mixed(rng),
            lambda: f"{rng.choice(STEMS)}.{rng.choice(SUFFIXES)}",
            lambda: rng.choice(FIRST_NAMES),
            lambda: rng.choice((True, False)),
        )
    )()


def fields(rng: random.Random, many: int) -> dict[str, Any]:
    names = rng.sample(FIELDS, many)
    return {name: scalar(rng) for name in (sorted(names) if rng.random() < 0.5 else names)}


def json_object(rng: random.Random) -> str:
    made: dict[str, Any] = fields(rng, rng.randint(2, 6))
    if rng.random() < 0.15:
        made[rng.choice(RESOURCES)] = fields(rng, 2)
    return json.dumps(made) if rng.random() < 0.8 else json.dumps(made, separators=(",", ":"))


def json_list(rng: random.Random) -> str:
    return json.dumps([scalar(rng) for _ in range(rng.randint(2, 6))])


def settings(rng: random.Random) -> str:
    made = fields(rng, rng.randint(2, 5))
    join, between = rng.choice((("=", " "), ("=", ";"), (": ", ", "), ("=", "&"), ("=", ", ")))
    return between.join(f"{name}{join}{value}" for name, value in made.items())


def call(rng: random.Random) -> str:
    made = fields(rng, rng.randint(1, 3))
    inside = json.dumps(made) if rng.random() < 0.5 else ", ".join(f"{k}={v!r}" for k, v in made.items())
    return f"{rng.choice(ACTIONS)}_{rng.choice(RESOURCES)}({inside})"


WEIGHTS: dict[Make, float] = {
    number: 30, hexadecimal: 16, mixed: 10, file_path: 10, json_object: 10, base32: 3, identifier: 3, decimal: 2,
    url: 2, email: 2, date: 2, moment: 1, address: 2, release: 1, money: 1, phrase: 3, json_list: 3, settings: 3,
    call: 3,
}  # fmt: skip
SHORT: dict[Make, float] = {number: 12, mixed: 3, decimal: 1, date: 1, hexadecimal: 2, phrase: 1}  # for lists


def pick(rng: random.Random, weights: dict[Make, float]) -> Make:
    return rng.choices(list(weights), list(weights.values()))[0]
