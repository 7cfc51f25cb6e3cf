"""What facts are hidden in: invented sentences, real prose and code, lines of logs and records, or some of each."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import chain

from benchmarks.probe_model.scene import Scene
from benchmarks.probe_model.texts import Texts
from benchmarks.probe_model.values import SHORT, pick
from benchmarks.probe_model.words import ACTIONS, ALIASES, FIELDS, LEVELS, RESOURCES, STEMS, town

UNIT = 500  # characters of real text, at least, before a fact may follow at a line's end
LINE = 2000  # characters of a line that are used: longer ones are data, and would leave no place for facts
SEGMENT = (20, 200)  # units of one sort in a mixed haystack


def haystack(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    """Units without end, between which facts may stand: a sentence with a blank before it, or whole lines."""
    if rng.random() < MIXED:
        return _mixed(rng, scene, texts)
    return rng.choices(list(SORTS), list(SORTS.values()))[0](rng, scene, texts)


def _sentences(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    breaks = rng.choice((0.0, 0.0, 0.0, 0.05, 0.2))
    while True:
        yield f" {scene.sentence(rng)}" + ("\n\n" if rng.random() < breaks else "")


def _prose(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    return chain.from_iterable(map(_pieces, texts.run(rng, "prose")))


def _code(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    return chain.from_iterable(map(_pieces, texts.run(rng, "code")))


def _pieces(text: str) -> Iterator[str]:
    lines, size = list[str](), 0
    for line in text.splitlines():
        lines.append(line[:LINE])
        size += len(lines[-1])
        if size >= UNIT:
            yield "\n".join(lines) + "\n"
            lines, size = [], 0
    yield "\n".join(lines) + "\n"


def _lines(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    """Records of one shape: JSON, a log or a table with commas; most values are few words in turn, some are numbers."""
    names = rng.sample(FIELDS, rng.randint(2, 5))
    words = {
        name: [rng.choice((town(rng), rng.choice(ALIASES), rng.choice(STEMS))) for _ in range(6)] for name in names
    }
    numbers = {name: pick(rng, SHORT) for name in names if rng.random() < 0.4}
    shape, second = rng.randrange(3), rng.randrange(10**6)
    while True:
        row = {name: numbers[name](rng) if name in numbers else rng.choice(words[name]) for name in names}
        if shape == 0:
            yield json.dumps(row) + "\n"
        elif shape == 1:
            yield ",".join(row.values()) + "\n"
        else:
            second += rng.randrange(90)
            time = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
            told = " ".join(f"{name}={value}" for name, value in row.items())
            what = f"{rng.choice(ACTIONS)} {rng.choice(RESOURCES)}"
            yield f"{time} {rng.choice(LEVELS)} {rng.choice(STEMS)}: {what} {told}\n"


def _mixed(rng: random.Random, scene: Scene, texts: Texts) -> Iterator[str]:
    sorts = [sort(rng, scene, texts) for sort in rng.sample(list(SORTS), rng.randint(2, len(SORTS)))]
    while True:
        units = rng.choice(sorts)
        yield "\n\n"
        for _ in range(rng.randint(*SEGMENT)):
            yield next(units)


Sort = Callable[[random.Random, Scene, Texts], Iterator[str]]
SORTS: dict[Sort, float] = {_sentences: 6, _prose: 1.5, _code: 1, _lines: 1}
MIXED = 0.15
