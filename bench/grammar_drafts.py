#!/usr/bin/env python3
"""Builds against each other on JSON-schema requests: tokens/s, drafted and accepted tokens, and whether the text is the same.

    bench/grammar_drafts.py BUILD [BUILD ...] [--learn 60] [--count 30] [--max-tokens 96] [--flags "--gate off"]

The first build learns a draft from the first prompts, asked with the schema. Then each has that draft and no trainer, and all
are asked the prompts behind them, one at a time, in an order that turns. With --gate off what is drafted depends on no clock.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, copy_newest_draft, default_model, prompts_from

COMMON = ["-t", "1", "-np", "1", "-c", "2048"]
PROMPTS = ROOT / "examples/traffic/2-mails.jsonl"
STRING = {"type": "string"}
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["subject", "urgent", "tone", "paragraphs", "closing"],
          "properties": {"subject": STRING, "urgent": {"type": "boolean"}, "tone": {"enum": ["friendly", "formal", "brief"]},
                         "paragraphs": {"type": "array", "items": STRING, "minItems": 2, "maxItems": 4}, "closing": STRING}}
ASKED = {"response_format": {"type": "json_schema", "json_schema": {"name": "mail", "schema": SCHEMA, "strict": True}}}


def learn(build, model, prompts, options, state):
    with Server(build, model, *COMMON, "--publish-first-records", "30", state=state) as server:
        for prompt in prompts:
            server.chat(prompt, options.max_tokens, **ASKED)
        server.wait(lambda: server.newest_draft() >= 1, 600)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("builds", nargs="+", metavar="BUILD")
    parser.add_argument("--model", default=None)
    parser.add_argument("--learn", type=int, default=60)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--flags", default="", help="of the servers that are compared")
    options = parser.parse_args()
    model = options.model or default_model()
    servers = []
    with tempfile.TemporaryDirectory(prefix="aurora-grammar-") as folder:
        folder = pathlib.Path(folder)
        (folder / "learnt").mkdir(mode=0o700)
        learn(options.builds[0], model, prompts_from(PROMPTS, options.learn), options, folder / "learnt")
        try:
            for i, build in enumerate(options.builds):
                state = folder / str(i)
                state.mkdir(mode=0o700)
                copy_newest_draft(folder / "learnt", state)
                servers.append(Server(build, model, *COMMON, "--train", "off", *options.flags.split(), state=state))
                servers[-1].wait_for_draft(60)
            compare(servers, prompts_from(PROMPTS, options.count, options.learn), options)
        finally:
            for server in servers:
                server.stop()


def compare(servers, prompts, options):
    answers = [[] for _ in servers]
    for turn, prompt in enumerate(prompts):
        for i in range(len(servers)):
            at = (turn + i) % len(servers)
            answers[at].append(servers[at].chat(prompt, options.max_tokens, **ASKED))

    def text(answer):
        return answer["choices"][0]["message"]["content"]

    def speed(answer):
        return answer["timings"]["predicted_per_second"]

    for build, own in zip(options.builds, answers):
        def total(name):
            return sum(answer["timings"].get(name, 0) for answer in own)
        ratio = statistics.median(speed(mine) / speed(first) for mine, first in zip(own, answers[0]))
        same = sum(text(mine) == text(first) for mine, first in zip(own, answers[0]))
        print(f"{build}: {1000 * total('predicted_n') / total('predicted_ms'):.1f} tokens/s, drafted {total('draft_n')}, accepted "
              f"{total('draft_n_accepted')}, median of the pairs' ratios {ratio:.3f}, the first build's text in {same} of {len(own)}")


if __name__ == "__main__":
    main()
