"""The page: the report with figures. Needs the extra `bench`."""

from sfi_sglang.evals.answer_plots import answer_curve, depth_maps, right_bars
from sfi_sglang.evals.report import content
from sfi_sglang.evals.summary import Summary
from sfi_sglang.evals.text_plots import agreement_curve, by_age, by_kind, chosen, coverage_map, divergence
from sfi_sglang.report.page import PlotGroup
from sfi_sglang.report.page import page as render

NUMBERS = {
    "budget": "budget, tokens selected per KV head",
    "max_segment": "most decode steps between refreshes",
}
DEPTH_TASKS = ("retrieval", "copy", "tools")


def page(summary: Summary) -> str:
    """One HTML file that needs nothing else."""
    return render(content(summary), groups(summary), summary.model_dump_json(indent=1))


def groups(summary: Summary) -> list[PlotGroup]:
    maps = [
        PlotGroup(
            f"Right answers by length and depth: {task}",
            "Each panel is one kind of question in one variant. Across: how long the prompt is. Down: how far from its "
            "beginning the answer stands, the end of the prompt lowest. Numbers: right answers of questions.",
            {f"depth-{task}": depth_maps(summary, task)},
        )
        for task in DEPTH_TASKS
    ]
    curves = [
        PlotGroup(
            f"Right answers by {option}",
            "A line for each kind of question; dashed in the same colour: dense attention. Whiskers: intervals of 95%.",
            {f"{task}-{option}": answer_curve(summary, task, option, f"{task}: {title}") for task in DEPTH_TASKS},
        )
        for option, title in NUMBERS.items()
    ]
    return [*maps, *curves, *_texts(summary), *_live(summary)]


def _texts(summary: Summary) -> list[PlotGroup]:
    return [
        PlotGroup(
            "Agreement by tokens since the last refresh",
            "Left: share of tokens that dense attention would have chosen too. Right: how far the probabilities are "
            "from those of dense attention. 0 is the token of a slow step, which sees everything; the older a "
            "selection is, the less it may fit. Dashed: dense attention against itself.",
            {"age-chosen": by_age(summary, chosen), "age-divergence": by_age(summary, divergence)},
        ),
        PlotGroup(
            "Agreement by kind of text",
            "The same over whole continuations. Whiskers: intervals of 95% over texts.",
            {"kind-chosen": by_kind(summary, chosen), "kind-divergence": by_kind(summary, divergence)},
        ),
        PlotGroup(
            "Agreement by a number of the request",
            "A line for each kind of text; dashed in the same colour: dense attention against itself.",
            {f"agreement-{option}": agreement_curve(summary, option, title) for option, title in NUMBERS.items()},
        ),
        PlotGroup(
            "Coverage of every head",
            "Share of the attention at slow steps that falls on what fast steps saw before: the old selection, sink "
            "and recent tokens. Red heads look at what fast steps did not see.",
            {
                f"coverage-{number}": coverage_map(summary, variant)
                for number, variant in enumerate(dict.fromkeys(head.variant for head in summary.coverage))
            },
        ),
    ]


def _live(summary: Summary) -> list[PlotGroup]:
    return [
        PlotGroup(
            "Memory over turns",
            "Share of the facts told in a conversation's first turn that were found in its last, by carry mode.",
            {"carry": right_bars(summary, "carry", "where the facts were told")},
        ),
        PlotGroup(
            "Agents",
            "Share of the tasks of live agent programs that ended with the right answer.",
            {"agents": right_bars(summary, "agents", "program")},
        ),
    ]
