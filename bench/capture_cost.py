#!/usr/bin/env python3
"""What capture costs: tokens/s of captured requests as a share of the same server's opted-out ones, of a server with
--capture off and of stock llama-server, interleaved.

    bench/capture_cost.py [--pairs 20] [--max-tokens 96] [--case plain|stopped|full] [--require 0.90]

All servers run at once and are asked one at a time, the same prompt each, in an order that turns; a share is the median of
per-prompt ratios with a 95 % bootstrap interval. --require judges the share within one server: two processes of the same
binary and flags can differ by a tenth for as long as they live (where their memory came to lie), which no interval over
prompts shows. stopped: a trainer runs beside and is SIGSTOPped; full: the trace buffer
is as small as it may be and drops its oldest with every record.
"""
import argparse
import json
import pathlib
import random
import signal
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, default_model

SUBJECTS = ["rivers", "clocks", "bread", "maps", "glass", "wool", "iron", "paper", "salt", "tea", "ships", "bees"]


def llama_server(build):
    cache = (pathlib.Path(build) / "CMakeCache.txt").read_text()
    for line in cache.splitlines():
        if line.startswith("AURORA_LLAMA_DIR:") and line.split("=", 1)[1]:
            return pathlib.Path(line.split("=", 1)[1]) / "build/bin/llama-server"
    done = subprocess.run([sys.executable, ROOT / "third_party/llama.cpp/build.py"], capture_output=True, text=True,
                          check=True)
    return pathlib.Path(done.stdout.strip()) / "build/bin/llama-server"


def interval(ratios):
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return [round(statistics.median(ratios), 4), round(medians[50], 4), round(medians[1949], 4)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--case", choices=["plain", "stopped", "full"], default="plain")
    parser.add_argument("--require", type=float, default=0.0, help="exit 1 when captured/opted out is below this")
    options = parser.parse_args()
    model = options.model or default_model()
    common = ["-t", "1", "-np", "1", "-c", "2048"]
    ours = ["--draft-arms", "none"]  # a prompt that comes again would be drafted from what it got before
    capture = ["--capture", "on", "--train", "auto" if options.case == "stopped" else "off"]
    if options.case == "full":
        capture += ["--buffer-mib", "1"]
    servers = {
        "on": Server(options.build, model, *common, *ours, *capture),
        "off": Server(options.build, model, *common, *ours, "--capture", "off", "--train", "off"),
        "stock": Server(options.build, model, *common, program=llama_server(options.build)),
    }
    try:
        if options.case == "stopped":
            servers["on"].wait(lambda: servers["on"].trainer_pid() is not None, 30)
            servers["on"].signal_trainer(signal.SIGSTOP)
        asked = {"on": (servers["on"], None), "opted_out": (servers["on"], {"X-Aurora-Capture": "off"}),
                 "off": (servers["off"], None), "stock": (servers["stock"], None)}
        names = list(asked)
        speeds = {name: [] for name in names}
        for server in servers.values():
            server.chat("Hello", max_tokens=32)
        for pair in range(options.pairs):
            turn = pair % len(names)
            prompt = f"Tell me about {SUBJECTS[pair % len(SUBJECTS)]}, part {pair}."
            for name in names[turn:] + names[:turn]:
                server, headers = asked[name]
                timings = server.chat(prompt, options.max_tokens, headers, ignore_eos=True)["timings"]
                speeds[name].append(timings["predicted_per_second"])
        if options.case == "stopped":
            servers["on"].signal_trainer(signal.SIGCONT)
        shares = {f"on_over_{other}": interval([a / b for a, b in zip(speeds["on"], speeds[other])])
                  for other in names[1:]}
        result = {"case": options.case, "pairs": options.pairs, **shares,
                  "tokens_per_s_stock": round(statistics.median(speeds["stock"]), 1),
                  "traces_written": servers["on"].metric("traces_written_total"),
                  "capture_ms_a_step": round(1000 * servers["on"].metric("capture_seconds_total") /
                                             servers["on"].metric("target_steps_total"), 4)}
        print(json.dumps(result))
        sys.exit(1 if result["on_over_opted_out"][0] < options.require else 0)
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
