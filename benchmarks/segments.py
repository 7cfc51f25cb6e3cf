"""How often does a refresh come on real text? Steps between refreshes by policy, on prose, code and JSON.

    python -m benchmarks.segments --out benchmarks/results/segments.json

Runs the very trigger of the server (scheduling/segments.py) over documents that installed packages ship, tokenized by
the embedded model: package descriptions (prose with lists), modules of the standard library, JSON files.
"""

import json
import statistics
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.client.provenance import provenance
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.terminal import console, progress

POLICIES = ("sentence", "structural")
MAX_CHARS = 20_000  # of one document


def documents() -> dict[str, list[Path]]:
    """Files of each kind, in a fixed order."""
    packages, library = (Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib"))
    return {
        "prose": sorted(packages.glob("*.dist-info/METADATA")),
        "code": sorted(library.glob("*.py")),
        "json": sorted(packages.glob("**/*.json")),
    }


def segment_lengths(tokens: list[int], options: SFIOptions, vocabulary: Vocabulary) -> Iterator[int]:
    """Steps between refreshes while `tokens` are generated one by one."""
    tracker, since = SegmentTracker(options, vocabulary), 0
    for step in range(1, len(tokens)):
        since += 1
        if tracker.step(tokens, visible=step - 1):
            tracker.refreshed()
            yield since
            since = 0


def main(
    files: Annotated[int, typer.Option(help="documents of each kind")] = 60,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Steps between refreshes on real text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model())
    vocabulary = Vocabulary.of(tokenizer)
    rows = []
    with progress(console) as bar:
        kinds = documents()
        task = bar.add_task("segments", total=len(kinds))
        for kind, paths in kinds.items():
            texts = [
                path.read_text(errors="replace")[:MAX_CHARS] for path in paths[:: max(1, len(paths) // files)][:files]
            ]
            tokens = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
            for policy in POLICIES:
                options = SFIOptions.model_validate({"policy": policy})
                lengths = [n for one in tokens for n in segment_lengths(one, options, vocabulary)]
                deciles = statistics.quantiles(lengths, n=10)
                rows.append(
                    {
                        "kind": kind,
                        "policy": policy,
                        "tokens": sum(map(len, tokens)),
                        "segments": len(lengths),
                        "mean": round(statistics.mean(lengths), 1),
                        "p10": deciles[0],
                        "median": statistics.median(lengths),
                        "p90": deciles[8],
                    }
                )
            bar.advance(task)
    table = Table("text", "policy", "tokens", "steps a refresh: mean", "p10", "median", "p90")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("kind", "policy", "tokens", "mean", "p10", "median", "p90")))
    console.print(table)
    if out:
        out.write_text(json.dumps({**provenance(), "documents_of_a_kind": files, "segments": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
