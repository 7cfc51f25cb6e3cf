"""What a request may ask of SFI, and the one parser every door uses."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sfi_sglang.api.refusal import explain, guess, shown

PRESETS = {"paper": ("agreement", "prior", "nms", "exclusion"), "span": ("span",)}
SPANS = {"span": 32, "span8": 8, "span16": 16, "span64": 64}  # stage names: tokens after a chosen one that come with it
PLAIN = "plain"  # no stage: the mean of the evidence and the top-k
MAX_TOKENS = 1 << 20
EVIDENCE_PAGE = 1024  # candidates; evidence of two rows never shares a page
PROMPT_QUERIES = 16  # most of them (W): evidence rows per query head at the end of a prefill
EXTEND_TAIL = 64  # sparse extend: last prompt tokens, dense
SPARSE_PREFIX = 5  # sparse extend: a cached prefix is longer than so many times what a token sees (extend_gpu)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class SelectorOptions(_Strict):
    """Selector stages, on or off, `span` with its width; given as an object, a preset's name, or stage names joined by
    `+`."""

    agreement: bool = False
    prior: bool = False
    nms: bool = False
    exclusion: bool = False
    span: Literal[0, 8, 16, 32, 64] = 32

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict):
            on = {"span": SPANS["span"] * value["span"]} if isinstance(value.get("span"), bool) else {}
            return {**value, **on}
        if isinstance(value, SelectorOptions):
            return value
        switches = tuple(name for name in cls.model_fields if name != "span")
        presets, known = (*PRESETS, PLAIN), (*switches, *SPANS)
        choices = f"presets: {', '.join(presets)}; stages, joined by +: {', '.join(known)}"
        if not isinstance(value, str):
            raise ValueError(f"expected a preset, stages or an object of stages, got {shown(value)} ({choices})")
        stages = PRESETS[value] if value in PRESETS else value.split("+") if value != PLAIN else ()
        if unknown := [stage for stage in stages if stage not in known]:
            near = guess(unknown[0], (*presets, *known) if len(stages) == 1 else known)
            raise ValueError(f"unknown stage {shown(unknown[0])}{near} ({choices})")
        width = max((SPANS[stage] for stage in stages if stage in SPANS), default=0)
        return {**{stage: stage in stages for stage in switches}, "span": width}

    def stages(self) -> set[str]:
        """Names of the stages that are on."""
        return {stage for stage, on in self if on}

    def name(self) -> str:
        """The stages that are on, in their order, joined by `+`."""
        names = {width: name for name, width in SPANS.items()}
        return "+".join(names[on] if stage == "span" else stage for stage, on in self if on) or PLAIN


class SFIOptions(_Strict):
    """One request's settings. Token counts are per KV head and layer."""

    budget: int = Field(2048, ge=1, le=MAX_TOKENS, description="selected tokens (k)")
    sink: int = Field(4, ge=0, le=MAX_TOKENS, description="first tokens, always visible (S)")
    recent: int = Field(1024, ge=1, le=MAX_TOKENS, description="last tokens, always visible (R)")
    min_gap: int = Field(16, ge=1, le=MAX_TOKENS, description="fewest steps between refreshes")
    max_segment: int = Field(64, ge=1, le=MAX_TOKENS, description="most steps between refreshes")
    policy: Literal["sentence", "structural", "periodic", "random", "drift", "never"] = Field(
        "sentence", description="what ends a segment; `never` keeps sink and recent tokens only"
    )
    carry: Literal["fresh", "inherit", "merge"] = Field(
        "fresh", description="what to do with memory inherited from an earlier request (selection/reuse.py)"
    )
    repair: bool = Field(True, description="refreshes compute the K and V of the fast steps before them anew, densely")
    exact: bool = Field(False, description="fast steps draft, refreshes verify: the reply is the dense one")
    selector: SelectorOptions = Field(default_factory=SelectorOptions, description="preset name or stages")
    queries: int = Field(4, ge=1, le=PROMPT_QUERIES, description="prompt tokens that choose first (W)")
    extend: Literal["dense", "sparse"] = Field(
        "dense", description="how new prompt tokens see a long cached prefix (attention/sparse_extend.py)"
    )
    fast: Literal["memory", "oracle", "pages"] = Field(
        "memory", description="what fast steps see; the others choose anew at every step, to compare with"
    )
    detail: bool = Field(False, description="the report has the refreshes and the coverage of every head too")

    @model_validator(mode="after")
    def _extend(self) -> "SFIOptions":
        if self.extend == "sparse" and self.policy == "never":
            raise ValueError("extend: sparse chooses tokens to see, and policy `never` chooses none")
        if self.extend == "sparse" and self.exact:
            raise ValueError("exact: the dense reply, and extend: sparse only comes close to it")
        return self

    @model_validator(mode="after")
    def _order(self) -> "SFIOptions":
        if self.max_segment >= self.min_gap:
            return self
        if "max_segment" in self.model_fields_set:
            raise ValueError(f"max_segment: expected at least min_gap ({self.min_gap}), got {self.max_segment}")
        raise ValueError(f"min_gap: expected at most max_segment ({self.max_segment}), got {self.min_gap}")

    def torch_alone(self) -> str | None:
        """The option that only the torch executor has, and why. None for none."""
        if self.fast != "memory":
            return f"sfi.fast: {self.fast} is for comparisons"
        return "sfi.policy: drift is for comparisons" if self.policy == "drift" else None

    @property
    def namespace(self) -> str | None:
        """What sets the K and V of this request's prompts apart from exact ones in the prefix cache; None: nothing.
        Whatever they depend on is in it."""
        if self.extend == "dense":
            return None
        return f"{self.extend}:{self.budget}:{self.sink}:{self.recent}"

    def extends_sparsely(self, prefix: int) -> bool:
        """A prompt of which `prefix` tokens are cached? Also small budgets must leave whole blocks out."""
        return self.extend == "sparse" and prefix > SPARSE_PREFIX * max(self.dense_limit, EXTEND_TAIL)

    def flat(self) -> dict[str, int | str]:
        """As scalars: SGLang's custom_params travel between processes and allow no deeper objects."""
        return {**self.model_dump(exclude={"selector"}), "selector": self.selector.name()}

    @property
    def selected(self) -> int:
        """Tokens the Selector may keep: the budget, or none under policy `never`."""
        return 0 if self.policy == "never" else self.budget

    @property
    def dense_limit(self) -> int:
        """Longest context (tokens) that is attended in full."""
        return self.sink + self.selected + self.recent

    def selects_at(self, total: int) -> bool:
        """Does the prefill of `total` tokens end in a selection? If not, it is a dense request's."""
        return self.policy != "never" and total + 1 > self.dense_limit

    def recent_start(self, length: int) -> int:
        """First recent position r0 of a context of `length` tokens, on a multiple of 16."""
        return max(self.sink, (length - self.recent) // 16 * 16)

    def candidates(self, length: int) -> int:
        """Tokens the Selector chooses from: between the sink and the recent ones."""
        return self.recent_start(length) - self.sink


def evidence_pages(candidates: int) -> int:
    return -(-candidates // EVIDENCE_PAGE)


def parse_sfi(value: Any) -> SFIOptions | None:
    """The `sfi` value of a request: true, false, null or an object. Returns None for dense.

    Raises:
        ValueError: begins with the field, e.g. `sfi.budget: expected a whole number from 1 to 1048576, got 0`.
    """
    if value is None or value is False:
        return None
    if value is True:
        return SFIOptions()
    if not isinstance(value, dict):
        raise ValueError(f"sfi: expected true, false or an object of options, got {shown(value)}")
    try:
        return SFIOptions.model_validate(value)
    except ValidationError as error:
        raise ValueError(explain(error, SFIOptions)) from None
