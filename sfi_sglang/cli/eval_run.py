"""What every command of `sfi-sglang eval` does around its questions: a server, the answers' file, the report."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sfi_sglang.cli.extra import advice
from sfi_sglang.cli.options import SERVER_LOG
from sfi_sglang.evals.variants import Sight
from sfi_sglang.serving.server import connected
from sfi_sglang.terminal import console, long_progress

if TYPE_CHECKING:
    from sfi_sglang.client.endpoint import Endpoint
    from sfi_sglang.client.token_count import Count
    from sfi_sglang.evals.job import Job
    from sfi_sglang.evals.jobs import Target
    from sfi_sglang.evals.outcomes import Outcomes

SAMPLE_TOKENS = 1500  # of the eval's own text, where tokens can only be estimated
ANSWERS = "answers.jsonl"


def evaluate(
    server: str | None,
    out: Path | None,
    sight: Sight,
    compared: str,
    clients: int,
    plan: Callable[["Target"], Sequence["Job"]],
) -> None:
    """Ask what `plan` makes for the server, then print and write the report.

    Raises:
        typer.BadParameter: no such set.
        ValueError, ConnectionError, RuntimeError: in the user's words.
    """
    from sfi_sglang.client.endpoint import Endpoint
    from sfi_sglang.client.provenance import provenance
    from sfi_sglang.evals.accepted import accepted
    from sfi_sglang.evals.ask import ask_all
    from sfi_sglang.evals.jobs import Target
    from sfi_sglang.evals.outcomes import Outcomes
    from sfi_sglang.evals.variants import SETS, variants

    if compared not in SETS:
        raise typer.BadParameter(f"{compared!r} is none of {', '.join(SETS)}", param_hint="--set")
    if out and out.is_file():
        raise ValueError(f"{out}: a file; --out is a folder")
    with connected(server, log=SERVER_LOG) as url:
        endpoint = Endpoint.connect(url)
        origin = {**provenance(), "server": endpoint.launch_command()}
        outcomes = Outcomes(out and out / ANSWERS, endpoint.model, origin)
        kept, refused = accepted(url, variants(sight, compared))
        for label, reason in refused.items():
            console.print(f"left out: {label} ({reason})", markup=False, highlight=False, soft_wrap=True)
        jobs = plan(Target(endpoint, counter(endpoint), kept, sight, compared, clients))
        for job in jobs:
            outcomes.begin(job.task, job.identity, {variant.label: variant.about for variant in job.variants}, refused)
        resume = f"; after a break go on with the same --out {out}" if out else ""
        say = partial(console.print, end=f"{resume}\n", highlight=False, soft_wrap=True)
        with long_progress(console) as bars:
            ask_all(jobs, outcomes, bars, say)
    publish(outcomes, out)


def counter(endpoint: "Endpoint") -> "Count":
    """The served model's tokenizer where its folder is on this machine, else an estimate from its server."""
    from sfi_sglang.client.token_count import estimate, from_server
    from sfi_sglang.evals.prose import sentences

    return from_server(endpoint.url, endpoint.model, " ".join(sentences(SAMPLE_TOKENS, random.Random(0), estimate())))


def publish(outcomes: "Outcomes", out: Path | None) -> None:
    """The tables on the screen; summary.json, report.md and the page beside the answers."""
    from sfi_sglang.evals.headline import headline
    from sfi_sglang.evals.report import plain_files
    from sfi_sglang.evals.summary import summarise
    from sfi_sglang.evals.tables import tables
    from sfi_sglang.report.content import write_files
    from sfi_sglang.report.markdown import section

    summary = summarise(outcomes.header, outcomes.all)
    for part in (*map(section, tables(summary)), headline(summary)):
        console.print(f"{part}\n", markup=False, highlight=False, soft_wrap=True)
    if out is None:
        return
    files = plain_files(summary)
    try:
        from sfi_sglang.evals.page import page

        files["index.html"] = page(summary)
    except ModuleNotFoundError as error:
        console.print(f"no page, because {advice(error)}", markup=False, highlight=False, soft_wrap=True)
    console.print(out / ANSWERS, *write_files(out, files), sep="\n", highlight=False, soft_wrap=True)
