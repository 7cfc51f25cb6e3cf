"""What a user types wrongly is answered in one line, by the installed command itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfi_sglang import __version__
from sfi_sglang.client.endpoint import Endpoint, server_url

COMMAND = str(Path(sys.executable).with_name("sfi-sglang"))
DEAD = "http://127.0.0.1:9"
SILENCE = f"server: no models at {DEAD}/v1/models (is a server running there?)"


def sfi_sglang(arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    plain = {"COLUMNS": "80", "TERM": "dumb", **env}
    return subprocess.run(
        [COMMAND, *arguments.split()], capture_output=True, text=True, cwd=cwd, env={**os.environ, **plain}, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (f"demo --server {DEAD}", SILENCE),
        (f"agent repo --server {DEAD}/v1", SILENCE),
        (f"eval retrieval --server {DEAD}", SILENCE),
        ("eval carry --server 127.0.0.1:9", SILENCE),
        (f"stats --server {DEAD}/v1/", SILENCE),
        ("stats --server ftp://127.0.0.1", "server: 'ftp://127.0.0.1' is no URL like http://127.0.0.1:30000"),
    ],
)
def test_a_server_that_is_not_there_is_one_line(tmp_path, arguments, line):
    ended = sfi_sglang(arguments, tmp_path)
    assert (ended.returncode, ended.stderr, ended.stdout) == (1, f"{line}\n", "")


@pytest.mark.parametrize("lengths", ["foo", "0", "2000,,4000", "1.5"])
def test_wrong_lengths_name_the_option(tmp_path, lengths):
    ended = sfi_sglang(f"eval retrieval --lengths {lengths}", tmp_path)
    assert ended.returncode == 2 and "--lengths" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_wrong_variable_is_one_line_before_anything_starts(tmp_path, command):
    ended = sfi_sglang(command, tmp_path, SFI_MEMORY_MB="foo")
    assert (ended.returncode, ended.stderr) == (1, "SFI_MEMORY_MB: 'foo' is no whole number\n")


def test_version_and_help_are_whole(tmp_path):
    assert sfi_sglang("--version", tmp_path).stdout == f"sfi-sglang {__version__}, SGLang 0.5.23\n"
    assert "serve [MODEL] [sglang flags...]" in sfi_sglang("serve --help", tmp_path).stdout


def test_doctor_fits_80_columns_without_warnings_and_names_symbols_whole(tmp_path):
    ended = sfi_sglang("doctor --verbose", tmp_path)
    assert ended.returncode == 0 and ended.stderr == "" and "…" not in ended.stdout
    assert "sglang.srt.managers.scheduler_components.output_streamer\n" in ended.stdout
    assert "  SchedulerOutputStreamer.build_additional_customized_info  ok\n" in ended.stdout


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:30000", "http://127.0.0.1:30000"),
        ("127.0.0.1:30000/v1/", "http://127.0.0.1:30000"),
        (" localhost ", "http://localhost"),
        ("https://host/prefix/v1", "https://host/prefix"),
        ("[::1]:30000", "http://[::1]:30000"),
    ],
)
def test_urls_as_people_write_them(given, url):
    assert server_url(given) == url


@pytest.mark.parametrize("given", ["", "http://", "ftp://host", "http://host:port", "http://host:99999", "two words"])
def test_what_is_no_url_is_refused(given):
    with pytest.raises(ValueError, match="is no URL like"):
        server_url(given)


@pytest.mark.server
def test_a_server_is_found_without_scheme_and_with_v1(server):
    written = server.removeprefix("http://")
    assert Endpoint.connect(f"{written}/v1").url == server
