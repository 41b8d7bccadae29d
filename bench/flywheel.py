#!/usr/bin/env python3
"""Does what is learnt reach the clock? One server learns from nothing with default flags; then all ways to decode are asked
the same new prompts, one after the other in a turning order.

    bench/flywheel.py --model FILE --prompts code.jsonl [--learn-tokens 20000] [--count 24] [--max-tokens 200]
                      [--slots 1] [--temperature 0] [--json FILE] [--flags "-t 2"]

stock: llama-server without speculation, with ngram-mod and with ngram-map-k4v (flags as they come); ours without drafts (kernels
alone), with repeated text alone, and the server that has learnt (its trainer is stopped while others are asked, so that no
arm pays for it). While it learns, the server's own tokens/s stand in the table by windows. A figure is tokens over seconds of
all prompts: of decoding alone at one slot, of the whole turn at several. Failed requests end the run.
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.path.insert(0, str(ROOT / "bench"))
from aurora_server import Server, default_model, failed, prompts_from
from capture_cost import llama_server

WINDOWS = 8


def cpu():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            has = [f for f in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if f in line.split()]
            return f"{name} ({', '.join(has)})"
    return "unknown"


class Arm:
    def __init__(self, server):
        self.server, self.tokens, self.seconds = server, 0, 0.0

    def ask(self, prompts, options):
        begin = time.monotonic()
        answers = self.server.chat_all(prompts, options.slots, max_tokens=options.max_tokens,
                                       temperature=options.temperature, seed=1, ignore_eos=False)
        took = time.monotonic() - begin
        if failed(answers):
            raise SystemExit(f"flywheel: a request failed: {failed(answers)[0]}")
        tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
        if options.slots == 1:
            took = sum(a["timings"]["predicted_ms"] for a in answers) / 1000
        self.tokens += tokens
        self.seconds += took
        return tokens, took, answers

    def speed(self):
        return self.tokens / self.seconds if self.seconds else 0.0


def learn(arm, prompts, options):
    """The curve while it learns: rows of (tokens so far, tokens/s, accept length, draft version)."""
    curve, used, tokens, seconds, at = [], 0, 0, 0.0, (0, 0)
    while arm.tokens < options.learn_tokens and used < len(prompts):
        batch = prompts[used:used + options.slots]
        used += len(batch)
        more, took, _ = arm.ask(batch, options)
        tokens, seconds = tokens + more, seconds + took
        if tokens >= options.learn_tokens / WINDOWS or arm.tokens >= options.learn_tokens:
            now = (arm.server.metric("generated_tokens_total"), arm.server.metric("target_steps_total"))
            accept = (now[0] - at[0]) / max(1, now[1] - at[1])
            curve.append([arm.tokens, round(tokens / seconds, 2), round(accept, 3),
                          int(arm.server.metric("draft_version"))])
            print("learning", curve[-1], flush=True)
            tokens, seconds, at = 0, 0.0, now
    return curve, used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--learn-tokens", type=int, default=20_000)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--flags", default="", help="of all servers")
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    model = options.model or default_model()
    prompts = prompts_from(options.prompts, 1_000_000)
    common = ["-np", str(options.slots), "-c", str(4096 * options.slots), *options.flags.split()]
    stock = llama_server(options.build)
    arms = {"learnt": Arm(Server(options.build, model, *common))}
    try:
        curve, used = learn(arms["learnt"], prompts, options)
        learnt = arms["learnt"]
        learnt.tokens, learnt.seconds = 0, 0.0
        learnt.server.signal_trainer(signal.SIGSTOP)
        def ours(*flags):
            return Arm(Server(options.build, model, *common, "--train", "off", *flags))
        arms["none"] = ours("--draft-arms", "none")
        arms["ngram"] = ours("--draft-arms", "ngram")
        arms["stock"] = Arm(Server(options.build, model, *common, program=stock))
        arms["stock_ngram_mod"] = Arm(Server(options.build, model, *common, "--spec-type", "ngram-mod", program=stock))
        arms["stock_ngram_map"] = Arm(Server(options.build, model, *common, "--spec-type", "ngram-map-k4v", program=stock))
        names = list(arms)
        texts = {}
        before = {name: learnt.server.metric(name) for name in ("generated_tokens_total", "target_steps_total")}
        for turn, at in enumerate(range(used, used + options.count, options.slots)):
            batch = prompts[at:at + options.slots]
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                _, _, answers = arms[name].ask(batch, options)
                texts.setdefault(name, []).extend(a["choices"][0]["message"]["content"] for a in answers)
            print(turn, {name: round(arm.speed(), 1) for name, arm in arms.items()}, flush=True)
        after = {name: learnt.server.metric(name) for name in before}
        generated, steps = (after[name] - before[name] for name in before)
        speed = {name: round(arm.speed(), 2) for name, arm in arms.items()}
        best = max(speed[name] for name in speed if name.startswith("stock_"))
        result = {
            "cpu": cpu(), "model": pathlib.Path(model).name, "slots": options.slots, "temperature": options.temperature,
            "prompts": options.count, "learning": curve, "tokens_per_s": speed, "accept_len": round(generated / steps, 3),
            "equal_text": sum(a == b for a, b in zip(texts["learnt"], texts["none"])),
            "over_stock": round(speed["learnt"] / speed["stock"], 3), "over_stock_best": round(speed["learnt"] / best, 3),
            "over_own_none": round(speed["learnt"] / speed["none"], 3),
            "swaps": learnt.server.metric("swaps_total"), "put_away": learnt.server.metric("rollbacks_total"), "failed": 0}
        arms_text = {line.split()[0]: float(line.split()[1]) for line in learnt.server.get("/metrics").splitlines()
                     if line.startswith("aurora:arm_")}
        result["arms"] = arms_text
        print(json.dumps(result, indent=1))
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    finally:
        if "learnt" in arms and arms["learnt"].server.trainer_pid():
            try:
                arms["learnt"].server.signal_trainer(signal.SIGCONT)
            except ProcessLookupError:
                pass
        for arm in arms.values():
            arm.server.stop()


if __name__ == "__main__":
    main()
