"""Ask a server all questions of some jobs, and tell beforehand how long it takes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.progress import Progress

from sfi_sglang.evals.job import Job, Work
from sfi_sglang.evals.outcomes import Outcome, Outcomes


def ask_all(jobs: Sequence[Job], outcomes: Outcomes, bars: Progress, say: Callable[[str], None]) -> None:
    """What `outcomes` has already is not asked again. The first question of every job tells how long the others take:
    `say` gets that as a sentence, and the bar counts in these seconds.

    Raises:
        ConnectionError, RuntimeError: as the jobs do; what was answered before is kept.
    """
    known = outcomes.keys()
    left = {job.task: job.left(known) for job in jobs}
    if not any(left.values()):
        return
    bar = bars.add_task("one question of each task, to see how long they take", total=None)
    pace, began = dict[str, float](), time.monotonic()  # pace: seconds by a question's size
    for job in jobs:
        for work in left[job.task][:1]:
            bars.update(bar, description=f"{job.task}, the first of {len(left[job.task])}")
            start = time.monotonic()
            keep(job.answer(work), outcomes)
            pace[job.task] = (time.monotonic() - start) / work.size
    passed = time.monotonic() - began
    seconds = {task: [pace[task] * work.size for work in found[1:]] for task, found in left.items() if found}
    ahead = sum(map(sum, seconds.values()))
    if ahead:
        say(f"{duration(ahead)} for {sum(map(len, seconds.values()))} more questions")
    bars.update(bar, total=passed + ahead, completed=passed)
    for job in jobs:
        rest = left[job.task][1:]
        for number, (answers, cost) in enumerate(zip(answered(job, rest), seconds.get(job.task, []), strict=True), 2):
            keep(answers, outcomes)
            bars.update(bar, advance=cost, description=f"{job.task} {number}/{len(rest) + 1}")


def answered(job: Job, left: Sequence[Work]) -> Iterator[list[Outcome]]:
    """In the order of the questions, `clients` of them at once."""
    with ThreadPoolExecutor(job.clients) as pool:
        try:
            yield from pool.map(job.answer, left)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def keep(answers: Iterable[Outcome], outcomes: Outcomes) -> None:
    for outcome in answers:
        outcomes.add(outcome)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
