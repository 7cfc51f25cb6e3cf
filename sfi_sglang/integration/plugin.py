"""The plugin: what it hooks into each process of SGLang (integration/entry.py calls `register`)."""

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api import admission, exact, refusal
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.api.settings import Settings
from sfi_sglang.integration import doors, server_args
from sfi_sglang.integration.backends import Backends
from sfi_sglang.integration.passes import Passes
from sfi_sglang.integration.prompt_tokens import PromptTokens
from sfi_sglang.integration.refresh_clock import RefreshClock
from sfi_sglang.integration.reports import Reports
from sfi_sglang.scheduling.step_planner import StepPlanner
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
        self.backends = Backends(self.planner, lambda: self.settings, self.problems)
        self.passes = Passes(self.planner, self.backends)
        self.schedulers: str | None = "its schedulers have not said that they serve SFI"  # why SFI cannot run there
        self.server_args: Any = None  # of the HTTP server
        self.reports = Reports(self.planner.store, self.settings.log_requests)
        self.clock = RefreshClock(self.planner, self.reports.counts, self.reports.metrics.count_refresh)
        self.prompt_tokens = PromptTokens(lambda: self.settings.tokenizer_cache_bytes)

    def install(self) -> None:
        for install in (
            self._add_flags, self._add_backends, self._add_admission, self._add_scheduling, self._add_speculation,
        ):  # fmt: skip
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
        self._hook(symbols.WRAP_BACKEND, self.backends.wrap, HookType.AROUND)
        symbols.resolve(symbols.CACHE_REGISTRY)(admission.BACKEND, self.prefix_cache)
        symbols.resolve(symbols.BACKEND_CHOICES)([admission.BACKEND])  # an attention backend, once
        symbols.resolve(symbols.BACKEND_REGISTRY)(admission.BACKEND)(self.backends.stock)

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
        self.server_args = server_args
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
        """AFTER GenerateRequest.from_json_value. A stream has its status 200 before it comes to `admit`."""
        try:
            if isinstance(body, dict) and body.get("sfi") is not None:
                raise ValueError(doors.refusal_at("/generate"))
            admission.check_all(request.sampling_params)
            if self.server_args is not None and body.get("stream"):
                given = body.get("sampling_params") or {}
                for params in given if isinstance(given, list) else [given]:
                    if isinstance(params, dict):
                        preferred = self.server_args.preferred_sampling_params
                        self.admitted(admission.joined(params, preferred), request, self.server_args)
        except ValueError as error:
            raise symbols.resolve(symbols.CONTRACT_ERROR)(str(error)) from None

    def admit(self, manager: Any, obj: Any, text: Any, ids: Any, embeds: Any = None, *args: Any, **kw: Any) -> None:
        """BEFORE TokenizerManager._create_tokenized_object."""
        params = getattr(obj, "sampling_params", None)
        if isinstance(params, dict):
            params = admission.joined(params, manager.preferred_sampling_params)
            obj.sampling_params, options = self.admitted(params, obj, manager.server_args)
            if options:
                admission.check_request(obj, ids, embeds is not None, manager.model_config.vocab_size)

    def admitted(self, params: dict[str, Any], obj: Any, server_args: Any) -> tuple[dict[str, Any], SFIOptions | None]:
        """admission.admitted, and what `exact` does not go together with. obj: the request."""
        reason = admission.refusal_of(server_args, self.problems) or self.schedulers
        admitted, options = admission.admitted(params, self.settings, reason)
        if options and options.exact:
            exact.check(params, obj, server_args)
            admitted = exact.seeded(admitted)
        return admitted, options

    def read_schedulers(self, infos: list[dict[str, Any]], *args: Any, **kwargs: Any) -> None:
        """AFTER _wait_for_scheduler_ready, in the process of the doors. A scheduler without the plugin says nothing."""
        if all("sfi" in info for info in infos):
            self.schedulers = next((info["sfi"]["refusal"] for info in infos if info["sfi"]["refusal"]), None)
        if reason := "; ".join(self.problems) or self.schedulers:
            logger.info("SFI is off: %s", reason)
        else:
            asked = "requests that do not say" if self.settings.sfi_default else "requests that ask for it"
            logger.info("SFI is on for %s: %s", asked, infos[0]["sfi"]["statement"])

    def name_field(self, original: Callable[..., Any], serving: Any, message: str, *args: Any, **kwargs: Any) -> Any:
        """AROUND OpenAIServingBase.create_error_response: the body's `param` is the field that the message is about."""
        if field := refusal.field_of(message):
            kwargs["param"] = field
        return original(serving, message, *args, **kwargs)

    # -- scheduling and reports -----------------------------------------------------------------------------------

    def _add_scheduling(self) -> None:
        self._hook(symbols.INIT_INFO, self.say_ready, HookType.AFTER)
        self._hook(symbols.RUN_BATCH, self.passes.plan_batch, HookType.BEFORE)
        self._hook(symbols.NEW_WEIGHTS, lambda *_, **__: self.planner.store.clear(), HookType.BEFORE)
        self._hook(symbols.MODEL_FORWARD, self.forward, HookType.AROUND)
        self._hook(symbols.EAGER_LOAD, self.passes.load_eager, HookType.AROUND)
        self._hook(symbols.META_INFO, self.reports.attach_report, HookType.AROUND)
        for stream in (symbols.CHAT_STREAM, symbols.COMPLETION_STREAM):
            self._hook(stream, self.reports.report_in_stream, HookType.AFTER)
        self._hook(symbols.GENERATE, self.reports.read_reports, HookType.AFTER)
        for builder in (symbols.CHAT_RESPONSE, symbols.COMPLETION_RESPONSE):
            self._hook(builder, self.reports.report_in_response, HookType.AFTER)
        if self.settings.resolved_executor() != "torch":
            self._hook(symbols.GRAPH_VARIANTS, self.backends.graph_variants, HookType.AROUND)
        if symbols.exists(symbols.RESPONSE_INFO) and symbols.exists(symbols.HAS_RESPONSE_INFO):
            HookRegistry.register(symbols.RESPONSE_INFO, self.reports.build_reports, HookType.AROUND)
            symbols.resolve(symbols.STREAMER).has_additional_customized_info = True

    def forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """AROUND ModelRunner.forward. The clock stands outside: added rows take time too."""
        return self.clock.forward(partial(self.passes.forward, original), *args, **kwargs)

    def _add_speculation(self) -> None:
        """`--speculative-algorithm SFI`, for `exact`."""
        if missing := symbols.missing(symbols.EXACT_TARGETS):
            logger.warning("sfi: `exact` will be refused: this SGLang has no `%s`", "`, `".join(missing))
            return
        from sfi_sglang.integration import speculation

        if (share := exact.chance()) is not None:
            logger.warning("sfi: %s=%s: `exact` replies are wrong, for a benchmark", exact.CHANCE_ENV, share)
        speculation.install(self.passes)

    def say_ready(self, info: dict[str, Any], scheduler: Any) -> dict[str, Any]:
        """AFTER Scheduler.get_init_info: what a scheduler tells the process of the doors when it is ready."""
        self.planner.read_vocabulary(scheduler.tokenizer)
        refusal = admission.refusal_of(scheduler.server_args, self.problems) or self.planner.refusal
        return {**info, "sfi": {"refusal": refusal, "statement": self.backends.statement()}}
