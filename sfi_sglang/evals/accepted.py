"""Which variants a server takes: some controls are for one executor only."""

from collections.abc import Iterable

from sfi_sglang.client.generate import Refusal, generate
from sfi_sglang.evals.variants import DENSE, Variant

MAIN = (DENSE, "sfi", "fresh")  # variants without which there is nothing to compare


def accepted(url: str, variants: Iterable[Variant]) -> tuple[list[Variant], dict[str, str]]:
    """Those that the server takes, by a tiny request each, and its reasons for not taking the others.

    Raises:
        Refusal: it refuses dense or SFI itself.
        RuntimeError: it does not know SFI, and would have answered densely.
    """
    kept, reasons = [], {}
    for variant in variants:
        try:
            reply = generate(url, "Once", 1, variant.sfi or False)
        except Refusal as error:
            if variant.label in MAIN or error.status != 400 or not error.reason.startswith("sfi"):
                raise
            reasons[variant.label] = error.reason
            continue
        if variant.sfi and "sfi" not in reply["meta_info"]:
            raise RuntimeError(f"server: {url} knows no SFI, it would answer densely (is sfi-sglang installed there?)")
        kept.append(variant)
    return kept, reasons
