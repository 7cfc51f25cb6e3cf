"""Answers that nobody gave, for the tests of the evaluation's report."""

from sfi_sglang.evals.outcomes import Header, Outcome, Turns
from sfi_sglang.evals.variants import Variant

VARIANTS = [
    Variant("dense", None, "full attention at every step"),
    Variant("sfi", {"budget": 512}, "as served"),
    Variant("128", {"budget": 128}, "SFI with this budget"),
]
ASKED = {variant.label: variant.sfi for variant in VARIANTS}
CARRY = {"dense": None, "fresh": {"budget": 512, "carry": "fresh"}}
HEADER = Header(
    model="made",
    settings={
        "retrieval": {"budget": 512, "trials": 20, "variants": ASKED},
        "agreement": {"budget": 512, "variants": ASKED},
        "coverage": {"budget": 512, "variants": {"sfi": {"budget": 512}}},
        "carry": {"budget": 512, "variants": CARRY},
        "agents": {"budget": 512, "variants": ASKED},
    },
    about={variant.label: variant.about for variant in VARIANTS},
    refused={"oracle": "sfi.fast: oracle needs | the torch executor"},
    provenance={
        "command": "eval",
        "machine": "a machine",
        "date": "2026-01-01",
        "versions": {"sglang": "1", "x": None},
    },
)


def right(variant, seed, value=True, kind="single", length=2000, depth=0.5, task="retrieval"):
    return Outcome(
        task=task, kind=kind, length=length, seed=seed, variant=variant, depth=depth, right=[value],
        text="text\u2028more", fast_steps=3, slow_steps=1,
    )  # fmt: skip


def continued(variant, seed, chosen, divergence=None, refreshes=(), kind="code"):
    nats = divergence or [0.0 if each else 0.5 for each in chosen]
    return Outcome(
        task="agreement", kind=kind, length=900, seed=seed, variant=variant, chosen=chosen, divergence=nats,
        refreshes=list(refreshes),
    )  # fmt: skip


def covered(seed, coverage, variant="sfi"):
    return Outcome(task="coverage", kind="code", length=900, seed=seed, variant=variant, coverage=coverage)


def carried(variant, seed, facts, seconds=(), inherited=0, slow=6):
    turns = Turns(
        requests=4, prompt_tokens=1000, inherited_tokens=inherited, slow_steps=slow, first_token_seconds=list(seconds)
    )
    kind = "told in turn 1 of 3"
    return Outcome(task="carry", kind=kind, length=6000, seed=seed, variant=variant, right=facts, turns=turns)


def answers():
    """Of every task. Depths: the first quarter is where SFI with 128 fails."""
    made = [
        right(variant, seed, variant != "128" or seed % 4 > 0, length=length, depth=(seed % 4 + 0.5) / 4)
        for length in (2000, 4000)
        for seed in range(20)
        for variant in ASKED
    ]
    made += [right(variant, seed, seed < 10, "multi-key") for variant in ASKED for seed in range(20)]
    for seed, kind in enumerate(("code", "prose", "code", "prose")):
        made.append(continued("dense", seed, [True] * 100, kind=kind))
        for variant, wrong in (("sfi", 4), ("128", 9)):
            made.append(continued(variant, seed, [i % 25 >= wrong for i in range(100)], refreshes=(0, 70), kind=kind))
    made += [covered(seed, [[0.9, 0.5], [0.8, 0.1 * seed]]) for seed in (1, 2)]
    for seed in (1, 2):
        made.append(carried("dense", seed, [True, True, False], seconds=(0.2, 0.4), slow=0))
        made.append(carried("fresh", seed, [True, seed > 1, False], seconds=(0.3, 0.5), inherited=250))
    for seed in range(5):
        made += [right(v, seed, seed > (v == "sfi"), "repo", None, None, "agents") for v in ("dense", "sfi")]
    return made
