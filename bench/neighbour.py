#!/usr/bin/env python3
"""Is the trainer a good neighbour? Four servers get the same prompts, a block of requests at a time, in a turning order: one that
learns from nothing with default flags, one with --train off; and for the first prompts one whose trainer has nothing to do,
because its requests are not captured, and one like it with --train off.

    bench/neighbour.py [--model FILE] --prompts FILE.jsonl [--count 200] [--max-tokens 128] [--slots 1] [--json FILE] [--svg FILE]

While another server is asked the learning one's trainer is stopped, so that it gets what a lone server's trainer gets. Times are
the client's, of streamed tokens. At the end the trainer works beside idle servers: on all cores, then on one.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, default_model, prompts_from

NOT_CAPTURED = {"X-Aurora-Capture": "off"}
ARMS = {"learning": ([], {}), "off": (["--train", "off"], {}), "nothing to do": ([], NOT_CAPTURED),
        "off, not captured": (["--train", "off"], NOT_CAPTURED)}
PAIR_COUNT = 60  # requests of the last two


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


def cpu_seconds(pid):
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def ask(server, messages, max_tokens, headers):
    """The times at which tokens came, and how many there were."""
    times, tokens = [], 0
    for now, event in server.stream(messages, max_tokens, headers, 600, stream_options={"include_usage": True}):
        if event.get("choices") and event["choices"][0]["delta"].get("content"):
            times.append(now)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return times, tokens


class Arm:
    def __init__(self, name, options, model):
        flags, self.headers = ARMS[name]
        self.server = Server(options.build, model, "-np", str(options.slots), "-c", str(4096 * options.slots),
                             *options.flags.split(), *flags)
        self.options = options
        self.speeds, self.gaps, self.blocks, self.tokens, self.seconds = [], [], [], 0, 0.0
        self.rss, self.first_draft = 0.0, None
        self.pause(True)

    def pause(self, stop):
        pid = self.server.trainer_pid()
        if pid:
            os.kill(pid, signal.SIGSTOP if stop else signal.SIGCONT)

    def metric(self, name):
        """0 where there is no trainer."""
        try:
            return self.server.metric(name)
        except KeyError:
            return 0.0

    def block(self, prompts):
        self.pause(False)
        begin, before, trainer = time.monotonic(), self.tokens, self.server.trainer_pid() or 0
        worked = cpu_seconds(trainer)
        with concurrent.futures.ThreadPoolExecutor(self.options.slots) as pool:
            answers = list(pool.map(lambda p: ask(self.server, p, self.options.max_tokens, self.headers), prompts))
        seconds = time.monotonic() - begin
        for times, tokens in answers:
            self.tokens += tokens
            if len(times) > 4:
                self.speeds.append((tokens - 1) / (times[-1] - times[0]))
                self.gaps += [b - a for a, b in zip(times, times[1:])]
        self.seconds += seconds
        if self.first_draft is None and self.metric("draft_version") > 0:
            self.first_draft = self.tokens
        self.rss = max(self.rss, rss_mib(self.server.trainer_pid() or 0))
        self.blocks.append({"tokens": self.tokens, "tokens_per_second": round((self.tokens - before) / seconds, 2),
                            "rows_per_second": round(self.metric("trainer_rows_per_second"), 1),
                            "trainer_share": round(max(0.0, cpu_seconds(trainer) - worked) / seconds / os.cpu_count(), 3),
                            "draft": int(self.metric("draft_version"))})
        self.pause(True)

    def figures(self, middle):
        gaps = sorted(self.gaps)
        accept = self.server.metric("generated_tokens_total") / self.server.metric("target_steps_total")
        return {"tokens_per_second": round(self.tokens / self.seconds, 2), "median": round(statistics.median(self.speeds), 2),
                "slowest_over_median_off": round(min(self.speeds) / middle, 3), "accept_length": round(accept, 3),
                "p50_ms": round(1000 * gaps[len(gaps) // 2], 1), "p99_ms": round(1000 * gaps[len(gaps) * 99 // 100], 1)}


def idle_rows(arm, seconds):
    """Rows a second of the trainer beside an idle server, on all cores and on one."""
    found = []
    arm.pause(False)
    for cores in (f"0-{os.cpu_count() - 1}", "0"):
        subprocess.run(["taskset", "-apc", cores, str(arm.server.trainer_pid())], check=True, capture_output=True)
        time.sleep(seconds / 2)
        rates = []
        for _ in range(int(seconds / 2)):
            time.sleep(1)
            rates.append(arm.server.metric("trainer_rows_per_second"))
        found.append(statistics.median(rates))
    return found


def plot(arms, path):
    """Tokens/s of each arm by block, the trainer's rows/s and its share of the cores below."""
    width, high = 720, 150
    rows = [("tokens/s", [(name, [b["tokens_per_second"] for b in arms[name].blocks]) for name in ("learning", "off")]),
            ("rows/s of the trainer", [("learning", [b["rows_per_second"] for b in arms["learning"].blocks])]),
            ("share of the cores", [("learning", [b["trainer_share"] for b in arms["learning"].blocks])])]
    colours = {"learning": "#1f77b4", "off": "#888888"}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {3 * high}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{3 * high}" fill="white"/>']
    for number, (title, lines) in enumerate(rows):
        top, most = number * high + 20, max(max(values) for _, values in lines) or 1
        out.append(f'<text x="50" y="{top - 6}">{title}</text><text x="46" y="{top + 8}" text-anchor="end">{most:.4g}</text>'
                   f'<text x="46" y="{top + high - 40}" text-anchor="end">0</text>'
                   f'<path d="M50 {top} v{high - 40} h{width - 60}" fill="none" stroke="#444"/>')
        for place, (name, values) in enumerate(lines):
            step = (width - 60) / max(1, len(values) - 1)
            points = " ".join(f"{50 + i * step:.1f},{top + (high - 40) * (1 - v / most):.1f}" for i, v in enumerate(values))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
            if number == 0:
                out.append(f'<text x="{200 + 110 * place}" y="{top - 6}" fill="{colours[name]}">{name}</text>')
    pathlib.Path(path).write_text("\n".join([*out, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--idle-seconds", type=float, default=60, help="of either half of the last part; 0: without it")
    parser.add_argument("--flags", default="")
    parser.add_argument("--json", default=None)
    parser.add_argument("--svg", default=None)
    options = parser.parse_args()
    model = options.model or default_model()
    prompts = prompts_from(options.prompts, options.count)
    arms = {name: Arm(name, options, model) for name in ARMS}
    try:
        for number, at in enumerate(range(0, len(prompts), options.block)):
            names = list(arms)[:4 if at < PAIR_COUNT else 2]
            for name in names[number % len(names):] + names[:number % len(names)]:
                arms[name].block(prompts[at:at + options.block])
            print(min(at + options.block, len(prompts)), *(arms[name].blocks[-1]["tokens_per_second"] for name in names), flush=True)
        middle = statistics.median(arms["off"].speeds)
        learning = arms["learning"]
        by_block = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(learning.blocks, arms["off"].blocks)]
        fifth = max(1, len(by_block) // 5)
        idle = [a["tokens_per_second"] / b["tokens_per_second"]
                for a, b in zip(arms["nothing to do"].blocks, arms["off, not captured"].blocks)]
        result = {"cpu": cpu(), "model": pathlib.Path(model).name, "requests": len(prompts), "slots": options.slots,
                  **{name: arm.figures(middle) for name, arm in arms.items()},
                  "median_block_over_off": round(statistics.median(by_block), 3),
                  "first_fifth_over_off": round(statistics.median(by_block[:fifth]), 3),
                  "last_fifth_over_off": round(statistics.median(by_block[-fifth:]), 3),
                  "nothing_to_do_over_off": round(statistics.median(idle), 3),
                  "trainer_rss_mib": round(learning.rss), "first_draft_tokens": learning.first_draft,
                  "trainer_steps": learning.server.metric("trainer_steps_total"), "swaps": learning.server.metric("swaps_total")}
        if options.idle_seconds:
            both, one = idle_rows(learning, options.idle_seconds)
            result.update(idle_rows_per_second=both, idle_rows_per_second_one_core=one, idle_cores=round(both / max(one, 1e-9), 2))
        print(json.dumps(result))
        if options.json:
            blocks = {name: arm.blocks for name, arm in arms.items()}
            pathlib.Path(options.json).write_text(json.dumps({**result, "blocks": blocks}) + "\n")
        if options.svg:
            plot(arms, options.svg)
    finally:
        for arm in arms.values():
            arm.pause(False)
            arm.server.stop()


if __name__ == "__main__":
    main()
