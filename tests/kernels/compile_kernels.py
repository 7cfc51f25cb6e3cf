"""Compile every Triton kernel for Hopper without a GPU, as it is launched there, and tell what it takes of a
multiprocessor: `python -m tests.kernels.compile_kernels`."""

import re
import subprocess
from tempfile import NamedTemporaryFile

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sfi_sglang.api.options import EVIDENCE_PAGE, PROMPT_QUERIES
from sfi_sglang.attention.model_support import MAX_GROUP
from sfi_sglang.kernels import block_mass, coverage, decode, evidence, groups, locate, pack, rows, select, stages, wide
from sfi_sglang.kernels.launch import CHOICE, FAST, GROUPS, MIXED, VERIFYING, WIDE, WideLaunch
from sfi_sglang.selection.table import RING

TARGET = GPUTarget("cuda", 90, 32)
HEAD = {"KV": 8, "COLS": rows.COLUMNS}
PAGE = {**HEAD, "PAGE": EVIDENCE_PAGE}
FP8 = "*fp8e4nv"
FLOATS = {"scale", "cap", "v_scale", "alpha", "max_weight"}
BF16, POOL = {"q_ptr", "out", "new_k", "new_v"}, {"k_ptr", "v_ptr"}
POINTERS = {
    "part_out", "part_lse", "part_candidates", "logits", "candidate_lse", "evidence", "part_best", "part_total", "lse",
    "scores", "parts", "row_lse", "mass", "sums", "sinks",
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
    "tiles",
    "counts",
    "chosen",
}


def kind(name: str, constants: dict, pool: str) -> str:
    if name in constants:
        return "constexpr"
    if name in FLOATS:
        return "fp32"
    if name in ("req_pool_indices", "new_slots"):
        return "*i64"
    types = [("*bf16", BF16), (pool, POOL), ("*fp32", POINTERS), ("*i32", INT_POINTERS)]
    return next((code for code, names in types if name in names), "i32")


def registers(cubin: bytes) -> str:
    """Of a thread, and the bytes that it spills to its stack, as the toolkit tells them."""
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    assert found is not None, told
    return f"{found[1]} registers, stack {found[2]}"


def compile_one(function, warps: int = 4, stages: int = 3, pool: str = "*bf16", **constants) -> None:
    """pool: the type of the keys and values."""
    names = function.arg_names
    signature = {name: kind(name, constants, pool) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"}
    source = ASTSource(function, signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=TARGET, options={"num_warps": warps, "num_stages": stages})
    used = f"{compiled.metadata.shared} bytes shared, {registers(compiled.asm['cubin'])}"
    print(f"{function.__name__} {pool} {constants}: {used}", flush=True)


def attention(dim: int, pool: str, capped: bool, sinks: bool) -> None:
    """All that a layer of one kind runs, in decode."""
    layer = {"G": 4, "D": dim, "DP": triton.next_power_of_2(dim), "CHAINED": True, **HEAD}
    for logits_out, launch in ((False, FAST), (True, MIXED)):
        stored = {} if pool == "*bf16" and not logits_out else {"new_k": None, "new_v": None, "new_slots": None}
        compile_one(
            decode._attend, launch.warps, launch.stages, pool, M=16, BLOCK=launch.tokens(dim), AHEAD=decode.AHEAD,
            CAPPED=capped, LOGITS_OUT=logits_out, **stored, **layer,
        )  # fmt: skip
        compile_one(decode._merge, 2, LOGITS_OUT=logits_out, SPLITS=64, **layer, **({} if sinks else {"sinks": None}))
    for launch in (WIDE, VERIFYING):
        wide_rows(launch, pool, CAPPED=capped, EVIDENCE=True, **layer)


def wide_rows(launch: WideLaunch, pool: str, **constants) -> None:
    sizes = {"GP": 4, "M": launch.tile, "BLOCK": launch.tokens(constants["D"]), "ASM": True}
    compile_one(wide._attend_wide, launch.warps, launch.stages, pool, **sizes, **constants)


def prompt(dim: int, queries: int, pool: str, capped: bool) -> None:
    shape = {"KV": 8, "M": queries, "D": dim, "DP": triton.next_power_of_2(dim), "BLOCK": 64}
    for function in (evidence._prompt_lse, evidence._prompt_scores):
        compile_one(function, pool=pool, CAPPED=capped, **shape)


def extend(dim: int, pool: str, capped: bool) -> None:
    shape = {"KV": 8, "G": 4, "GP": 4, "M": block_mass.TILE, "D": dim, "DP": triton.next_power_of_2(dim)}
    sizes = {"TOKENS": CHOICE.block, "BLOCK": block_mass.BLOCK_TOKENS, "COLS": block_mass.COLUMNS}
    compile_one(block_mass._block_lse, CHOICE.warps, CHOICE.stages, pool, CAPPED=capped, **shape, **sizes)
    of = {"TOKENS": GROUPS.tokens(dim), "BLOCK": block_mass.BLOCK_TOKENS, "COLS": groups.COLUMNS, "sinks": None}
    shape["M"] = groups.tile_heads(dim, 4, 64)
    compile_one(groups._attend_groups, GROUPS.warps, GROUPS.stages, pool, CAPPED=capped, **shape, **of)
    layer = {"G": 4, "D": dim, "DP": shape["DP"], "CHAINED": True, **HEAD}
    wide_rows(WIDE, pool, CAPPED=capped, EVIDENCE=False, **layer)


def main() -> None:
    for dim in (64, 128, 256, 96, 192):
        attention(dim, "*bf16", capped=False, sinks=False)
    attention(64, "*bf16", capped=False, sinks=True)  # gpt-oss
    attention(256, "*bf16", capped=True, sinks=False)  # Gemma 2
    attention(128, FP8, capped=False, sinks=False)
    for dim in (64, 96, 192, 256):
        attention(dim, FP8, capped=True, sinks=True)
    prompt(128, 64, "*bf16", capped=False)
    for dim in (96, 192, 256):  # with as many queries as there may be
        prompt(dim, PROMPT_QUERIES * MAX_GROUP, "*bf16", capped=False)
    prompt(256, PROMPT_QUERIES * MAX_GROUP, "*bf16", capped=True)
    prompt(256, PROMPT_QUERIES * MAX_GROUP, FP8, capped=True)
    for dim in (64, 96, 128, 256):
        extend(dim, "*bf16", capped=False)
    extend(128, FP8, capped=True)
    compile_one(block_mass._block_mass, KV=8, G=4, CHUNK=1024)
    compile_one(locate._locate, COLS=rows.COLUMNS, BLOCK=1024)
    compile_one(pack._pack, BLOCK=1024, **HEAD)
    compile_one(evidence._merge_logits, G=4, GP=4, CHAINED=True, **PAGE)
    compile_one(coverage._record, 1, SIZE=36 * 8 * 2, COLS=rows.COLUMNS, RING=RING)
    compile_one(stages._fuse, 8, BLOCK=2048, **HEAD)
    for stage, after in ((rows.NMS.value, 16), (rows.SPAN.value, 2)):
        compile_one(stages._window, 8, STAGE=stage, AFTER=after, COLS=rows.COLUMNS, PAGE=EVIDENCE_PAGE)
    compile_one(stages._exclude, HEADS=8, **PAGE)
    compile_one(select._select, BLOCK=2048, SAMPLED=select.SAMPLE, **HEAD)


if __name__ == "__main__":
    main()
