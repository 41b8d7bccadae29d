#!/usr/bin/env python3
"""A week of records in minutes: a server of a toy target answers, its trainer reads every record, drafts are published as they are due.

    bench/week.py [--build DIR] [--records 50000] [--tokens 24] [--flags "..."] [--json FILE]

Clients wait while the trainer is behind, so that no record is passed over for want of time. Twenty samples: the trainer's and the
server's RSS, files and bytes of the state folder, steps/s and rows/s. Ends with 1 where something that ought to be level grew or fell.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server
from neighbour import cpu, rss_mib

CLIENTS, LAG_MAX, SAMPLES = 4, 256, 20
FILES_MAX = 2 * 1000 + 64  # manifests and verdicts of the newest thousand versions (Registry::kManifestsKept), and the rest


def files_of(folder):
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() else 0)
        except OSError:  # gone since
            pass
    return len(sizes), sum(sizes) / 2**20


def feed(server, first, count, tokens):
    """Asks for `count` answers; the trainer is never more than LAG_MAX records behind."""
    def ask(number):
        server.complete(f"Day {number % 7}, order {number}: {number * 7919 % 1000} of {number * 104729 % 1000}.", tokens)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for at in range(first, first + count, LAG_MAX // 2):
            list(pool.map(ask, range(at, min(at + LAG_MAX // 2, first + count))))
            server.wait(lambda: server.metric("trainer_lag_records") <= LAG_MAX, 600)


def sample(server, records, since):
    steps, seconds = server.metric("trainer_steps_total"), time.monotonic()
    files, mib = files_of(server.state)
    return {"records": records, "trainer_rss_mib": round(rss_mib(server.trainer_pid()), 1),
            "server_rss_mib": round(rss_mib(server.process.pid), 1), "files": files, "state_mib": round(mib, 1),
            "steps_per_second": round((steps - since[0]) / (seconds - since[1]), 2),
            "rows_per_second": round(server.metric("trainer_rows_per_second")), "version": server.newest_draft()}, (steps, seconds)


def level(samples):
    """What is not: the last quarter beside the second one, when every window is full."""
    quarter = len(samples) // 4
    early, late = samples[quarter:2 * quarter], samples[-quarter:]
    middle = lambda part, name: statistics.median(one[name] for one in part)
    wrong = [f"{name} grew from {middle(early, name)} to {middle(late, name)}"
             for name in ("trainer_rss_mib", "server_rss_mib", "state_mib") if middle(late, name) > 1.1 * middle(early, name)]
    if middle(late, "steps_per_second") < 0.8 * middle(early, "steps_per_second"):
        wrong.append("steps/s fell")
    if samples[-1]["files"] > FILES_MAX:
        wrong.append(f"{samples[-1]['files']} files")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--flags", default="")
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aurora-week-") as folder:
        target = os.path.join(folder, "toy.gguf")
        subprocess.run([options.build / "aurora-make-tiny-target", target, "llama", "1", "f32", "32768"], check=True)
        with Server(options.build, target, "-np", str(CLIENTS), "-c", "8192", "--gate", "off", "--buffer-mib", "64",
                    *options.flags.split(), log=os.path.join(folder, "log")) as server:
            feed(server, 0, LAG_MAX, options.tokens)
            server.wait(lambda: server.metric("trainer_steps_total") > 0, 120)
            samples, since = [], (server.metric("trainer_steps_total"), time.monotonic())
            for number in range(SAMPLES):
                feed(server, number * options.records // SAMPLES, options.records // SAMPLES, options.tokens)
                one, since = sample(server, (number + 1) * options.records // SAMPLES, since)
                samples.append(one)
                print(json.dumps(one), flush=True)
            result = {"cpu": cpu(), "samples": samples, "written": server.metric("traces_written_total"),
                      "dropped_by_trainer": server.metric("trainer_dropped_records_total"),
                      "restarts": server.metric("trainer_restarts_total"), "swaps": server.metric("swaps_total")}
    wrong = level(samples)
    if result["restarts"]:
        wrong.append("the trainer ended")
    print(json.dumps({**{k: v for k, v in result.items() if k != "samples"}, "wrong": wrong}))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
