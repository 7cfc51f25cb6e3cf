"""The server under test: its model, its radix cache, its counters."""

import shlex
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from prometheus_client.parser import text_string_to_metric_families

from sfi_sglang.client.provenance import without_folders

TIMEOUT = 30.0
FLUSH_ATTEMPTS = 100  # a tenth of a second apart: SGLang refuses while the last request is being put away


def server_url(given: str) -> str:
    """`given` as users write it, as scheme://host:port: http:// where they left it out, and without /v1.

    Raises:
        ValueError: no URL of a server.
    """
    url = given.strip() if "://" in given else f"http://{given.strip()}"
    url = url.rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets without an address
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ValueError(f"server: {given!r} is no URL like http://127.0.0.1:30000")
    return url


def no_answer(url: str, error: requests.RequestException, wanted: str = "answer") -> ConnectionError:
    """What to tell a user whose server ended, or was never there."""
    why = "too slow" if isinstance(error, requests.Timeout) else "is a server running there?"
    return ConnectionError(f"server: no {wanted} at {url} ({why})")


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server. url: as server_url makes it."""

    url: str
    model: str

    @classmethod
    def connect(cls, url: str, model: str | None = None) -> "Endpoint":
        """model: None for the first that the server lists.

        Raises:
            ValueError: no URL.
            ConnectionError: no OpenAI-compatible server there.
        """
        url = server_url(url)
        try:
            listed = requests.get(f"{url}/v1/models", timeout=TIMEOUT)
        except requests.RequestException as error:
            raise no_answer(f"{url}/v1/models", error, "models") from None
        if not listed.ok:
            raise ConnectionError(f"server: no models at {url}/v1/models (HTTP {listed.status_code})")
        try:
            return cls(url, model or listed.json()["data"][0]["id"])
        except (LookupError, TypeError, ValueError):
            raise ConnectionError(f"server: no models at {url}/v1/models (not OpenAI-compatible)") from None

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
        """Prometheus samples summed over labels; empty if the server has none (SGLang: --enable-metrics).

        Raises:
            ConnectionError: no answer.
        """
        try:
            reply = requests.get(f"{self.url}/metrics", timeout=TIMEOUT)
        except requests.RequestException as error:
            raise no_answer(f"{self.url}/metrics", error) from None
        if not reply.ok:
            return {}
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(reply.text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums
