#!/usr/bin/env python3
"""The flywheel over several machines, on one: three brokers, two servers that share their traces and drafts, two trainer ranks.

    scripts/demo_cluster.py    each server serves one domain while both learn; then each is asked for the other's
    CLUSTER_COUNT=20 ...       so many requests for each server only (default 100)
    CLUSTER_OUT=DIR            where reports, logs and states go (default: demo/cluster)
    AURORA_BUILD=DIR           where the binaries are (default: build)

Each program has a network namespace of its own where root may make them, otherwise all are on the loopback.
Exit code 0 when every request was answered and, with 100 requests or more, accept length rose on both servers.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_cluster import Cluster, wait_until  # noqa: E402
from aurora_server import default_model  # noqa: E402

BUILD = pathlib.Path(os.environ.get("AURORA_BUILD", ROOT / "build"))
OUT = pathlib.Path(os.environ.get("CLUSTER_OUT", ROOT / "demo/cluster"))
COUNT = int(os.environ.get("CLUSTER_COUNT", "100"))
TRAFFIC = [ROOT / "examples/traffic/1-classes.jsonl", ROOT / "examples/traffic/2-mails.jsonl"]
CROSS = min(20, COUNT)  # requests of the other's domain at the end

SERVE_FLAGS = ["-t", "1", "-np", "1", "-c", "4096", "--draft-depth", "3", "--gate", "off"]
# The servers would take both cores of a small machine: ranks of the usual low priority would hardly learn in a short demo.
TRAIN_FLAGS = ["--train-threads", "1", "--train-nice", "0", "--draft-depth", "3", "--gate", "off"]


def replay(server, traffic, report, skip, count):
    command = [str(BUILD / "aurora"), "replay", str(traffic), "--url", f"http://{server.host}:{server.port}", "--max-tokens", "80",
               "--skip", str(skip), "--count", str(count), "--json", str(report)]
    return subprocess.Popen(command, stdout=open(report.with_suffix(".log"), "wb"), stderr=subprocess.STDOUT)


def replays(servers, traffics, what, skip, count):
    """Every server its own traffic, at the same time. Their reports."""
    reports = [OUT / f"{what}-{server.state.name}.json" for server in servers]
    running = [replay(*each, skip, count) for each in zip(servers, traffics, reports)]
    for process in running:
        process.wait()
    return [json.loads(report.read_text()) for report in reports]


def accept_len(samples, before=None):
    """Over these requests. before: the sample in front of them; None: they are the server's first."""
    steps, tokens = (samples[-1][total] - (before[total] if before else 0) for total in ("target_steps_total", "generated_tokens_total"))
    return tokens / steps if steps else 0.0


def main():
    shutil.rmtree(OUT, ignore_errors=True)  # a demo begins on day 0
    with Cluster(BUILD, default_model(), OUT, serve_flags=SERVE_FLAGS, train_flags=TRAIN_FLAGS) as cluster:
        print(f"3 brokers, 2 servers, 2 trainer ranks ({cluster.network.kind}); logs in {OUT}", flush=True)
        own = replays(cluster.servers, TRAFFIC, "own", 0, COUNT)
        if COUNT >= 100:  # a server that was busy catches up with the newest draft
            wait_until(lambda: len({s.newest_draft() for s in cluster.servers}) == 1, 60, "both servers with the newest draft")
        other = replays(cluster.servers, TRAFFIC[::-1], "other", COUNT, CROSS)
        status = cluster.status()
    failed, rose = sum(report["failed"] for report in own + other), True
    for i, server in enumerate(cluster.servers):
        name, mine, theirs = server.state.name, TRAFFIC[i].stem[2:], TRAFFIC[1 - i].stem[2:]
        samples, quarter = own[i]["samples"], max(1, COUNT // 4)
        first, last = accept_len(samples[:quarter]), accept_len(samples[-quarter:], samples[-quarter - 1])
        cross = accept_len(other[i]["samples"], samples[-1])
        rose = rose and last > first and cross > 1.05
        print(f"{name}: accept length on {mine} {first:.2f} in the first quarter, {last:.2f} in the last; "
              f"on {theirs}, which only the other one served, {cross:.2f}; {own[i]['swaps']} swaps")
    print(f"failed requests: {failed}")
    for member in (status or {}).get("members", []):
        print("  ".join(f"{key} {value}" for key, value in member.items() if value is not None))
    if failed or status is None:
        return 1
    return 0 if rose or COUNT < 100 else 1


if __name__ == "__main__":
    sys.exit(main())
