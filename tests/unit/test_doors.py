"""Every door of SGLang's HTTP server takes `sfi` or answers 400; a body that passes is the one that came."""

import asyncio
import itertools
import json

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang import sglang_symbols
from sfi_sglang.integration.doors import METHODS, OPEN, Doors, put_on, refusal_at, says_sfi

# SGLang 0.5.23's. A new path is closed until somebody has seen that `sfi` works there, and put it into OPEN.
GENERATING = "/v1/responses /v1/messages /api/chat /api/generate /vertex_generate /v1/audio/transcriptions"
OTHERS = """
    /v1/responses/{response_id}/cancel /v1/messages/count_tokens /api/show /v1/systemone /v1/decisions /v1/embeddings
    /v1/classify /v1/score /v1/rerank /encode /classify /tokenize /v1/tokenize /detokenize /v1/detokenize
"""
CONTROL = """
    /abort_request /add_external_corpus /begin_weight_update /close_session /configure_logging /continue_generation
    /destroy_weights_update_group /dump_expert_distribution_record /end_weight_update /flush_cache /freeze_gc
    /get_weights_by_name /hicache/storage-backend /hicache/storage-backend/clear
    /init_weights_send_group_for_remote_instance /init_weights_update_group /load_lora_adapter
    /load_lora_adapter_from_tensors /open_session /parse_function_call /pause_generation /pd_role_switch
    /release_memory_occupation /remove_external_corpus /resume_memory_occupation /scale_elastic_ep
    /send_weights_to_remote_instance /separate_reasoning /set_internal_state /set_trace_level /slow_down
    /start_expert_distribution_record /start_profile /stop_expert_distribution_record /stop_profile
    /unload_lora_adapter /update_weight_version /update_weights_from_disk /update_weights_from_distributed
    /update_weights_from_ipc /update_weights_from_tensor /weights_checker
"""
CLOSED = {path for paths in (GENERATING, OTHERS, CONTROL) for path in paths.split()}
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("sfi"), inner, max_size=3)
    ),
    max_leaves=8,
)


class Server:
    """An endpoint that reads its whole body, and then waits for the client to go, as a stream does."""

    def __init__(self, problems=()):
        self.doors, self.seen = Doors(self, problems), None

    async def __call__(self, scope, receive, send):
        self.seen = []
        while not self.seen or self.seen[-1].get("more_body"):
            self.seen.append(await receive())
        if self.seen[-1]["type"] == "http.request":
            self.seen.append(await receive())

    def knock(self, path, *chunks, method="POST", gone=False, **scope):
        """Status and body of the doors' answer; None if the request went on. gone: the client is, before the end."""
        incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        if not gone:
            incoming[-1]["more_body"] = False
        incoming.append({"type": "http.disconnect"})
        self.sent, answer = list(incoming), []

        async def receive():
            return incoming.pop(0)

        async def send(message):
            answer.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": [], **scope}
        asyncio.run(self.doors(scope, receive, send))
        return (answer[0]["status"], json.loads(answer[1]["body"])) if answer else None


def pieces(body: bytes, cuts) -> list[bytes]:
    ends = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(ends)]


@given(body=json_value.map(json.dumps) | st.text(), cuts=st.lists(st.integers(0, 200), max_size=4), gone=st.booleans())
def test_a_body_is_refused_for_its_own_sfi_alone(body, cuts, gone):
    """In however many pieces; what goes on is what came, to the disconnect."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    server, chunks = Server(), pieces(body.encode(), cuts)
    answer = server.knock("/v1/responses", *chunks, gone=gone)
    if isinstance(value, dict) and value.get("sfi") is not None:
        assert answer[0] == 400 and server.seen is None
    else:
        assert answer is None and server.seen == server.sent


def test_a_refusal_names_the_path_and_the_way():
    status, body = Server().knock("/v1/messages", b'{"sfi": {"budget": 64}}')
    assert status == 400 and body["error"]["param"] == "sfi"
    assert body["error"]["message"] == refusal_at("/v1/messages")
    assert "/v1/messages" in refusal_at("/v1/messages") and "/v1/chat/completions" in refusal_at("/v1/messages")
    assert "parameters.sampling_params.custom_params.sfi" in refusal_at("/vertex_generate")


@pytest.mark.parametrize("path", sorted(OPEN))
def test_open_doors_read_nothing(path):
    server = Server()
    assert server.knock(path, b'{"sfi"', b": true}") is None
    assert server.seen == server.sent
    assert server.knock(f"/below{path}/", b'{"sfi": true}', root_path="/below") is None


def test_with_a_problem_every_door_is_closed():
    problems = []
    server = Server(problems)
    assert server.knock("/v1/completions", b'{"sfi": true}') is None
    problems.append("a name moved")
    status, body = server.knock("/v1/completions", b'{"sfi": true}')
    assert status == 400 and body["error"]["message"] == "sfi: not available on this server: a name moved"
    assert server.knock("/v1/completions", b'{"prompt": "sfi"}') is None


def test_others_pass():
    server = Server()
    assert server.knock("/v1/responses", b'{"sfi": true}', method="GET") is None
    assert server.knock("/v1/realtime", b'{"sfi": true}', type="websocket") is None
    deep = b'{"sfi": ' + b"[" * 100_000
    large = json.dumps({"prompt": '"sfi" ' * 1_000_000, "options": {"sfi": True}}).encode()
    for body in (deep, large):
        assert not says_sfi(body)
        assert server.knock("/v1/responses", *pieces(body, [5, 70_000])) is None and server.seen == server.sent


def test_every_route_is_known():
    """A POST or PUT route that is in neither list came with a new SGLang: is `sfi` read there?"""
    app = sglang_symbols.resolve(sglang_symbols.HTTP_APP)
    routes = [context.route for context in iter_route_contexts(app.routes)]
    paths = {route.path for route in routes if isinstance(route, APIRoute) and route.methods & METHODS}
    assert paths == OPEN | CLOSED


def test_doors_stand_behind_all_other_middleware():
    from fastapi import FastAPI

    app = FastAPI()
    app.add_middleware(Doors)
    put_on(app, ["reason"])
    app.add_middleware(Doors)
    assert [middleware.kwargs for middleware in app.user_middleware] == [{}, {}, {"problems": ["reason"]}]
