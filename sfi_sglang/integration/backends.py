"""Which attention backend serves the model that this process has loaded, and what that means for SFI requests."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api import admission
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.layers import CoveredLayers, Unsupported
from sfi_sglang.scheduling.step_planner import StepPlanner

logger = logging.getLogger(__name__)


class Backends:
    """problems: what the plugin could not install. triton: the SFITritonBackend, if it serves this process."""

    def __init__(self, planner: StepPlanner, settings: Callable[[], Settings], problems: Sequence[str]) -> None:
        self.planner, self.settings, self.problems = planner, settings, problems
        self.triton: Any = None
        self.layers: CoveredLayers | None = None

    @staticmethod
    def stock(runner: Any) -> Any:
        """What `--attention-backend sfi` stands for."""
        from sfi_sglang.attention.model_support import STOCK

        return symbols.resolve(symbols.BACKENDS)[STOCK[runner.device == "cuda"]](runner)

    def wrap(self, original: Callable[..., Any], runner: Any, stock: Any) -> Any:
        """AROUND attn_backend_wrapper, which sees the attention backend of every model that is loaded."""
        if admission.refusal_of(runner.server_args, self.problems) or runner.is_draft_worker:
            return original(runner, stock)
        try:
            ours = self._around(runner, stock)
            wrapped = original(runner, ours)
            if ours not in (wrapped, getattr(wrapped, "full_attn_backend", None)):
                raise Unsupported(f"the model's attention is {type(wrapped).__name__}, which has a decode of its own")
        except Unsupported as reason:
            logger.error("SFI requests will be refused: %s", reason)
            self.planner.refusal = str(reason)
            self.triton = self.layers = None
            return original(runner, stock)
        return wrapped

    def _around(self, runner: Any, stock: Any) -> Any:
        """Raises Unsupported if SFI cannot serve this model."""
        from sfi_sglang.attention import model_support

        settings = self.settings()
        executor = settings.resolved_executor()
        self.layers = layers = model_support.survey(runner, executor)
        self.planner.repairs = model_support.repairs(runner)
        if executor == "torch":
            from sfi_sglang.attention.torch_backend import SFITorchBackend

            return SFITorchBackend(runner, layers, self.planner)
        from sfi_sglang.attention.triton_backend import SFITritonBackend

        self.triton = SFITritonBackend(runner, stock, layers, self.planner, settings)
        self.planner.evidence_tokens = self.triton.limits.evidence_tokens
        return self.triton

    def graph_variants(self, original: Callable[[Any], Any], hf_config: Any) -> Any:
        """AROUND create_attention_graph_variants: our graphs if the decode backend is ours."""
        return self.triton or original(hf_config)

    def statement(self) -> str | None:
        """What serves SFI requests here; None: nothing does."""
        if self.layers is None:
            return None
        settings, default = self.settings(), SFIOptions()
        store = f"none set aside, up to {settings.memory_mb} MB of selections that outlive their request"
        return (
            f"executor {settings.resolved_executor()}; {self.layers.statement()}; "
            f"by default budget {default.budget}, sink {default.sink}, recent {default.recent}, "
            f"repair {'on' if default.repair and self.planner.repairs else 'off'}, carry {default.carry}; "
            f"memory: {self.triton.limits.statement() if self.triton else store}"
        )
