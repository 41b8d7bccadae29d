#!/usr/bin/env python3
"""The demo: a server with an empty draft, live traffic, and the curve of the draft that it trains meanwhile; then the same new
prompts to llama-server, to ours without a draft and to the server that has learnt.

    scripts/demo.py            some 300 requests: one domain, then a second; writes demo/report.{json,html,svg}
    DEMO_COUNT=20 ...          about so many requests only
    DEMO_OUT=DIR               where reports, logs and states go (default: demo)
    AURORA_BUILD=DIR           where the binaries are (default: build)

Exit code 0 when every request was answered.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("AURORA_BUILD", ROOT / "build"))
OUT = pathlib.Path(os.environ.get("DEMO_OUT", ROOT / "demo"))
TRAFFIC = [ROOT / "examples/traffic/1-classes.jsonl", ROOT / "examples/traffic/2-mails.jsonl"]

REQUESTS = 290  # while it learns
COMPARED = 16  # new prompts that all three are asked
MAX_TOKENS = 80
PAIR_EVERY = 10
BAR_CELLS = 40
LINES = [("stock", "llama-server"), ("none", "ours, without a draft"), ("learning", "ours, which has learnt")]


def flywheel(model):
    shutil.rmtree(OUT / "run", ignore_errors=True)  # a demo begins on day 0
    requests = int(os.environ.get("DEMO_COUNT", REQUESTS))
    command = [str(BUILD / "aurora"), "bench", "flywheel", "-m", model, "--prompts", ",".join(map(str, TRAFFIC)),
               "--stream", "ordered", "--learn-tokens", str(requests * MAX_TOKENS), "--max-tokens", str(MAX_TOKENS),
               "--pair-every", str(min(PAIR_EVERY, max(1, requests // 4))), "--count", str(min(COMPARED, requests)),
               "--arms", "none,stock", "--keep", str(OUT / "run")]
    for kind in ("json", "html", "svg"):
        command += [f"--{kind}", str(OUT / f"report.{kind}")]
    print("$ " + " ".join(command), flush=True)
    # Ctrl-C is for the bench, which ends its servers and writes what it knows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(OUT / "table.txt", "w") as table:
        return subprocess.run(command, stdout=table, check=False).returncode


def side_by_side(arms):
    most = max(arms[name]["tokens_per_s"] for name, _ in LINES)
    for name, label in LINES:
        speed = arms[name]["tokens_per_s"]
        print(f"  {label:<24} {speed:7.1f} tokens/s  {'█' * max(1, round(BAR_CELLS * speed / most))}")


def sentence(arms, learnt):
    """What a newcomer should know, in one."""
    ratio = arms["learning"]["tokens_per_s"] / arms["stock"]["tokens_per_s"]
    same, texts = arms["learning"]["same_texts"], arms["learning"]["texts"]
    speed = f"{ratio:.1f} times as fast as llama-server" if ratio >= 1.05 else f"at {ratio:.2f} of llama-server's speed"
    words = "word for word the same" if same == texts else f"the same in {same} of {texts} cases"
    return (f"After {learnt:,} tokens of this traffic the same model answers new prompts {speed} on this machine, and what it says "
            f"is {words} as without a draft: the draft only guesses, and the model checks every guess.")


def main():
    if not (BUILD / "aurora").exists():
        raise SystemExit(f"demo: {BUILD / 'aurora'} is not built; run make programs")
    fetch = subprocess.run([sys.executable, str(ROOT / "scripts/fetch_model.py")], stdout=subprocess.PIPE, text=True,
                           check=False)
    if fetch.returncode != 0:
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    code = flywheel(fetch.stdout.strip())
    if code != 0:
        print(f"demo: the bench ended with code {code}; what its servers said: {OUT / 'run'}", file=sys.stderr)
        return code
    [run] = json.loads((OUT / "report.json").read_text())["runs"]
    arms = {arm["arm"]: arm for arm in run["arms"]}
    print(f"\nThe same {arms['stock']['texts']} new prompts, one at a time:\n")
    side_by_side(arms)
    print(f"\nThe curve: {OUT / 'report.html'}   figures: {OUT / 'report.json'}, {OUT / 'table.txt'}"
          f"\nYour own model: {BUILD / 'aurora'} serve -m FILE.gguf\n")
    print(sentence(arms, run["windows"][-1]["served_tokens"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
