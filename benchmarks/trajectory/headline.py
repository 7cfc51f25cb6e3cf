"""The result in one sentence, whether SFI wins or loses."""

from sfi_sglang.report.modes import NAMES
from sfi_sglang.trajectory.records import Header
from sfi_sglang.trajectory.stats import Ratio
from sfi_sglang.trajectory.summary import SpeedUp, Summary

UNITS = {"closed": ("client", "clients"), "poisson": ("trajectory/s", "trajectories/s"), "trace": ("load", "load")}


def unit(header: Header, load: float) -> str:
    """Of a load: "1 client", "0.5 trajectories/s"."""
    return f"{load:g} {UNITS[header.arrivals][load != 1]}"


def headline(summary: Summary) -> str:
    found = [(pairing, pairing.time) for pairing in summary.speed_up if pairing.time]
    if not found:
        return "No trajectory was completed both dense and with SFI, so there is nothing to compare."
    ratios = [
        f"{time.value:.2f}x" + (f" ({time.interval.low:.2f}–{time.interval.high:.2f})" if time.interval else "")
        for _, time in found
    ]
    where = _at(summary.header, [pairing.load for pairing, _ in found])
    dense = "dense of the other file" if summary.borrowed else "dense"
    sentence = f"SFI finished trajectories {_list(ratios)} as fast as {dense} {where}"
    notes = [
        f"{text} {_at(summary.header, loads)}"
        for verdict, text in NOTES.items()
        if (loads := [pairing.load for pairing, time in found if _verdict(pairing, time) == verdict])
    ]
    return f"{sentence}{': ' if notes else ''}{'; '.join(notes)}.{_never_acted(summary)}{_right_answers(summary)}"


NOTES = {
    "slower": "SFI is slower",
    "unclear": "no clear difference",
    "too few": "too few trajectories to be sure",
    "idle": "SFI never acted",
}


def _verdict(pairing: SpeedUp, time: Ratio) -> str:
    """A ratio of decodes that were dense on both sides is none of SFI's."""
    return "idle" if pairing.idle == pairing.pairs else time.verdict


def _never_acted(summary: Summary) -> str:
    """Of the loads where it acted in other pairs."""
    mixed = [pairing for pairing in summary.speed_up if 0 < pairing.idle < pairing.pairs]
    idle, pairs = (sum(getattr(pairing, name) for pairing in mixed) for name in ("idle", "pairs"))
    return f" In {idle} of {pairs} pairs SFI never acted." if mixed else ""


def _right_answers(summary: Summary) -> str:
    """A live agent that gives up is fast, so its answers stand beside its time."""
    counts = []
    for mode, name in NAMES.items():
        found = [cell.success for cell in summary.cells if cell.mode == mode and cell.success]
        if found:
            counts.append(f"{name} {sum(s.successes for s in found)} of {sum(s.n for s in found)}")
    return f" Right answers: {', '.join(counts)}." if counts else ""


def _at(header: Header, loads: list[float]) -> str:
    return f"at {_list([*(f'{load:g}' for load in loads[:-1]), unit(header, loads[-1])])}"


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
