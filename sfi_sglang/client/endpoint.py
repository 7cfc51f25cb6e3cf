"""The server under test: its model, its radix cache, its counters."""

import shlex
import time
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

from sfi_sglang.client.provenance import without_folders

TIMEOUT = 30.0
FLUSH_ATTEMPTS = 100  # a tenth of a second apart: SGLang refuses while the last request is being put away


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. url: without /v1."""

    url: str
    model: str

    @classmethod
    def connect(cls, url: str, model: str | None = None) -> "Endpoint":
        """model: None for the first that the server lists.

        Raises:
            ConnectionError: no OpenAI-compatible server there.
        """
        url = url.rstrip("/").removesuffix("/v1")
        try:
            listed = requests.get(f"{url}/v1/models", timeout=TIMEOUT)
            listed.raise_for_status()
            return cls(url, model or listed.json()["data"][0]["id"])
        except (requests.RequestException, KeyError, IndexError, ValueError) as error:
            raise ConnectionError(f"server: no models at {url}/v1/models ({type(error).__name__})") from None

    def flush_cache(self) -> None:
        """Empty the radix cache.

        Raises:
            RuntimeError: the server has no way to (only SGLang's is known here), or is busy.
        """
        for _ in range(FLUSH_ATTEMPTS):
            status = requests.post(f"{self.url}/flush_cache", timeout=TIMEOUT).status_code
            if status == 200:
                return
            if status in (404, 405):
                raise RuntimeError(
                    f"cache: {self.url} cannot empty its prefix cache (no /flush_cache); use --cache warm"
                )
            time.sleep(0.1)
        raise RuntimeError(f"cache: {self.url} refused to empty its prefix cache, is somebody else using it?")

    def launch_command(self) -> str | None:
        """How the server was started, as it says itself (SGLang's /server_info); None where it does not."""
        reply = requests.get(f"{self.url}/server_info", timeout=TIMEOUT)
        try:
            return without_folders(shlex.split(reply.json()["launch_command"]))
        except (requests.JSONDecodeError, LookupError, TypeError, AttributeError):
            return None

    def counters(self) -> dict[str, float]:
        """Prometheus samples summed over labels; empty if the server has none (SGLang: --enable-metrics)."""
        reply = requests.get(f"{self.url}/metrics", timeout=TIMEOUT)
        if not reply.ok:
            return {}
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(reply.text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums
