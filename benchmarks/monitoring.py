"""The Grafana dashboard's expressions against a real Prometheus that scrapes a real server under traffic.

    python -m benchmarks.monitoring --out benchmarks/results/monitoring_cpu.json

Needs `prometheus` and `promtool` (Debian: apt-get install prometheus). Starts a server, or takes `--server`; drives
chats of several turns with SFI and without; then asks Prometheus every expression of every panel, as Grafana would, and
says which returned a number. `promtool check metrics` reads /metrics too. With `pip install grafana-foundation-sdk` the
dashboard also goes through Grafana's types: what they do not know would be lost there.
"""

import contextlib
import json
import math
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import requests
import typer
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.server import connected, reserved_port
from sfi_sglang.terminal import console

DASHBOARD = Path(__file__).parents[1] / "examples" / "monitoring" / "sfi-dashboard.json"
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}
TURNS, CONVERSATIONS = 4, 6
OPTIONS = ({"budget": 256, "recent": 256, "carry": "merge"}, {"budget": 512, "recent": 256, "carry": "inherit"}, None)
CONFIGURATION = """
global: {{scrape_interval: 2s}}
scrape_configs: [{{job_name: sglang, static_configs: [{{targets: ["{target}"]}}]}}]
"""


def expressions(dashboard: Path = DASHBOARD) -> list[tuple[str, str]]:
    """Title of the panel and PromQL of each query, Grafana's variables filled in."""
    found = []
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            found.append((panel["title"], query))
    return found


def unknown_to_grafana(board: dict[str, Any]) -> list[str] | None:
    """Paths of what is lost on the way through Grafana's types; None where they are not installed."""
    try:
        encoder = import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder()
    except ImportError:
        return None

    def lost(kind: str, given: Any) -> list[str]:
        module, _, name = kind.rpartition(".")
        model = getattr(import_module(f"grafana_foundation_sdk.models.{module}"), name)
        return list(differences(given, json.loads(encoder.encode(model.from_json(given))), kind))

    found = lost("dashboard.Dashboard", board)
    for panel in board["panels"]:
        found += lost(f"{panel['type']}.Options", panel.get("options", {}))
        found += [path for target in panel["targets"] for path in lost("prometheus.Dataquery", target)]
    return found


def differences(one: Any, other: Any, path: str) -> Iterator[str]:
    """Where `other` lacks what `one` has."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key, value in one.items():
            yield from differences(value, other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif one != other:
        yield path


def metric_names(query: str) -> set[str]:
    """Those that a PromQL expression reads, as SGLang names them. The expressions take an underscore for the colon too:
    prometheus_client puts one there where Prometheus asks for the OpenMetrics format."""
    return {f"sglang:{name}" for name in re.findall(r'"sglang\[:_\](\w+)"', query)}


def drive(url: str) -> None:
    """Chats of a few turns about a story, with SFI and without."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")

    def chat(number: int) -> None:
        options = OPTIONS[number % len(OPTIONS)]
        told = " ".join(f"On day {i} the harbor master counted {(i * number) % 17 + 2} ships." for i in range(70))
        messages: Any = [{"role": "user", "content": f"{told} What happened?"}]
        for turn in range(TURNS):
            reply = client.chat.completions.create(
                model="m",
                messages=messages,
                max_tokens=64,
                temperature=0,
                extra_body={"sfi": options, "ignore_eos": True},
            )
            messages.append({"role": "assistant", "content": reply.choices[0].message.content})
            messages.append({"role": "user", "content": f"And on day {10 * turn}? " + told[: 400 * turn]})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(chat, range(1, CONVERSATIONS + 1)))


@contextlib.contextmanager
def running_prometheus(target: str) -> Iterator[str]:
    """URL of a Prometheus on 127.0.0.1 that scrapes `target` (host:port)."""
    with tempfile.TemporaryDirectory(prefix="sfi-prometheus-") as folder, reserved_port() as port:
        configuration = Path(folder) / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=target))
        subprocess.run(["promtool", "check", "config", configuration], check=True, capture_output=True)
        listen = f"--web.listen-address=127.0.0.1:{port}"
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder}/data", listen]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(100):
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"{url}/-/ready", timeout=5).ok:
                        break
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait()


def await_scrape(prometheus: str) -> None:
    """Until the server is scraped: rates need a first value."""
    while ask(prometheus, "up") != [1]:
        time.sleep(0.5)


def ask(prometheus: str, query: str) -> list[float]:
    """The numbers that an expression has now, one a series.

    Raises:
        ValueError: Prometheus refuses it.
    """
    reply = requests.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=30).json()
    if reply["status"] != "success":
        raise ValueError(f"{query}: {reply['error']}")
    values = (float(series["value"][1]) for series in reply["data"]["result"])
    return [value for value in values if not math.isnan(value)]


def distributions(url: str) -> dict[str, dict[str, float]]:
    """Of each of our histograms, how many values were at most so large."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(requests.get(f"{url}/metrics", timeout=30).text):
        if family.type == "histogram" and family.name.startswith(METRIC_PREFIX):
            buckets = (sample for sample in family.samples if sample.name.endswith("_bucket"))
            found[family.name] = {sample.labels["le"]: sample.value for sample in buckets}
    return found


def lint(url: str) -> list[str]:
    """What `promtool check metrics` says of ours, the colon aside that SGLang's metrics all have."""
    text = requests.get(f"{url}/metrics", timeout=30).text
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return [line for line in told.stderr.splitlines() if METRIC_PREFIX in line and "contain ':'" not in line]


def main(
    server: Annotated[str | None, typer.Option(help="URL of a running server; one is started without it")] = None,
    out: Annotated[Path | None, typer.Option(help="write the result here")] = None,
) -> None:
    with connected(server, log=Path("runs/monitoring.log")) as url:
        with running_prometheus(urlsplit(url).netloc) as prometheus:
            await_scrape(prometheus)
            drive(url)
            time.sleep(5)  # two scrapes more
            rows = [(panel, query, ask(prometheus, query)) for panel, query in expressions()]
            version = requests.get(f"{prometheus}/api/v1/status/buildinfo", timeout=30).json()["data"]["version"]
        histograms = distributions(url)
        problems = lint(url)
    table = Table("panel", "series", "first value")
    for panel, _, values in rows:
        table.add_row(panel, str(len(values)), f"{values[0]:.4g}" if values else "[red]none")
    unknown = unknown_to_grafana(json.loads(DASHBOARD.read_text()))
    console.print(table, f"Prometheus {version}; promtool on our metrics: {problems or 'nothing'}")
    console.print(f"unknown to Grafana's types: {'not asked' if unknown is None else unknown or 'nothing'}")
    if out:
        result = {
            **provenance(),
            "prometheus": version,
            "promtool": problems,
            "unknown_to_grafana": unknown,
            "rows": [dict(zip(("panel", "query", "values"), row, strict=True)) for row in rows],
            "histograms": histograms,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
    if silent := [query for _, query, values in rows if not values]:
        raise SystemExit(f"no data: {silent}")


if __name__ == "__main__":
    typer.run(main)
