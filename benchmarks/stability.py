"""Do the attended tokens stay the same within a sentence, as Slow-Fast Inference assumes (arXiv 2603.12038)?

    python -m benchmarks.stability --out benchmarks/results/stability_cpu.json

The embedded model reads real texts, dense and in float32. Each of the last WINDOW queries of a text chooses `k` of the
candidates (tokens between the sink and the recent ones) in every layer and KV head, as a slow step would. Then: how
much of one query's choice is that of another query `distance` tokens before, how much attention the older choice still
catches, and does it matter whether a sentence ended between the two? Candidates are those of the window's first query;
later tokens count as recent ones, as they do between two refreshes.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from scipy import stats
from torch import Tensor

from benchmarks.stability_report import plot, table
from sfi_sglang.api.options import PLAIN, SelectorOptions, SFIOptions
from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.provenance import provenance
from sfi_sglang.client.token_count import from_tokenizer
from sfi_sglang.scheduling.enders import TokenKind
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection import selector
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.terminal import console, progress

WINDOW = 128  # T: queries of a text that are compared with each other
DISTANCES = (1, 2, 4, 8, 16, 32, 64)
SELECTORS, SIZES = (PLAIN, "span"), (64, 512)
POLICIES = ("sentence", "structural")
MEASURES = ("overlap", "mass", "own", "latest", "missed", "own_missed", "share")  # see `compare`
FEWEST_PAIRS, FEWEST_TEXTS = 8, 3  # of a text for its mean to count; such texts for a cell
SPARE = 32  # tokens that a text is longer, because its last piece is cut and padded
Choice = tuple[str, int]  # selector, k
Key = tuple[str, str, int, str, int]  # policy, selector, k, place, distance


@dataclass(frozen=True)
class Means:
    """Over the pairs of one text. distance: tokens. values: of MEASURES."""

    pairs: int
    distance: float
    values: list[float]


def sentence_numbers(kinds: Sequence[int]) -> Tensor:
    """Of tokens of these TokenKinds -> int64 [T]. A sentence begins with the first text token after an ender."""
    number, armed, found = 0, False, []
    for kind in kinds:
        if kind == TokenKind.ENDER:
            armed = True
        elif kind == TokenKind.TEXT and armed:
            number, armed = number + 1, False
        found.append(number)
    return torch.tensor(found)


def last_refreshes(tokens: Sequence[int], options: SFIOptions, vocabulary: Vocabulary) -> Tensor:
    """Query whose choice each query would use -> int64 [T]: its own if it refreshes. The first token ends the prompt,
    the others are decoded."""
    tracker, last, found = SegmentTracker(options, vocabulary), 0, [0]
    for query in range(1, len(tokens)):
        if tracker.step(tokens[1:], visible=query - 1):
            tracker.refreshed()
            last = query
        found.append(last)
    return torch.tensor(found)


def pairs(sentences: Tensor, refreshes: Tensor) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """Which queries are compared, by number of sentence [T] and last refresh [T] -> targets and sources by place and
    distance. place: `inside` a sentence, `across` an end of one, or `refresh`: the source is the last one, at any
    distance (0)."""
    queries = torch.arange(len(sentences))
    fast = refreshes < queries
    found = {("refresh", 0): (queries[fast], refreshes[fast])}
    for distance in DISTANCES:
        targets = queries[distance:]
        same = sentences[targets] == sentences[targets - distance]
        for place, some in (("inside", targets[same]), ("across", targets[~same])):
            found[place, distance] = some, some - distance
    return found


def attention(q: Tensor, k: Tensor, scale: float, first: int, last: int) -> tuple[Tensor, Tensor]:
    """To the candidates [first, last), n of them, by the context's last T queries: q [heads, T, D], k [KV, L, D].

    Returns evidence [KV, T, n], the log scores that the Selector reads, and shares [KV, T, n] of all attention, sink
    and recent tokens included; both are means over the heads of a group.
    """
    kv_heads, length, dim = k.shape
    queries = q.shape[1]
    logits = selector.attention_logits(q.reshape(kv_heads, -1, dim), k, Scoring(scale))
    logits = logits.view(kv_heads, -1, queries, length)
    future = torch.ones(queries, length, dtype=torch.bool).triu(length - queries + 1)
    log_p = logits.masked_fill_(future, -torch.inf).log_softmax(-1)[..., first:last]
    evidence = selector.power_mean(log_p.log_softmax(-1).transpose(1, 2), SelectorOptions())
    return evidence, log_p.exp().mean(1)


def compare(evidence: Tensor, shares: Tensor, picks: Tensor) -> Tensor:
    """All pairs of a layer's queries -> [MEASURES, T, T], target by source, means over KV heads. evidence [KV, T, n],
    shares [KV, T, n] as `attention` returns them, picks [KV, T, k].

    overlap: share of the target's picks that are the source's. mass: of the target's evidence, what lies on the
    source's picks; own: on its own; latest: on the last k candidates. share: of the target's attention to
    everything, what lies on candidates; missed: on those of them that the source did not pick; own_missed: itself.
    """
    size, queries = picks.shape[-1], picks.shape[-2]
    p = evidence.exp()
    chosen = torch.zeros_like(p).scatter_(-1, picks, 1.0)
    mass = p @ chosen.mT
    share = shares.sum(-1, keepdim=True)
    missed = share - shares @ chosen.mT
    own, own_missed = (every.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) for every in (mass, missed))
    latest = p[..., -size:].sum(-1, keepdim=True)
    whole = (chosen @ chosen.mT / size, mass, own, latest, missed, own_missed, share)
    return torch.stack([one.expand(-1, -1, queries).mean(0) for one in whole])


def read(model: Any, tokens: Sequence[int], options: SFIOptions) -> dict[Choice, Tensor]:
    """`compare` of a text's last WINDOW queries for every selector and size, means over layers. One layer's attention
    is in memory at a time, 19 MB for 9 heads and 4096 tokens; with the model 1.4 GB in all."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found: dict[Choice, list[Tensor]] = {(name, size): [] for name in SELECTORS for size in SIZES}
    last = options.recent_start(len(tokens) - WINDOW + 1)

    def observed(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **settings: Any) -> Any:
        evidence, shares = attention(q[0, :, -WINDOW:], k[0], settings["scaling"], options.sink, last)
        for (name, size), layers in found.items():
            picks = selector.select(evidence, 1, size, SelectorOptions.model_validate(name))
            layers.append(compare(evidence, shares, picks))
        return sdpa_attention_forward(module, q, k, v, mask, **settings)

    AttentionInterface.register("observed", observed)
    model.set_attn_implementation("observed")
    with torch.inference_mode():
        model(torch.tensor([tokens]), use_cache=False)
    return {choice: torch.stack(layers).mean(0) for choice, layers in found.items()}


def text_means(tokens: Sequence[int], maps: Mapping[Choice, Tensor], vocabulary: Vocabulary) -> dict[Key, Means]:
    """Of one text, by its window's tokens [T] and what `read` returns. Cells with few pairs are left out."""
    means = {}
    for policy in POLICIES:
        options = SFIOptions.model_validate({"policy": policy})
        tracker = SegmentTracker(options, vocabulary)
        sentences = sentence_numbers([tracker.kind(token) for token in tokens])
        compared = pairs(sentences, last_refreshes(tokens, options, vocabulary))
        for (place, distance), (targets, sources) in compared.items():
            if len(targets) >= FEWEST_PAIRS:
                age = (targets - sources).double().mean().item()
                for choice, values in maps.items():
                    found = values[:, targets, sources].double().mean(-1).tolist()
                    means[policy, *choice, place, distance] = Means(len(targets), age, found)
    return means


def intervals(texts: Sequence[Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Of every measure, by the values of each text: the mean over texts and half the width of its interval of 95%."""
    quantile = float(stats.t.ppf(0.975, len(texts) - 1))
    return {
        measure: (
            round(statistics.fmean(values), 4),
            round(quantile * statistics.stdev(values) / len(values) ** 0.5, 4),
        )
        for measure, values in zip(MEASURES, zip(*texts, strict=True), strict=True)
    }


def summarise(kind: Kind, texts: Sequence[Mapping[Key, Means]]) -> Iterator[dict[str, Any]]:
    """A cell for every key that enough texts have. place `difference`: inside less across, over texts with both."""
    for key in dict.fromkeys(key for text in texts for key in text):
        policy, name, size, place, distance = key
        about = {"text": kind, "policy": policy, "selector": name, "k": size}
        found = [text[key] for text in texts if key in text]
        if len(found) >= FEWEST_TEXTS:
            yield {
                **about,
                "place": place,
                "distance": round(statistics.fmean(one.distance for one in found), 1),
                "texts": len(found),
                "pairs": sum(one.pairs for one in found),
                **intervals([one.values for one in found]),
            }
        other = (policy, name, size, "across", distance)
        both = [(text[key].values, text[other].values) for text in texts if key in text and other in text]
        if place == "inside" and len(both) >= FEWEST_TEXTS:
            less = [[ours - theirs for ours, theirs in zip(*one, strict=True)] for one in both]
            yield {**about, "place": "difference", "distance": distance, "texts": len(both), **intervals(less)}


def main(
    count: Annotated[int, typer.Option(min=FEWEST_TEXTS, help="texts of each kind")] = 8,
    context: Annotated[int, typer.Option(help="tokens of a text")] = 4096,
    out: Annotated[Path | None, typer.Option(help="write JSON here, and a plot beside it")] = None,
) -> None:
    """How much of the attended tokens stays the same, within a sentence and across its end."""
    from transformers import AutoModel, AutoTokenizer

    folder, options = embedded_model(), SFIOptions()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    vocabulary, filler = Vocabulary.of(tokenizer), Filler(from_tokenizer(folder))
    kinds, cells = get_args(Kind), list[dict[str, Any]]()
    with progress(console) as bar:
        task = bar.add_task("stability", total=count * len(kinds))
        for kind in kinds:
            texts = []
            for number in range(count):
                text = filler.text(kind, context + SPARE, f"stability {number}")
                tokens = tokenizer.encode(text, add_special_tokens=False)[:context]
                texts.append(text_means(tokens[-WINDOW:], read(model, tokens, options), vocabulary))
                bar.advance(task)
            cells += summarise(kind, texts)
    candidates = options.recent_start(context - WINDOW + 1) - options.sink
    settings = {"texts_of_a_kind": count, "context": context, "window": WINDOW, "candidates": candidates}
    console.print(table(cells, candidates))
    if out:
        out.write_text(json.dumps({**provenance(), **settings, "cells": cells}, indent=1) + "\n")
        plot(out)


if __name__ == "__main__":
    typer.run(main)
