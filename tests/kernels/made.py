"""Random pools, rows and scorings for the kernels' tests, and attention written out in float64."""

import torch
from torch import Tensor

from sfi_sglang.kernels import rows
from sfi_sglang.selection.scoring import Scoring
from tests.helpers import GPU

DEVICE = "cuda" if GPU else "cpu"
DTYPES = [torch.bfloat16, torch.float16] if GPU else [torch.float16]  # the interpreter's bf16 dot is wrong
DIMS = [64, 96, 128, 192, 256]
KINDS = ["bare", "cap", "sinks", "fp8", "everything"]


def error_of(dtype: torch.dtype) -> float:
    """Relative, of an output."""
    return 2e-2 if dtype is torch.bfloat16 else 2e-3


def table_of(*lines: dict[str, int]) -> Tensor:
    """Row metadata from keyword lines; unnamed columns are 0, EVIDENCE_AT is -1."""
    out = torch.zeros(len(lines), rows.COLUMNS, dtype=torch.int32)
    out[:, rows.EVIDENCE_AT.value] = -1
    for line, values in zip(out, lines, strict=True):
        for name, value in values.items():
            line[getattr(rows, name).value] = value
    return out.to(DEVICE)


def scoring_of(kind: str, heads: int, dim: int, generator: torch.Generator) -> Scoring:
    """Caps that bend most logits, sinks that take about a tenth of the attention or most of it."""
    every = kind == "everything"
    sinks = (torch.randn(heads, generator=generator) * 2 + 4).to(DEVICE)
    return Scoring(
        1.5 * dim**-0.5,
        cap=2.5 if kind == "cap" or every else 0.0,
        sinks=sinks if kind == "sinks" or every else None,
        k_scale=0.07 if kind == "fp8" or every else 1.0,
        v_scale=1.7 if kind == "fp8" or every else 1.0,
    )


def pools(kv_heads: int, dim: int, slots: int, dtype: torch.dtype, scoring: Scoring, generator: torch.Generator):
    """Keys and values [slots, KV, D] as they are stored: in 8 bits where there are scales."""
    stored = dtype if scoring.k_scale == 1 else torch.float8_e4m3fn
    real = torch.randn(2, slots, kv_heads, dim, generator=generator)
    return (real[0] / scoring.k_scale).to(DEVICE, stored), (real[1] / scoring.v_scale).to(DEVICE, stored)


def logits64(q: Tensor, k: Tensor, scoring: Scoring) -> Tensor:
    """q [..., R, D], stored keys [..., n, D] -> float64 [..., R, n]."""
    logits = q.double() @ (k.double() * scoring.k_scale).mT * scoring.scale
    return logits if not scoring.cap else scoring.cap * (logits / scoring.cap).tanh()


def attention64(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """One token: q [heads, D], stored keys and values [KV, n, D] -> float64 [heads, D]."""
    grouped = q.view(k.shape[0], -1, q.shape[1])
    weights = logits64(grouped, k, scoring).exp()
    total = weights.sum(-1, keepdim=True)
    if scoring.sinks is not None:
        total = total + scoring.sinks.double().exp().view(k.shape[0], -1, 1)
    return (weights / total @ (v.double() * scoring.v_scale)).view(q.shape)
