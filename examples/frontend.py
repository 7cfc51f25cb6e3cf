"""SFI in SGLang's frontend language: one `gen` with it, one without.

sfi-sglang serve                    # in another terminal
python examples/frontend.py
"""

import argparse
from typing import Any

import sglang as sgl

import sfi_sglang.frontend  # noqa: F401  adds sfi= to sgl.gen and to program.run

STORY = " ".join(f"On day {day} the harbor master wrote that {day % 17} ships came in." for day in range(100))


@sgl.function
def summarise(s: Any, text: str) -> None:
    s += f"{text}\n\nIn one sentence, the harbor master wrote"
    s += sgl.gen("summary", max_tokens=32, stop=".", sfi={"budget": 256, "recent": 256})
    s += ".\nA title for this:"
    s += sgl.gen("title", max_tokens=8, stop="\n")  # dense


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:30000", help="where it listens (%(default)s)")
    endpoint = sgl.RuntimeEndpoint(parser.parse_args().server)

    state = summarise.run(text=STORY, temperature=0, backend=endpoint)
    for name in ("summary", "title"):
        print(f"{name}:{state[name]}\n  SFI: {state.get_meta_info(name).get('sfi')}")


if __name__ == "__main__":
    main()
