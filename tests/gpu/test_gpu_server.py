"""Real servers on a GPU, under CUDA graphs: executors and ranks give the reference's greedy text, up to ties."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree

import pytest
import requests
import torch

from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.serving.server import running_server
from tests.helpers import probe_env, story
from tests.small_model import WITHOUT_EXCLUSION

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

FLAGS = ["--sampling-backend", "pytorch", "--max-running-requests", "256"]  # rows for repairs
FLAGS += ["--attention-backend", "flashinfer"]  # hosts without FlashAttention 3 can run these tests too
FLAGS += ["--mem-fraction-static", "0.4", "--max-total-tokens", "65536"]  # servers side by side on one GPU
GRAPHS = [
    "--prefill-attention-backend",
    "triton",
    "--cuda-graph-bs-decode",
    *["1", "3", "8", "16", "32", "64", "128", "256"],
]
BF16, FP16 = (["--dtype", dtype] for dtype in ("bfloat16", "float16"))
TRITON = [*GRAPHS, "--sfi-executor", "triton"]
SERVERS = {
    "torch": [*BF16, "--sfi-executor", "torch"],
    "triton": [*BF16, *TRITON],
    "flashinfer": [*BF16, *GRAPHS, "--sfi-executor", "flashinfer"],
    "triton, float16, pages of 16": [*FP16, *TRITON, "--page-size", "16"],
}
RANKS = 2
TOKENS = 48
TIE = 0.3  # nats between the two tokens where the texts part: bf16 logits near 20 are 1/8 apart
ROUNDED = 0.06  # coverage: rounding changes some of the selected tokens
SFI = {"budget": 256, "recent": 64}
OPTIONS = [
    None, SFI, {**SFI, "selector": "paper"}, {**SFI, "policy": "never"}, {**SFI, "policy": "structural", "min_gap": 4},
    {**SFI, "policy": "periodic", "max_segment": 16}, {**SFI, "budget": 1000},
]  # fmt: skip
PROMPTS = [story(80 + 9 * i, start=100 * i) + " The harbor master" for i in range(len(OPTIONS))]


def ask(url: str, prompts: list[str], options: list, **params) -> list[dict]:
    """One batch, greedy. params: of sampling."""
    fixed = {"temperature": 0, "max_new_tokens": TOKENS, "ignore_eos": True, **params}
    body = {
        "text": prompts,
        "sampling_params": [{**fixed, "custom_params": {"sfi": sfi}} for sfi in options],
        "return_logprob": True,
        "top_logprobs_num": 5,
    }
    reply = requests.post(f"{url}/generate", json=body, timeout=600)
    reply.raise_for_status()
    return reply.json()


def answers(url: str, options: list) -> list[dict]:
    """Batches of seven rows (padded to eight), of three, and the memory carried into a next turn. Each reply gets the
    number of its tokens that dense attention nearly ties with another."""
    following = PROMPTS[1] + " wrote again. " + story(8, start=900)
    prompts = [*PROMPTS, *PROMPTS[:3], following, following]
    replies = ask(url, PROMPTS, options) + ask(url, PROMPTS[:3], options[1:4])
    for carry in ("inherit", "merge"):
        replies += ask(url, [following], [{**SFI, "carry": carry}])
    for prompt, reply in zip(prompts, replies, strict=True):
        reply["ties"] = ties(url, prompt + reply["text"], reply["meta_info"]["prompt_tokens"])
    return replies


def same_up_to_a_tie(expected: dict, reply: dict) -> bool:
    """Are two replies of `ask` the same to the last token? Where they part, dense attention must nearly tie."""
    mine, its = expected["output_ids"], reply["output_ids"]
    assert len(its) == TOKENS
    parted = next((i for i, pair in enumerate(zip(mine, its, strict=True)) if pair[0] != pair[1]), None)
    if parted is not None:
        choices = {token: score for score, token, _ in expected["meta_info"]["output_top_logprobs"][parted]}
        gap = choices[mine[parted]] - choices.get(its[parted], float("-inf"))
        assert gap < TIE, f"at token {parted} of {reply['text']!r}"
    return parted is None


def ties(url: str, text: str, start: int) -> int:
    params = {"temperature": 0, "max_new_tokens": 1}
    body = {"text": text, "sampling_params": params, "return_logprob": True, "logprob_start_len": start - 1}
    reply = requests.post(f"{url}/generate", json={**body, "top_logprobs_num": 2}, timeout=600)
    reply.raise_for_status()
    pairs = [top for top in reply.json()["meta_info"]["input_top_logprobs"] if top]
    assert len(pairs) >= TOKENS - 8  # a text need not have its tokens again
    return sum(first[0] - second[0] < TIE for first, second in pairs)


def assert_agree(expected: list[dict], replies: list[dict], name: str) -> None:
    """Steps and texts alike, or parted at a tie of the expected one. What dense attention agrees with may differ by the
    tokens that it nearly ties."""
    texts_alike = 0
    for one, other in zip(expected, replies, strict=True):
        info, theirs_info = (reply["meta_info"].get("sfi") for reply in (one, other))
        assert (info is None) == (theirs_info is None)
        if not same_up_to_a_tie(one, other):
            continue
        texts_alike += 1
        if info:
            for count in ("slow_steps", "fast_steps", "checked_tokens"):
                assert info[count] == theirs_info[count]
            for share, allowed in (("coverage", ROUNDED), ("agreement", one["ties"] / (info["checked_tokens"] or 1))):
                mine, its = info[share], theirs_info[share]
                assert its == (mine if mine is None else pytest.approx(mine, abs=allowed + 1e-3)), share
    print(f"{name}: {texts_alike} of {len(replies)} texts are the reference's to the last token")
    assert texts_alike > 0


def all_answers(
    servers: dict[str, list[str]], options: list, logs: Path, model: str | None = None, env: dict | None = None
) -> dict[str, list[dict]]:
    """Of servers that start together: most of their time is imports and compilation. env: by server."""

    def served(name: str) -> list[dict]:
        extra = (env or {}).get(name)
        with running_server(model, [*FLAGS, *servers[name]], log=logs / f"{name}.log", env=extra) as url:
            return answers(url, options)

    with ThreadPoolExecutor(len(servers)) as pool:
        return dict(zip(servers, pool.map(served, servers), strict=True))


@pytest.fixture(scope="module")
def replies(tmp_path_factory) -> dict[str, list[dict]]:
    return all_answers(SERVERS, OPTIONS, tmp_path_factory.mktemp("servers"))


@pytest.mark.parametrize("name", list(SERVERS)[1:])
def test_executors_agree(name, replies):
    assert_agree(replies["torch"], replies[name], name)


def random_model(folder: Path) -> str:
    """Two layers whose two KV heads can be parted, with SmolLM2's tokenizer. Its weights are large enough that
    attention has its favourites."""
    from transformers import LlamaConfig, LlamaForCausalLM

    copytree(embedded_model(), folder, ignore=lambda _, names: [name for name in names if "safetensors" in name])
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(
        folder, hidden_size=512, intermediate_size=1024, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, head_dim=128, initializer_range=0.07,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


@pytest.mark.skipif(torch.cuda.device_count() < RANKS, reason=f"needs {RANKS} GPUs")
def test_ranks_decide_alike_and_like_one_rank(tmp_path):
    """In fp16, where texts of the random model part at gaps below 0.01 nats (on a CPU); in bf16 at up to 0.34."""
    model, steps = random_model(tmp_path / "model"), tmp_path / "steps"
    steps.mkdir()
    options = [{**o, "selector": WITHOUT_EXCLUSION} if o and o.get("selector") == "paper" else o for o in OPTIONS]
    one = [*FP16, *TRITON]
    servers = {"one": one, "two": [*one, "--tp", str(RANKS), "--disable-custom-all-reduce"]}  # NCCL does on any two
    env = {"two": probe_env(traced=False, PROBE_STEPS=str(steps))}
    replies = all_answers(servers, options, tmp_path, model, env)
    assert_agree(replies["one"], replies["two"], f"{RANKS} ranks")
    ranks = [file.read_text() for file in steps.iterdir()]
    assert len(ranks) == RANKS and len(set(ranks)) == 1
