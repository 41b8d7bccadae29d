#!/usr/bin/env python3
"""What a request waits for rollouts: time to the first token and tokens/s where rollouts are in flight, against a server
without.

    bench/rollout_wait.py [--pairs 20] [--max-tokens 64]

Both servers run at once and are asked one at a time, the same prompt each, in an order that turns; before it asks the one
with rollouts the script waits until some are in flight. Medians of per-prompt values with a 95 % bootstrap interval.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "bench")]
from aurora_server import Server, default_model
from capture_cost import SUBJECTS, interval


def first_token_ms(server, prompt, max_tokens):
    """Milliseconds to the first token, and tokens/s behind it."""
    start, first, tokens = time.monotonic(), None, 0
    for now, event in server.stream([{"role": "user", "content": prompt}], max_tokens, ignore_eos=True):
        if event.get("choices") and event["choices"][0]["delta"].get("content"):
            first = first or now
            tokens += 1
    return 1000 * (first - start), (tokens - 1) / (time.monotonic() - first)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    model = options.model or default_model()
    common = ["-t", "1", "-np", "4", "-c", "8192", "--train", "off"]
    servers = {"rollouts": Server(options.build, model, *common, "--rollouts", "1000"),
               "none": Server(options.build, model, *common)}
    try:
        names = list(servers)
        first, speed = {name: [] for name in names}, {name: [] for name in names}
        for server in servers.values():
            server.chat("Hello", max_tokens=32)
        for pair in range(options.pairs):
            turn = pair % 2
            prompt = f"Tell me about {SUBJECTS[pair % len(SUBJECTS)]}, part {pair}."
            for name in names[turn:] + names[:turn]:
                if name == "rollouts":
                    servers[name].wait(lambda: servers[name].metric("requests_processing", "llamacpp") > 0, 60)
                ms, rate = first_token_ms(servers[name], prompt, options.max_tokens)
                first[name].append(ms)
                speed[name].append(rate)
        print(json.dumps({
            "pairs": options.pairs,
            "first_token_ms": {name: round(statistics.median(first[name]), 1) for name in names},
            "longer_by_ms": interval([a - b for a, b in zip(first["rollouts"], first["none"])]),
            "tokens_per_s_share": interval([a / b for a, b in zip(speed["rollouts"], speed["none"])]),
            "rollout_tokens": servers["rollouts"].metric("rollout_tokens_total")}))
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
