"""A server whose model SFI cannot serve: it starts, answers dense requests, and refuses SFI at the door by name."""

import pytest
import requests

from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env
from tests.model_families import write_config

PROMPT = list(range(1, 90))
WEIGHTLESS = ["--load-format", "dummy", "--skip-tokenizer-init"]


@pytest.mark.parametrize(
    ("family", "flags", "reason"),
    [
        ("gemma3_text", [], "layer 0 of the model attends to a sliding window"),
        ("llama", ["--kv-cache-dtype", "fp8_e4m3"], "the KV cache is float8_e4m3fn"),
    ],
)
def test_dense_requests_go_on(tmp_path, family, flags, reason):
    model = write_config(family, tmp_path / family)
    log = tmp_path / "server.log"
    with running_server(str(model), [*WEIGHTLESS, *flags], log=log, env=probe_env(traced=False)) as url:

        def ask(sfi) -> requests.Response:
            sampling = {"max_new_tokens": 8, "temperature": 0, "ignore_eos": True, "custom_params": {"sfi": sfi}}
            body = {"input_ids": PROMPT, "sampling_params": sampling}
            return requests.post(f"{url}/generate", json=body, timeout=60)

        before = ask(None).json()["output_ids"]
        for sfi in (True, {"budget": 16, "recent": 16, "sink": 2}):
            refused = ask(sfi)
            assert refused.status_code == 400
            assert refused.json()["error"]["message"] == f"sfi: not available on this server: {reason}"
        assert len(before) == 8 and ask(None).json()["output_ids"] == before
        assert requests.get(f"{url}/server_info", timeout=60).json()["sfi"] == {"refusal": reason}
    assert f"SFI requests will be refused: {reason}" in log.read_text()
