#!/usr/bin/env python3
"""A published draft in plain `llama-server -md`: it loads, and accepts as many tokens as under aurora serve.

    bench/draft_in_llama_server.py --state DIR [--count 30] [--prompts FILE.jsonl] [--depth 3]

DIR is the state of an earlier run, such as demo/run/learning. Both serve the same prompts greedily with the newest draft there.
"""
import argparse
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.path.insert(0, str(ROOT / "bench"))
from aurora_server import Server, copy_newest_draft, default_model, prompts_from
from capture_cost import llama_server


def accept_length(server, prompts, max_tokens):
    generated = steps = drafted = accepted = 0
    for messages in prompts:
        timings = server.chat(messages, max_tokens=max_tokens)["timings"]
        generated += timings["predicted_n"]
        steps += timings["predicted_n"] - timings.get("draft_n_accepted", 0)
        drafted += timings.get("draft_n", 0)
        accepted += timings.get("draft_n_accepted", 0)
    return {"generated": generated, "drafted": drafted, "accepted": accepted, "accept_len": round(generated / steps, 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--state", required=True)
    parser.add_argument("--prompts", default=ROOT / "examples/traffic/1-classes.jsonl")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--depth", type=int, default=3)
    options = parser.parse_args()
    model = options.model or default_model()
    prompts = prompts_from(options.prompts, options.count)
    common = ["-t", "2", "-np", "1", "-c", "4096"]
    with tempfile.TemporaryDirectory() as state:
        draft = copy_newest_draft(options.state, state)
        with Server(options.build, model, *common, "--draft-depth", str(options.depth), "--draft-arms", "learnt", "--gate", "off", "--train", "off",
                    "--capture", "off", state=state) as server:
            server.wait_for_draft(30)
            ours = accept_length(server, prompts, options.max_tokens)
        with Server(options.build, model, *common, "-md", str(draft), "--spec-type", "draft-eagle3", "--spec-draft-n-max",
                    str(options.depth), program=llama_server(options.build)) as server:
            theirs = accept_length(server, prompts, options.max_tokens)
    print(json.dumps({"draft": draft.name, "aurora": ours, "llama_server": theirs}))
    sys.exit(0 if theirs["accept_len"] >= 0.97 * ours["accept_len"] else 1)


if __name__ == "__main__":
    main()
