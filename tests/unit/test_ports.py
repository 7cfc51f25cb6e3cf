"""Servers that start side by side get ports of their own."""

import contextlib
import socket

from sfi_sglang.serving.server import reserved_port


def test_nobody_is_given_a_reserved_port_and_a_server_can_bind_it():
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(reserved_port()) for _ in range(300)]
        assert len(set(ports)) == len(ports)
        with socket.create_server(("127.0.0.1", ports[0])) as listening:  # with SO_REUSEADDR, as uvicorn
            assert listening.getsockname()[1] == ports[0]
