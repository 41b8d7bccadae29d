#!/usr/bin/env python3
"""Is the trainer a good neighbour? The same requests, one client in a closed loop, to a server that learns from nothing with
default flags and to one with --train off; tokens/s of each request as shares of the second's median.

    bench/neighbour.py [--model FILE] --prompts FILE.jsonl [--count 200] [--max-tokens 128] [--flags "..."] [--json FILE]

Both run alone, one after the other, and both draft from repeated text: what differs is the trainer. RSS is the trainer's
largest, read each request.
"""
import argparse
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, default_model, prompts_from


def cpu():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            has = [f for f in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if f in line.split()]
            return f"{name} ({', '.join(has)})"
    return "unknown"


def rss_mib(pid):
    try:
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def run(options, model, prompts, *flags):
    speeds, tokens, rss, first = [], 0, 0.0, None
    with Server(options.build, model, "-np", "1", "-c", "4096", *options.flags.split(), *flags) as server:
        for prompt in prompts:
            answer = server.chat(prompt, max_tokens=options.max_tokens)
            speeds.append(answer["timings"]["predicted_per_second"])
            tokens += answer["usage"]["completion_tokens"]
            pid = server.trainer_pid()
            rss = max(rss, rss_mib(pid) if pid else 0.0)
            if first is None and server.metric("draft_version") > 0:
                first = tokens
            if len(speeds) % 20 == 0:
                print(len(speeds), round(statistics.median(speeds[-20:]), 1), flush=True)
        accept = server.metric("generated_tokens_total") / server.metric("target_steps_total")
        return {"speeds": speeds, "accept_len": round(accept, 3), "trainer_rss_mib": round(rss), "first_draft_tokens": first,
                "trainer_steps": server.metric("trainer_steps_total"), "swaps": server.metric("swaps_total")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--flags", default="")
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    model = options.model or default_model()
    prompts = prompts_from(options.prompts, options.count)
    off = run(options, model, prompts, "--train", "off")
    on = run(options, model, prompts)
    middle = statistics.median(off["speeds"])
    ratios = [a / b for a, b in zip(on["speeds"], off["speeds"])]
    fifth = len(ratios) // 5
    result = {"cpu": cpu(), "model": pathlib.Path(model).name, "requests": len(prompts), "median_off": round(middle, 1),
              "worst_over_median_off": round(min(on["speeds"]) / middle, 3),
              "worst_off_over_median_off": round(min(off["speeds"]) / middle, 3),
              "median_ratio": round(statistics.median(ratios), 3),
              "first_fifth": round(statistics.median(ratios[:fifth]), 3),
              "last_fifth": round(statistics.median(ratios[-fifth:]), 3),
              **{name: on[name] for name in on if name != "speeds"}, "accept_len_off": off["accept_len"]}
    print(json.dumps(result))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**result, "on": on["speeds"], "off": off["speeds"]}) + "\n")


if __name__ == "__main__":
    main()
