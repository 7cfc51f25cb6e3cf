#!/usr/bin/env bash
# The GPU tables of docs/results.md and docs/fidelity.md, measured anew on one GPU:
#
#     benchmarks/on_a_gpu.sh RECIPE...        say: tests steps exact extend traj:exgentic:4 traj:coding:1 probe fidelity
#
#   tests      tests/gpu
#   steps      dense and SFI decode
#   exact      dense, lossy and exact
#   extend     attention of sparse extend
#   traj:W:N   workload W, N clients: dense, SFI, SFI with sparse extend; traj:W:N:R: with R recent tokens
#   probe      train the probe model (TEXTS: its texts; MINUTES: 5)
#   fidelity   the probe model's answers with sparse extend (SIZES, tokens:budget: 30000:2048 16000:512)
#
# Results and logs go to OUT (runs/gpu). A recipe that fails does not stop the next one. sglang, sfi-sglang and
# sfi-bench are on the PATH, FlashAttention 3 comes with sglang-kernel. Nothing else should use the GPU.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-runs/gpu} PORT=${PORT:-30000} PYTHON=${PYTHON:-python3} TRIALS=${TRIALS:-40}
SHAPE=${SHAPE:-benchmarks/models/qwen3-4b}
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
SFI='{"budget": 1536, "policy": "periodic", "max_segment": 24'
BEGAN=$(date +%s) SERVED=

say() { echo "[$(($(date +%s) - BEGAN)) s] $*"; }

run() { # NAME COMMAND...: its output goes to a log, and the end of it here
    local name=$1
    shift
    "$@" > "$OUT/$name.log" 2>&1 < /dev/null
    say "$name: exit status $?"
    grep -v '^ *$' "$OUT/$name.log" | tail -"${ROWS:-25}" | cut -c1-150
}

end() {
    [ -n "$SERVED" ] && kill -TERM "$SERVED" 2> /dev/null && wait "$SERVED" 2> /dev/null
    SERVED=
}
trap end EXIT

serve() { # NAME ARGUMENTS...: starts a server unless that very one is up
    [ -n "$SERVED" ] && [ "$NAME" = "$1" ] && return 0
    end
    NAME=$1
    shift
    sfi-sglang serve "$@" --port "$PORT" --host 127.0.0.1 --enable-metrics > "$OUT/server_$NAME.log" 2>&1 < /dev/null &
    SERVED=$!
    until curl -s -f -o /dev/null -m 3 "http://127.0.0.1:$PORT/health"; do
        kill -0 $SERVED 2> /dev/null || { say "no server" && tail -25 "$OUT/server_$NAME.log" && SERVED= && return 1; }
        sleep 1
    done
    say "the server is up"
}

# The shape with SmolLM2's tokenizer: dummy weights must not choose tokens that have no text, or no client sees a first.
shape_with_text() {
    local folder=$OUT/shape
    $PYTHON - "$SHAPE" "$folder" << 'PY'
import json, shutil, sys
from pathlib import Path
from sfi_sglang.serving.embedded_model import embedded_model
shape, folder = map(Path, sys.argv[1:])
folder.mkdir(exist_ok=True)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(embedded_model() / name, folder)
config = json.loads((shape / "config.json").read_text())
vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
(folder / "config.json").write_text(json.dumps({**config, "vocab_size": len(vocabulary)}))
PY
    echo "$folder"
}

trajectories() { # WORKLOAD CLIENTS RECENT
    local name=$1_c$2${3:+_recent$3} sfi="$SFI${3:+, \"recent\": $3}" settings='{}'
    [ "$1" = exgentic ] && settings='{"turns": 11, "contexts": 1}'
    # shellcheck disable=SC2086
    serve shape "$(shape_with_text)" --load-format dummy --served-model-name qwen3-4b-shape --context-length 165000 \
        ${SERVER_FLAGS:---attention-backend fa3 --sampling-backend pytorch --disable-prefill-cuda-graph \
        --max-running-requests 32 --cuda-graph-bs-decode 1 2 4 8 16 24 32 --mem-fraction-static 0.87} || return
    local common=(sfi-bench run "$1" --set "${SETTINGS:-$settings}" --limit "$2" --loads "$2" --tool-scale 0 --repeats 1
        --server "http://127.0.0.1:$PORT" --no-report)
    ROWS=1 run "$name" "${common[@]}" --sfi "$sfi}" --out "$OUT/$name.jsonl"
    run "${name}_report" sfi-bench report "$OUT/$name.jsonl" --out "$OUT/$name"
    ROWS=1 run "${name}_sparse" "${common[@]}" --modes sfi --sfi "$sfi, \"extend\": \"sparse\"}" \
        --out "$OUT/${name}_sparse.jsonl"
    run "${name}_sparse_report" sfi-bench report "$OUT/${name}_sparse.jsonl" "$OUT/$name.jsonl" \
        --out "$OUT/${name}_sparse"
}

fidelity() {
    serve probe "$OUT/probe" --attention-backend triton --sampling-backend pytorch --max-running-requests 64 \
        --cuda-graph-bs-decode 1 4 8 16 32 64 --max-total-tokens 1200000 || return
    local sizes length budget task
    for sizes in ${SIZES:-30000:2048 16000:512}; do
        length=${sizes%:*} budget=${sizes#*:}
        local to=(--server "http://127.0.0.1:$PORT" --budget "$budget" --out "$OUT/fidelity_$length")
        for task in retrieval copy tools; do
            run "${task}_$length" sfi-sglang eval $task "${to[@]}" --lengths "$length" --trials "$TRIALS" \
                --set extend --clients 32
        done
        run "carry_$length" sfi-sglang eval carry "${to[@]}" --tokens "$length"
    done
}

decode() { # NAME ENGINE_ARGUMENTS OPTIONS...
    local name=$1 engine=$2
    shift 2
    end
    run "$name" "$PYTHON" -m benchmarks.decode_gpu "$SHAPE" --periods 20 --repeats 2 --engine-arguments "$engine" "$@" \
        --out "$OUT/$name.json"
}

[ $# -gt 0 ] || { sed -n '2,17s/^# \{0,1\}//p' "$0" && exit 2; }
for recipe in "$@"; do
    say "$recipe"
    case $recipe in
        tests) end && run tests "$PYTHON" -m pytest tests/gpu -q --no-cov ;;
        steps) decode steps '{"cuda_graph_max_bs_decode": 8, "max_running_requests": 8, "mem_fraction_static": 0.9,
            "context_length": 132000}' \
            --cases 8x8192,8x32768,1x131072 --recents 256 --tokens 128 --repairs off ;;
        exact) decode exact '{"max_running_requests": 136, "mem_fraction_static": 0.8, "context_length": 132000,
            "cuda_graph_bs_decode": [1, 8, 24, 40, 72, 104, 136]}' \
            --cases 8x32768,5x131072,1x131072 --tokens "${TOKENS:-600}" --exact 0.97 --recents 256,1024 ;;
        extend) end && run extend "$PYTHON" -m benchmarks.extend_gpu --out "$OUT/extend.json" ;;
        traj:*:*) IFS=: read -r _ workload clients recent <<< "$recipe" && trajectories "$workload" "$clients" "$recent" ;;
        probe) end && ROWS=3 run probe "$PYTHON" -m benchmarks.probe_model train --texts "${TEXTS:?}" \
            --out "$OUT/probe" --minutes "${MINUTES:-5}" ;;
        fidelity) fidelity ;;
        *) say "no such recipe" ;;
    esac
done
