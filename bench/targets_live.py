#!/usr/bin/env python3
"""Targets one after the other, each from nothing with default flags on the same mixed prompts: how the accept length grows.

    bench/targets_live.py --prompts FILE.jsonl... --model NAME=FILE.gguf... [--count 300] [--max-tokens 64] [--flags "..."] [--json FILE]

By window of 50 requests: accept length (tokens generated for each step of the target, all steps), of which by the learnt chain
(tokens of its drafts that were taken, for each step), tokens/s. Then failures, errors, swaps; and of how many answers the text is
that of the first model, for what is the same target in another shape.
"""
import argparse
import json
import pathlib
import random
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, failed, prompts_from
from neighbour import cpu

WINDOW = 50
CHAIN = 'arm_accepted_tokens_total{arm="chain"}'
SUMS = ("generated_tokens_total", "target_steps_total", CHAIN)


def mixed(files, count):
    each = -(-count // len(files))
    prompts = [prompt for file in files for prompt in prompts_from(file, each)]
    random.Random(20).shuffle(prompts)
    return prompts[:count]


def live(options, model, prompts):
    """Figures, and the texts of the answers (an exception where one failed)."""
    answers, windows, first_draft = [], [], None
    with Server(options.build, model, *options.flags.split()) as server:
        for at in range(0, len(prompts), WINDOW):
            before, begin = [server.metric(name) for name in SUMS], time.monotonic()
            for prompt in prompts[at:at + WINDOW]:
                answers += server.chat_all([prompt], 1, max_tokens=options.max_tokens)
                if first_draft is None and server.metric("draft_version") > 0:
                    first_draft = int(server.metric("generated_tokens_total"))
            tokens, steps, chain = (server.metric(name) - was for name, was in zip(SUMS, before))
            windows.append({"accept_length": round(tokens / steps, 3), "by_chain": round(chain / steps, 3),
                            "tokens_per_second": round(tokens / (time.monotonic() - begin), 1)})
            print(model, json.dumps(windows[-1]), flush=True)
        found = {"windows": windows, "failed": len(failed(answers)), "first_draft_tokens": first_draft}
        for name in ("generated_tokens_total", "speculator_errors_total", "swaps_total", "rollbacks_total", "trainer_restarts_total",
                     "trainer_dropped_records_total", "trainer_steps_total"):
            found[name] = server.metric(name)
    return found, [answer if isinstance(answer, Exception) else answer["choices"][0]["message"]["content"] for answer in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--prompts", nargs="+", required=True)
    parser.add_argument("--model", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--flags", default="")
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    prompts = mixed(options.prompts, options.count)
    result, texts = {"cpu": cpu(), "requests": len(prompts)}, {}
    for name, file in (pair.split("=", 1) for pair in options.model):
        result[name], texts[name] = live(options, file, prompts)
        first = next(iter(texts.values()))
        result[name]["texts_as_first"] = sum(a == b for a, b in zip(texts[name], first))
        print(name, json.dumps(result[name]), flush=True)
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
