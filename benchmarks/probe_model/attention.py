"""Which of PyTorch's attention kernels to train with: those that keep no scores, timed on the shapes to come."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

REFERENCE = SDPBackend.FLASH_ATTENTION
BACKENDS = (REFERENCE, SDPBackend.CUDNN_ATTENTION)
FARTHEST = 0.05  # relative difference of gradients from the reference's: bf16 rounding makes less than 0.02
REPEATS = 3


def fastest_attention(config: Any, shapes: Sequence[tuple[int, int]], device: torch.device) -> SDPBackend | None:
    """The kernel that is fastest over `shapes` (documents, length), forward and backward; None on a CPU.

    Raises:
        RuntimeError: none runs.
    """
    if device.type != "cuda":
        return None
    times, known = dict[SDPBackend, float](), list[torch.Tensor]()
    for backend in BACKENDS:
        try:
            measured = [_measure(backend, config, shape, device) for shape in shapes]
        except RuntimeError as error:
            print(f"{backend.name}: {str(error).splitlines()[0]}", flush=True)
            continue
        known = known or [gradient for _, gradient in measured]
        far = max(_distance(gradient, right) for (_, gradient), right in zip(measured, known, strict=True))
        print(f"{backend.name}: {sum(s for s, _ in measured) * 1e3:.1f} ms, gradients differ by {far:.4f}", flush=True)
        if far < FARTHEST:
            times[backend] = sum(seconds for seconds, _ in measured)
    if not times:
        raise RuntimeError("no attention kernel for long texts on this card")
    return min(times, key=lambda backend: times[backend])


def _measure(
    backend: SDPBackend, config: Any, shape: tuple[int, int], device: torch.device
) -> tuple[float, torch.Tensor]:
    """Seconds of one layer's attention, and the gradient of its queries, laid out as the model lays them out."""
    documents, length = shape
    random = torch.Generator(device).manual_seed(0)

    def states(heads: int) -> torch.Tensor:
        size = (documents, length, heads, config.head_dim)
        made = torch.randn(size, device=device, dtype=torch.bfloat16, generator=random)
        return made.transpose(1, 2).requires_grad_()

    query, key, value = (states(n) for n in (config.num_attention_heads, *[config.num_key_value_heads] * 2))
    took = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        (gradient,) = torch.autograd.grad(out.transpose(1, 2).reshape(documents, length, -1).square().sum(), query)
        torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return min(took), gradient


def _distance(gradient: torch.Tensor, right: torch.Tensor) -> float:
    distance = (gradient.float() - right.float()).norm() / right.float().norm()
    return float(distance)
