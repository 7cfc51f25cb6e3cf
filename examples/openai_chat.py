"""One question about a long text, over the OpenAI API: dense, then with SFI.

sfi-sglang serve                    # in another terminal; or any other server with SFI
python examples/openai_chat.py
"""

import argparse
import time

import openai

STORY = " ".join(f"On day {day} the harbor master wrote that {day % 17} ships came in." for day in range(120))
QUESTION = "In one sentence: what did the harbor master write down?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:30000", help="where it listens (%(default)s)")
    parser.add_argument("--budget", type=int, default=256, help="selected tokens per KV head (%(default)s)")
    options = parser.parse_args()

    client = openai.OpenAI(base_url=f"{options.server}/v1", api_key="none")
    model = client.models.list().data[0].id
    for sfi in (False, {"budget": options.budget, "recent": 256}):
        began = time.perf_counter()
        reply = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": f"{STORY}\n\n{QUESTION}"}],
            temperature=0,
            max_tokens=48,
            extra_body={"sfi": sfi},  # the only change to an ordinary request
        )
        print(f"sfi={sfi}, {time.perf_counter() - began:.1f} s: {reply.choices[0].message.content}")
        if report := (reply.model_extra or {}).get("sfi"):  # of a request with SFI, beside `usage`
            print(f"  {report['slow_steps']} slow steps, {report['fast_steps']} fast ones; the whole report: {report}")


if __name__ == "__main__":
    main()
