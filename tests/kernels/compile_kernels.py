"""Compile every Triton kernel for Hopper without a GPU: `python -m tests.kernels.compile_kernels`."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.kernels import coverage, decode, evidence, locate, pack, rows, select, stages, wide
from sfi_sglang.kernels.launch import FAST, MIXED
from sfi_sglang.selection.table import RING

TARGET = GPUTarget("cuda", 90, 32)
HEAD = {"KV": 8, "COLS": rows.COLUMNS}
PAGE = {**HEAD, "PAGE": EVIDENCE_PAGE}
PROMPT = {"KV": 8, "R": 64, "M": 64, "D": 128, "BLOCK": 64}
FLOATS = {"scale_log2", "alpha", "max_weight"}
BF16 = {"q_ptr", "k_ptr", "v_ptr", "out"}
POINTERS = {
    "part_out", "part_lse", "part_candidates", "logits", "candidate_lse", "evidence", "part_best", "part_total", "lse",
    "scores", "parts", "row_lse", "mass", "sums",
}  # fmt: skip
INT_POINTERS = {
    "req_to_token",
    "chosen_slots",
    "selection",
    "rows",
    "page_to_row",
    "refresh_rows",
    "slots",
    "indptr",
    "pages",
    "pieces",
}


def kind(name: str, constants: dict) -> str:
    if name in constants:
        return "constexpr"
    if name in FLOATS:
        return "fp32"
    if name == "req_pool_indices":
        return "*i64"
    types = [("*bf16", BF16), ("*fp32", POINTERS), ("*i32", INT_POINTERS)]
    return next((code for code, names in types if name in names), "i32")


def compile_one(function, **constants) -> None:
    signature = {name: kind(name, constants) for name in function.arg_names}
    compiled = triton.compile(ASTSource(function, signature, constexprs=constants), target=TARGET)
    print(f"{function.__name__} {constants}: {len(compiled.asm['cubin'])} bytes")


def main() -> None:
    for dim in (64, 128, 256):
        for logits_out, launch in ((False, FAST), (True, MIXED)):
            shape = {"G": 4, "D": dim, "SPLITS": 64, "LOGITS_OUT": logits_out, "CHAINED": True, **HEAD}
            compile_one(decode._attend, M=16, BLOCK=launch.tokens(dim), AHEAD=decode.AHEAD, **shape)
            compile_one(decode._merge, **shape)
    compile_one(locate._locate, COLS=rows.COLUMNS, BLOCK=1024)
    compile_one(wide._attend_wide, G=4, GP=4, M=64, D=128, BLOCK=64, SPLITS=64, CHAINED=True, **HEAD)
    compile_one(pack._pack, BLOCK=1024, **HEAD)
    compile_one(evidence._merge_logits, G=4, BLOCK=coverage.BLOCK, CHAINED=True, **PAGE)
    compile_one(coverage._record, SIZE=36 * 8 * 2, COLS=rows.COLUMNS, RING=RING)
    compile_one(evidence._prompt_lse, **PROMPT)
    compile_one(evidence._prompt_scores, **PROMPT)
    compile_one(stages._fuse, BLOCK=2048, **HEAD)
    for stage, after in ((rows.NMS.value, 16), (rows.SPAN.value, 2)):
        compile_one(stages._window, STAGE=stage, AFTER=after, COLS=rows.COLUMNS, PAGE=EVIDENCE_PAGE)
    compile_one(stages._exclude, HEADS=8, **PAGE)
    compile_one(select._select, BLOCK=2048, SAMPLED=select.SAMPLE, **HEAD)


if __name__ == "__main__":
    main()
