"""One document of an exact number of tokens, with a weight for every token: real text, or facts and questions in a
haystack.

Questions stand at the end and, fewer, in blocks between: in the model's own chat form, in turns of another form, or as
plain text.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.probe_model import phrases
from benchmarks.probe_model.haystack import haystack
from benchmarks.probe_model.puzzle import Ask, Puzzle
from benchmarks.probe_model.puzzles import FAMILIES, Draw
from benchmarks.probe_model.scene import make_scene
from benchmarks.probe_model.texts import Texts

ANSWER_WEIGHT = 10.0  # half of the weight falls on answers, which are 1% to 5% of a generated document's tokens
FORM_WEIGHT = 0.3  # the rest of such a document: what can be learned of its invented sentences is soon learned
TEXT_WEIGHT = 1.0  # of real text
REAL = 0.2  # share of documents that are real text alone
SPACING = 100  # tokens a fact, at the densest
ASKED_SHARE = 0.45  # most of a document's tokens that facts and questions may take
LATE = 0.65  # share of the questions that stand at the end
SPANS = ((0.0, 1.0), (0.0, 1.0), (0.0, 0.3))  # where facts may stand; the last: all in the first turns of several
END_OF_TEXT = 0  # token between texts in the model's pre-training

Encode = Callable[[str], list[int]]
Piece = tuple[list[int], float]  # token ids and their weight


@dataclass(frozen=True)
class Form:
    """How parts are written. chat: ChatML. asks, answers: labels before them. full_stop: after an answer."""

    chat: bool
    asks: str
    answers: str
    full_stop: str


@dataclass
class Event:
    """What is put between units of the haystack at `place`, 0 its start, 1 its end."""

    place: float
    pieces: list[Piece]

    def size(self) -> int:
        return sum(len(ids) for ids, _ in self.pieces)


def document(rng: random.Random, length: int, texts: Texts, encode: Encode) -> tuple[list[int], list[float]]:
    """Token ids and weights, `length` of each."""
    pieces = _real(rng, length, texts, encode) if rng.random() < REAL else hidden(rng, length, texts, encode)
    ids = [token for part, _ in pieces for token in part]
    return ids[:length], [weight for part, weight in pieces for _ in part][:length]


def _real(rng: random.Random, length: int, texts: Texts, encode: Encode) -> list[Piece]:
    pieces, left = list[Piece](), length
    for text in texts.run(rng, rng.choices(("prose", "code"), (3, 2))[0]):
        ids = [*encode(text[: left * 12]), END_OF_TEXT]
        pieces.append((ids, TEXT_WEIGHT))
        left -= len(ids)
        if left <= 0:
            break
    return pieces


def hidden(rng: random.Random, length: int, texts: Texts, encode: Encode) -> list[Piece]:
    """Facts and questions in a haystack; `length` tokens in all."""
    scene = make_scene(rng, rng.randint(4, 60))
    draw = Draw(rng, scene, lambda words: texts.passage(rng, 7 * words))
    most = max(2, length // SPACING)
    form = _form(rng)
    events = _turns(rng, form, encode)
    span, blocks = rng.choice(SPANS), [rng.random() for _ in range(rng.randint(1, 4))]
    size, limit = sum(map(Event.size, events)), int(length * ASKED_SHARE)
    for puzzle in _puzzles(draw, int(most ** rng.uniform(0.5, 1)) + 1):
        new = _events(rng, puzzle, form, span, blocks, encode)
        if size + (more := sum(map(Event.size, new))) <= limit:
            events += new
            size += more
    events.sort(key=lambda event: event.place)  # stable: facts of one place stay in their order
    units, left = list[list[int]](), length - size
    for unit in haystack(rng, scene, texts):
        ids = encode(unit)[:left]
        units.append(ids)
        left -= len(ids)
        if left <= 0:
            break
    return _merged(units, events, length - size)


def _merged(units: list[list[int]], events: list[Event], total: int) -> list[Piece]:
    pieces, passed, waiting = list[Piece](), 0, iter(events)
    event = next(waiting, None)
    for ids in units:
        while event and event.place * total <= passed and event.place < 1:
            pieces += event.pieces
            event = next(waiting, None)
        pieces.append((ids, FORM_WEIGHT))
        passed += len(ids)
    while event:
        pieces += event.pieces
        event = next(waiting, None)
    return pieces


def _puzzles(draw: Draw, many: int) -> list[Puzzle]:
    """About `many` facts of one or several families, in random order."""
    made, told = list[Puzzle](), 0
    for _ in range(20):
        family = draw.rng.choices(list(FAMILIES), list(FAMILIES.values()))[0]
        made += (new := family(draw, draw.rng.randint(1, max(1, many - told))))
        told += sum(len(puzzle.facts) for puzzle in new)
        if told >= many:
            break
    draw.rng.shuffle(made)
    return made


def _form(rng: random.Random) -> Form:
    asks, answers = rng.choice(phrases.SPEAKERS)
    return Form(rng.random() < 0.2, asks, answers, rng.choice(("", "", ".")))


def _turns(rng: random.Random, form: Form, encode: Encode) -> list[Event]:
    """The frame: what begins a turn, ends one and begins the next."""
    many = rng.choice((1, 1, 2, 3, 4, 6))
    if form.chat:
        between = f"<|im_end|>\n<|im_start|>assistant\n{rng.choice(phrases.ACKNOWLEDGED)}<|im_end|>\n<|im_start|>user\n"
        parts = ["<|im_start|>user\n", *[between] * (many - 1)]
    else:
        begin, end = rng.choice(phrases.TURNS)
        parts = [(end.format(i=i) if i else "") + begin.format(i=i + 1) for i in range(many)] if many > 1 else []
    return [Event(i / many, [(encode(part), FORM_WEIGHT)]) for i, part in enumerate(parts)]


def _events(
    rng: random.Random, puzzle: Puzzle, form: Form, span: tuple[float, float], blocks: list[float], encode: Encode
) -> list[Event]:
    """Facts in their order, anywhere in `span`; questions at the end or in a block after the last fact."""
    places = sorted(rng.uniform(*span) for _ in puzzle.facts)
    texts = [f"\n{fact}\n" if puzzle.line else f" {fact}" for fact in puzzle.facts]
    made = [Event(place, [(encode(text), FORM_WEIGHT)]) for place, text in zip(places, texts, strict=True)]
    later = [block for block in blocks if block > places[-1]]
    for ask in puzzle.asks:
        place = rng.choice(later) if later and rng.random() > LATE else 1.0
        made.append(Event(place, asked(ask, form, encode)))
    return made


def asked(ask: Ask, form: Form, encode: Encode) -> list[Piece]:
    """A question and its answer, up to the token after it: that it ends there is part of the answer."""
    question, lead, answer = ask.question, ask.lead, ask.answer
    if form.chat:
        if not question and answer.startswith(" "):
            question, lead = lead, ""
        answer, end = answer if lead else answer.lstrip(), "<|im_end|>"
        before = f"\n{question}<|im_end|>\n<|im_start|>assistant\n{lead}"
        after = "\n<|im_start|>user\n"
    else:
        label = form.answers if lead else form.answers.rstrip(" ")
        answer = answer if label or lead else answer.lstrip()
        before = f"\n{form.asks}{question}\n{label}{lead}" if question else f"\n{lead}"
        end, after = (form.full_stop if answer.startswith(" ") else "") + "\n", ""
    parts = (before, FORM_WEIGHT), (answer, ANSWER_WEIGHT), (end, ANSWER_WEIGHT), (after, FORM_WEIGHT)
    return [(encode(text), weight) for text, weight in parts if text]
