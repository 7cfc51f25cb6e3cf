"""A real HTTP server that answers chat completions as it is told: errors, silence, broken and whole streams."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SFI = {"slow_steps": 1}


def piece(**choice):
    choices = [{"index": 0, **choice}] if choice else []
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}


def call(tool, **arguments):
    return {"tool": tool, "arguments": json.dumps(arguments)}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.act(self, body)

    def refuse(self, status):
        text = json.dumps({"error": {"message": "as told", "code": status}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, *chunks, whole=True, stall=0):
        """Server-sent events in chunked encoding. Not `whole`: without the end that HTTP asks for. stall: seconds."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in [*map(json.dumps, chunks), *(["[DONE]"] if whole else [])]:
            data = f"data: {chunk}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        time.sleep(stall)
        if whole:
            self.wfile.write(b"0\r\n\r\n")

    def reply(self, tool=None, arguments="", text=None, finish=None, sfi=SFI, whole=True, stall=0):
        """A call of `tool`, or a text. finish: why it ended, if not as it should. sfi: the report."""
        function = {"name": tool, "arguments": arguments}
        made = {"tool_calls": [{"index": 0, "id": f"call_{len(self.server.bodies)}", "function": function}]}
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        usage["prompt_tokens_details"] = {"cached_tokens": 4}
        said = made if text is None else {"content": text}
        chunks = [piece(delta={"role": "assistant", "content": ""}), piece(delta=said)]
        finish = finish or ("tool_calls" if text is None else "stop")
        end = [piece(delta={}, finish_reason=finish), {**piece(), "usage": usage, "sfi": sfi}]
        self.stream(*chunks, *(end if whole else []), whole=whole, stall=stall)


@contextmanager
def serve(script):
    """A server and its URL. script: for each request a status to refuse with, seconds (a float) of silence before the
    end, or arguments of Handler.reply; a list of those, or a function of the request's body."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.bodies = []
    steps = iter(script) if isinstance(script, list) else None

    def act(handler, body):
        step = next(steps) if steps else script(body)
        if isinstance(step, int):
            handler.refuse(step)
        elif isinstance(step, float):
            time.sleep(step)
        else:
            handler.reply(**step)

    server.act = act
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
