#!/usr/bin/env python3
"""What serving costs with the brokers gone: tokens/s with all three stopped as a share of tokens/s with them there, interleaved.

    bench/brokers_gone.py [--build build] [--rounds 20] [--max-tokens 96] [--require 0.98]

Two servers run at once, each with three brokers of its own, captured traces going to them, no trainer. In every round both
answer the same prompt, in an order that turns, one with its brokers stopped (SIGSTOP: they neither answer nor close), the
other with them running; the next round the other way round. A share is the median of per-round ratios with a 95 %
bootstrap interval.
"""
import argparse
import json
import pathlib
import signal
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
sys.path.insert(0, str(ROOT / "bench"))
from aurora_cluster import Cluster  # noqa: E402
from aurora_server import default_model  # noqa: E402
from capture_cost import SUBJECTS, interval  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--require", type=float, default=0.0, help="exit 1 when the share is below this")
    options = parser.parse_args()
    model, flags = default_model(), ["-t", "1", "-np", "1", "-c", "2048"]
    with tempfile.TemporaryDirectory() as folder, \
            Cluster(options.build, model, pathlib.Path(folder) / "a", servers=1, ranks=0, serve_flags=flags) as a, \
            Cluster(options.build, model, pathlib.Path(folder) / "b", servers=1, ranks=0, serve_flags=flags) as b:
        for cluster in (a, b):
            cluster.servers[0].chat("Hello", max_tokens=32)
        ratios, speeds = [], []
        for number in range(options.rounds):
            gone, there = (a, b) if number % 2 else (b, a)
            gone.signal_brokers(signal.SIGSTOP)
            prompt, speed = f"Tell me about {SUBJECTS[number % len(SUBJECTS)]}, part {number}.", {}
            for cluster in ((gone, there) if number // 2 % 2 else (there, gone)):
                answer = cluster.servers[0].chat(prompt, max_tokens=options.max_tokens, ignore_eos=True)
                speed[cluster] = answer["timings"]["predicted_per_second"]
            gone.signal_brokers(signal.SIGCONT)
            ratios.append(speed[gone] / speed[there])
            speeds.append(speed[there])
        result = {"rounds": options.rounds, "gone_over_there": interval(ratios), "network": a.network.kind,
                  "tokens_per_s_there": round(sorted(speeds)[len(speeds) // 2], 1)}
    print(json.dumps(result))
    return 1 if result["gone_over_there"][0] < options.require else 0


if __name__ == "__main__":
    sys.exit(main())
