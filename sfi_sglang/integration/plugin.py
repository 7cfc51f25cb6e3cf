"""The plugin: what it hooks into each process of SGLang (integration/entry.py calls `register`)."""

import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api import admission, refusal
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.layers import Unsupported
from sfi_sglang.integration import doors, server_args
from sfi_sglang.integration.prompt_tokens import PromptTokens
from sfi_sglang.integration.reports import Reports
from sfi_sglang.integration.wide_pass import WidePass
from sfi_sglang.scheduling.step_planner import StepPlanner, repairs_of
from sfi_sglang.selection.snapshot_store import SnapshotStore

logger = logging.getLogger(__name__)


def register() -> None:
    """Install what this SGLang offers; refuse SFI requests if anything is missing."""
    Plugin().install()


class Plugin:
    """What one process shares: the tokenizer's has the doors, the scheduler's the planner and the backend. All state
    lives here, but for the settings, which reach SGLang's child processes through the environment alone."""

    def __init__(self) -> None:
        self.problems = [f"this SGLang has no `{target}`" for target in symbols.missing()]
        try:
            self.settings = server_args.from_environment()
        except ValueError as error:
            self.settings = Settings()
            self.problems.append(str(error))
        self.planner = StepPlanner(SnapshotStore(self.settings.store_bytes))
        self.backend: Any = None  # SFITritonBackend, if it serves this process
        self.schedulers: str | None = "its schedulers have not said that they serve SFI"  # why SFI cannot run there
        self.reports = Reports(self.planner.store)
        self.prompt_tokens = PromptTokens(lambda: self.settings.tokenizer_cache_bytes)

    def install(self) -> None:
        for install in (self._add_flags, self._add_backends, self._add_admission, self._add_scheduling):
            try:
                install()
            except Exception as error:  # SGLang would only log it, and SFI requests would run dense
                logger.exception("sfi: %s failed", install.__name__)
                self.problems.append(f"{install.__name__} failed: {error}")
        for problem in self.problems:
            logger.error("SFI requests will be refused: %s", problem)
        self.prompt_tokens.install()

    @staticmethod
    def _hook(target: str, function: Callable[..., Any], kind: HookType) -> None:
        if symbols.exists(target):
            HookRegistry.register(target, function, kind)

    def _add_flags(self) -> None:
        self._hook(symbols.CLI_ARGUMENTS, lambda _, p: server_args.add_arguments(p, self.settings), HookType.AFTER)
        self._hook(symbols.CLI_PARSED, self.keep_arguments, HookType.BEFORE)

    def keep_arguments(self, _cls: Any, args: Any) -> None:
        """BEFORE ServerArgs.from_cli_args.

        Raises:
            ValueError: the executor asked for cannot run here.
        """
        self.settings = server_args.from_arguments(args, self.settings)
        self.settings.check_executor()
        os.environ.update(server_args.to_environment(self.settings))
        server_args.enable(args, self.settings)

    # -- attention backend and prefix cache -----------------------------------------------------------------------

    def _add_backends(self) -> None:
        self._hook(symbols.WRAP_BACKEND, self.wrap_backend, HookType.AROUND)
        symbols.resolve(symbols.CACHE_REGISTRY)(admission.BACKEND, self.prefix_cache)
        symbols.resolve(symbols.BACKEND_CHOICES)([admission.BACKEND])  # an attention backend, once
        symbols.resolve(symbols.BACKEND_REGISTRY)(admission.BACKEND)(self.stock_backend)

    @staticmethod
    def stock_backend(runner: Any) -> Any:
        """What `--attention-backend sfi` stands for."""
        from sfi_sglang.attention.model_support import STOCK

        return symbols.resolve(symbols.BACKENDS)[STOCK[runner.device == "cuda"]](runner)

    def wrap_backend(self, original: Callable[..., Any], runner: Any, stock: Any) -> Any:
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
            self.backend = None
            return original(runner, stock)
        return wrapped

    def _around(self, runner: Any, stock: Any) -> Any:
        """Raises Unsupported if SFI cannot serve this model."""
        from sfi_sglang.attention import model_support

        executor = self.settings.resolved_executor()
        layers = model_support.survey(runner, executor)
        self.planner.repairs = model_support.repairs(runner)
        if executor == "torch":
            from sfi_sglang.attention.torch_backend import SFITorchBackend

            return SFITorchBackend(runner, layers, self.planner)
        from sfi_sglang.attention.triton_backend import SFITritonBackend

        self.backend = SFITritonBackend(runner, stock, layers, self.planner, self.settings)
        self.planner.evidence_tokens = self.backend.limits.evidence_tokens
        return self.backend

    def prefix_cache(self, context: Any) -> Any:
        """`--radix-cache-backend sfi`."""
        from sfi_sglang.integration.prefix_cache import SFIRadixCache

        cache = symbols.resolve(symbols.CACHE_FACTORY)(context, cache_class=SFIRadixCache)
        cache.store = self.planner.store
        return cache

    # -- admission ------------------------------------------------------------------------------------------------

    def _add_admission(self) -> None:
        self._hook(symbols.BEFORE_LISTENING, self.put_on_doors, HookType.BEFORE)
        self._hook(symbols.CHAT_PARAMS, self.chat_params, HookType.AFTER)
        self._hook(symbols.COMPLETION_PARAMS, self.completion_params, HookType.AFTER)
        self._hook(symbols.GENERATE_CONTRACT, self.check_contract, HookType.AFTER)
        self._hook(symbols.SCHEDULERS_READY, self.read_schedulers, HookType.AFTER)
        self._hook(symbols.TOKENIZED, self.admit, HookType.BEFORE)
        self._hook(symbols.TOKENIZED, admission.set_apart, HookType.AFTER)
        self._hook(symbols.OPENAI_ERROR, self.name_field, HookType.AROUND)
        for model in (symbols.CHAT_REQUEST, symbols.COMPLETION_REQUEST):
            admission.open_openai_field(symbols.resolve(model))

    def put_on_doors(self, server_args: Any, *args: Any, **kwargs: Any) -> None:
        """BEFORE set_uvicorn_logging_configs, in the process of the HTTP server alone. Its schedulers are up."""
        refusal = admission.refusal_of(server_args, self.problems) or self.schedulers
        if self.settings.sfi_default and refusal:
            raise SystemExit(f"sfi: --sfi-default is on, but this server cannot serve SFI: {refusal}")
        doors.put_on(symbols.resolve(symbols.HTTP_APP), self.problems)

    def chat_params(self, params: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """AFTER ChatCompletionRequest.to_sampling_params."""
        return admission.with_sfi(params, request)

    def completion_params(
        self, params: dict[str, Any], serving: Any, request: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """AFTER OpenAIServingCompletion._build_sampling_params."""
        return admission.with_sfi(params, request)

    def check_contract(self, request: Any, _cls: Any, body: Any) -> None:
        """AFTER GenerateRequest.from_json_value."""
        try:
            if isinstance(body, dict) and body.get("sfi") is not None:
                raise ValueError(doors.refusal_at("/generate"))
            admission.check_all(request.sampling_params)
        except ValueError as error:
            raise symbols.resolve(symbols.CONTRACT_ERROR)(str(error)) from None

    def admit(self, manager: Any, obj: Any, text: Any, ids: Any, embeds: Any = None, *args: Any, **kw: Any) -> None:
        """BEFORE TokenizerManager._create_tokenized_object."""
        params = getattr(obj, "sampling_params", None)
        if isinstance(params, dict):
            params = {**(manager.preferred_sampling_params or {}), **params}  # SGLang would join them after this gate
            reason = admission.refusal_of(manager.server_args, self.problems) or self.schedulers
            obj.sampling_params, options = admission.admitted(params, self.settings, reason)
            if options:
                admission.check_request(obj, ids, embeds is not None, manager.model_config.vocab_size)

    def read_schedulers(self, infos: list[dict[str, Any]], *args: Any, **kwargs: Any) -> None:
        """AFTER _wait_for_scheduler_ready, in the process of the doors. A scheduler without the plugin says nothing."""
        if all("sfi" in info for info in infos):
            self.schedulers = next((info["sfi"]["refusal"] for info in infos if info["sfi"]["refusal"]), None)

    def name_field(self, original: Callable[..., Any], serving: Any, message: str, *args: Any, **kwargs: Any) -> Any:
        """AROUND OpenAIServingBase.create_error_response: the body's `param` is the field that the message is about."""
        if field := refusal.field_of(message):
            kwargs["param"] = field
        return original(serving, message, *args, **kwargs)

    # -- scheduling and reports -----------------------------------------------------------------------------------

    def _add_scheduling(self) -> None:
        self._hook(symbols.INIT_INFO, self.say_ready, HookType.AFTER)
        self._hook(symbols.RUN_BATCH, self.plan_batch, HookType.BEFORE)
        self._hook(symbols.NEW_WEIGHTS, lambda *_, **__: self.planner.store.clear(), HookType.BEFORE)
        self._hook(symbols.MODEL_FORWARD, self.forward, HookType.AROUND)
        self._hook(symbols.EAGER_LOAD, self.load_eager, HookType.AROUND)
        self._hook(symbols.META_INFO, self.reports.attach_report, HookType.AROUND)
        for stream in (symbols.CHAT_STREAM, symbols.COMPLETION_STREAM):
            self._hook(stream, self.reports.report_in_stream, HookType.AFTER)
        self._hook(symbols.GENERATE, self.reports.read_reports, HookType.AFTER)
        for builder in (symbols.CHAT_RESPONSE, symbols.COMPLETION_RESPONSE):
            self._hook(builder, self.reports.report_in_response, HookType.AFTER)
        if self.settings.resolved_executor() != "torch":
            self._hook(symbols.GRAPH_VARIANTS, self.graph_variants, HookType.AROUND)
        if symbols.exists(symbols.RESPONSE_INFO) and symbols.exists(symbols.HAS_RESPONSE_INFO):
            HookRegistry.register(symbols.RESPONSE_INFO, self.reports.build_reports, HookType.AROUND)
            symbols.resolve(symbols.STREAMER).has_additional_customized_info = True

    def say_ready(self, info: dict[str, Any], scheduler: Any) -> dict[str, Any]:
        """AFTER Scheduler.get_init_info: what a scheduler tells the process of the doors when it is ready."""
        self.planner.read_vocabulary(scheduler.tokenizer)
        return {**info, "sfi": {"refusal": self.planner.refusal}}

    def plan_batch(self, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> None:
        """BEFORE Scheduler.run_batch. An error here may cost the SFI requests of the batch, never the server."""
        try:
            if self.backend is not None:
                self.planner.pass_rows = self.backend.pass_rows
            self.planner.plan(batch)
        except Exception as error:
            logger.exception("SFI planning failed")
            self.planner.abort(batch, f"sfi: planning failed: {error!r}")

    def forward(self, original: Callable[..., Any], runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """AROUND ModelRunner.forward: slow rows repair their segment in rows behind the requests'."""
        repairs = repairs_of(self.planner.rows_for(batch.rids, batch.batch_size))
        wide = WidePass.of(runner, batch, repairs) if repairs else None
        if wide is None:
            if repairs:
                self.planner.drop_repairs()
            return original(runner, batch, *args, **kwargs)
        output = original(runner, wide.batch, *args, **kwargs)
        wide.finish(output, batch.input_ids)
        return output

    def load_eager(self, original: Callable[..., Any], runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """AROUND EagerRunner.load_batch: its input buffers have a row a request."""
        if getattr(batch, "sfi_rows_added", 0):
            return dataclasses.replace(batch)
        return original(runner, batch, *args, **kwargs)

    def graph_variants(self, original: Callable[[Any], Any], hf_config: Any) -> Any:
        """AROUND create_attention_graph_variants: our three graphs if the decode backend is ours."""
        return self.backend or original(hf_config)
