"""What an operator sees of SFI on a real server: histograms, what the dashboard asks for."""

import json
import re

import pytest
import requests

from benchmarks.monitoring import DASHBOARD, distributions, expressions, metric_names
from sfi_sglang import METRIC_PREFIX
from sfi_sglang.api.metrics import BUCKETS
from sfi_sglang.client.endpoint import Endpoint
from tests.helpers import flush, generate, story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 8, "carry": "inherit"}
PROMPT = story(40)


def counted(url: str) -> dict[str, float]:
    return {name.removeprefix(METRIC_PREFIX): value for name, value in Endpoint(url, "").counters().items()}


def test_histograms_are_the_reports_and_the_passes(server):
    flush(server)
    generate(server, PROMPT, SMALL, tokens=4)  # the series exist from here on
    before = counted(server)
    longer = f"{PROMPT} {story(9, 200)}"
    reports = [generate(server, text, SMALL, tokens=24)["meta_info"]["sfi"] for text in (longer, story(30, 500))]
    after = counted(server)

    def grown(name: str) -> float:
        return after[name] - before[name]

    for share in ("coverage", "agreement"):
        assert grown(f"{share}_count") == 2
        assert grown(f"{share}_sum") == pytest.approx(sum(report[share] for report in reports), abs=1e-3)
    first, second = reports
    assert first["inherited_tokens"] > 0 == second["inherited_tokens"]
    assert grown("memory_age_tokens_count") == 1
    assert grown("memory_age_tokens_sum") == first["prompt_tokens"] - first["inherited_tokens"]
    passes, slow = grown("refresh_seconds_count"), sum(report["slow_steps"] for report in reports)
    assert slow <= passes <= slow + 2, "one request ran at a time, and a step may be launched for nothing at its end"
    assert 0.001 < grown("refresh_seconds_sum") / passes < 10
    assert distributions(server).keys() == {METRIC_PREFIX + name for name in BUCKETS}


def test_every_metric_of_the_dashboard_is_on_the_server(server, client):
    generate(server, PROMPT, SMALL, tokens=24)
    messages = [{"role": "user", "content": PROMPT}]
    stream = client.chat.completions.create(
        model="m", messages=messages, max_tokens=8, stream=True, extra_body={"sfi": SMALL}
    )
    assert len(list(stream)) > 2  # SGLang has times between tokens where it sends them one by one
    there = Endpoint(server, "").counters().keys()
    asked = [metric_names(query) for _, query in expressions()]
    assert all(asked) and set().union(*asked) - there == set()
    text = requests.get(f"{server}/metrics", timeout=30).text
    kinds = dict(re.findall(r"^# TYPE (sglang:sfi_\w+) (\w+)", text, re.MULTILINE))
    assert {name for name, kind in kinds.items() if kind == "histogram"} == {METRIC_PREFIX + name for name in BUCKETS}
    shown = " ".join(query for _, query in expressions())
    assert [name for name in BUCKETS if f"sfi_{name}_bucket" not in shown] == [], "of no use if nobody looks"


def test_the_dashboard_is_one_that_grafana_loads():
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) and "id" not in board
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == variables == {"datasource", "instance"}
