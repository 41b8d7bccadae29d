#!/usr/bin/env python3
"""The demo: a server with an empty draft, live traffic, and the curve of the draft that it trains meanwhile.

    scripts/demo.py            320 requests: one domain, then a second; writes demo/report.{json,html,svg}
    DEMO_COUNT=20 ...          so many requests only, half of each domain
    DEMO_OUT=DIR               where reports, log and state go (default: demo)
    AURORA_BUILD=DIR           where the binaries are (default: build)

Exit code 0 when every request was answered.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("AURORA_BUILD", ROOT / "build"))
OUT = pathlib.Path(os.environ.get("DEMO_OUT", ROOT / "demo"))
TRAFFIC = [ROOT / "examples/traffic/1-classes.jsonl", ROOT / "examples/traffic/2-mails.jsonl"]

# The defaults: the server lends a core to the trainer, drafts come from repeated text and from what is learnt, where they
# pay.
SERVE_FLAGS = ["-np", "1", "-c", "4096"]
BASELINE_EVERY = 10
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def log_tail(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def start_server(model, port, log):
    state = OUT / "state"
    shutil.rmtree(state, ignore_errors=True)  # a demo begins on day 0
    command = [str(BUILD / "aurora"), "serve", "-m", model, "--host", "127.0.0.1", "--port", str(port),
               "--state", str(state), *SERVE_FLAGS]
    print("$ " + " ".join(command), flush=True)
    with open(log, "wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)


def wait_until_ready(server, url, log):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"demo: the server ended with code {server.returncode}:\n{log_tail(log)}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):  # not listening yet, or still loading
            time.sleep(0.2)
    raise SystemExit(f"demo: the server was not ready after {START_SECONDS_MAX} s; its log: {log}")


def stop_server(server):
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        print(f"demo: the server did not stop within {STOP_SECONDS_MAX} s and is killed", file=sys.stderr)
        server.kill()
        server.wait()


def replay(url):
    command = [str(BUILD / "aurora"), "replay", *map(str, TRAFFIC), "--url", url, "--order", "sequential",
               "--max-tokens", "80", "--temperature", "0"]
    for kind in ("json", "html", "svg"):
        command += [f"--{kind}", str(OUT / f"report.{kind}")]
    every = BASELINE_EVERY
    if os.environ.get("DEMO_COUNT"):
        per_file = max(1, (int(os.environ["DEMO_COUNT"]) + 1) // len(TRAFFIC))
        command += ["--count", str(per_file)]
        every = min(every, per_file)
    return subprocess.run(command + ["--baseline-every", str(every)], check=False).returncode


def verdict(report):
    """What speculation costs or brings on this machine, from requests asked twice: with a draft and without."""
    baseline = report["baseline"]
    if not baseline["drafted_pairs"]:
        return "No draft served while the speed was compared: what speculation costs here is not known."
    ratio = baseline["speedup"]
    text = f"Speculation ran at {ratio:.2f} of the speed without it. "
    if ratio < 1:
        text += ("A step that verifies four rows\ncosts this small target more than the accepted tokens save on this "
                 "machine; what is lost is what it\ntakes to find out.")
    return text


def main():
    if not (BUILD / "aurora").exists():
        raise SystemExit(f"demo: {BUILD / 'aurora'} is not built; run make build")
    fetch = subprocess.run([sys.executable, str(ROOT / "scripts/fetch_model.py")], stdout=subprocess.PIPE, text=True,
                           check=False)
    if fetch.returncode != 0:
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), OUT / "server.log"
    url = f"http://127.0.0.1:{port}"
    server = start_server(fetch.stdout.strip(), port, log)
    try:
        wait_until_ready(server, url, log)
        code = replay(url)
        died = server.poll()
    finally:
        stop_server(server)
    if died is not None:
        print(f"demo: the server ended with code {died}:\n{log_tail(log)}", file=sys.stderr)
        return 1
    if (OUT / "report.json").exists():
        report = json.loads((OUT / "report.json").read_text())
        print(f"\n{verdict(report)}\n\nThe curve: {OUT / 'report.html'}   figures: {OUT / 'report.json'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
