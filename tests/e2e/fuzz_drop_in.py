#!/usr/bin/env python3
"""The same random requests to a server with drafts and to one without: every answer and event must be the same.

    tests/e2e/fuzz_drop_in.py [--build build] [--seconds 60 | --count 20000] [--seed 1] [--variants tiny,smol|NAME,...]

Both run `aurora serve`; one with `--draft-arms none`, the other with drafts of repeated text and of a learnt draft that
a trainer replaces all the while, up to 16 deep. A scenario is a few requests one after another or at once, with slots
saved, restored and erased between them and clients that go away. A difference is shrunk to the steps and fields that it
needs and printed as curl lines; `--only VARIANT:NUMBER` runs one scenario again. Exit code 1 with a difference.

Greedy requests and sampled ones with a seed are compared, whole but for ids and times. Where what a request keeps in the
cache depends on when another one ended (requests at once, a client that went), what is told of the cache is left out, and so
are the events of a prompt's progress: there is one a step of the server, whoever it is for.
"""
import argparse
import concurrent.futures
import contextlib
import copy
import http.client
import json
import pathlib
import random
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, default_model
from fuzz_requests import Maker, learn_pool

# What no two answers have in common, and what is told of the cache.
PASSING = {"id", "created", "created_at", "completed_at", "item_id", "call_id", "response_id", "time_ms", "save_ms",
           "restore_ms", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_ms", "predicted_per_token_ms",
           "predicted_per_second", "draft_n", "draft_n_accepted"}
CACHE = {"cache_n", "prompt_n", "tokens_cached", "cached_tokens", "prompt_tokens_details", "input_tokens_details",
         "cache_read_input_tokens", "input_tokens", "n_saved", "n_written", "n_restored", "n_read", "n_erased", "id_slot",
         "prompt_progress"}
TRIES_MAX = 150  # of one shrink
SECONDS_MAX = 300  # of silence in an answer, which is all of it where it is not streamed

DRAFTS = ["--gate", "off", "--draft-depth-seed", "7", "--init", "random", "--publish-first-records", "4",
          "--publish-every-records", "12", "--train-vocab", "256"]
EXACT = ["--deterministic", "on"]
# name: target, flags of both servers, slots, cells of a slot, whether slots share their cells
VARIANTS = {
    "tiny-llama": ("llama", [*EXACT, "-c", "2048", "-np", "2", "--no-kv-unified"], 2, 1024, False),
    "tiny-qwen2": ("qwen2", [*EXACT, "-c", "2048", "-np", "4", "--kv-unified"], 4, 1024, True),
    "tiny-experts": ("llama-moe", [*EXACT, "-c", "2048", "-np", "2", "--no-kv-unified"], 2, 1024, False),
    "tiny-window": ("gemma2", ["-c", "2048", "-np", "2", "--no-kv-unified"], 2, 1024, False),
    "tiny-window-full": ("gemma2", ["-c", "2048", "-np", "2", "--kv-unified", "--swa-full"], 2, 1024, True),
    "tiny-short": ("qwen2", [*EXACT, "-c", "256", "-np", "1", "-b", "16", "-ub", "16"], 1, 256, False),
    "smol": ("smol", [*EXACT, "-c", "2048", "-np", "2", "--no-kv-unified"], 2, 1024, False),
    "smol-q8": ("smol", ["-ctk", "q8_0", "-ctv", "q8_0", "-c", "2048", "-np", "2", "--no-kv-unified"], 2, 1024, False),
    "smol-unified": ("smol", [*EXACT, "-c", "4096", "-np", "4", "--kv-unified", "-ctk", "f16"], 4, 1024, True),
}


def send(server, step, events_max=None):
    """(status, answer): JSON, or a list of [event, data] of a stream; the first events_max of it, then the client goes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS_MAX)
    try:
        connection.request("POST", step["path"], json.dumps(step["body"]), {"Content-Type": "application/json"})
        if events_max == 0:
            return None, []
        answer = connection.getresponse()
        if not answer.getheader("Content-Type", "").startswith("text/event-stream"):
            return answer.status, json.loads(answer.read())
        events, name = [], ""
        for line in answer:
            line = line.decode().rstrip("\r\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                events.append([name, json.loads(line[6:]) if line[6:] != "[DONE]" else "[DONE]"])
                name = ""
                if len(events) == events_max:
                    break
        return answer.status, events
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "no answer", f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def without(answer, names):
    if isinstance(answer, dict):
        return {key: without(value, names) for key, value in answer.items() if key not in names}
    return [without(value, names) for value in answer] if isinstance(answer, (list, tuple)) else answer


def comparable(answer, step, loose):
    """The part of an answer that two servers must have in common."""
    if loose and isinstance(answer[1], list):
        events = [event for event in answer[1] if not tells_progress(event)]
        if step["do"] == "cut" and len(events) < len(answer[1]):  # it went after so many, whatever they told
            return answer[0]
        answer = [answer[0], events]
    answer = without(answer, PASSING | CACHE if loose else PASSING)
    if isinstance(answer[1], list):  # events of several answers come in any order
        several = has_several_answers(step)
        if several and step["do"] == "cut":
            return answer[0]
        if several and any(tells_error(event) for event in answer[1]):  # which ends the others wherever they are
            return [answer[0], [event for event in answer[1] if tells_error(event)]]
        answer = [answer[0], sorted(answer[1], key=lambda event: place_of(event, several))]
    if ends_by_the_clock(step):
        return answer[0]
    return answer


def ends_by_the_clock(step):
    return "t_max_predict_ms" in step["body"]


def tells_progress(event):
    return isinstance(event, list) and isinstance(event[1], dict) and "prompt_progress" in event[1]


def tells_error(event):
    return isinstance(event, list) and isinstance(event[1], dict) and "error" in event[1]


def index_of(event):
    data = event[1] if isinstance(event, list) else event
    if not isinstance(data, dict):
        return 1 << 20
    choices = data.get("choices")
    return choices[0].get("index", 0) if choices else data.get("index", 0) if isinstance(data.get("index", 0), int) else 0


def place_of(event, several):
    """What is told of one of several answers without naming it comes behind all of them, in no order: its usage, and
    whatever `response_fields` leaves of an event without its index."""
    data = event[1] if isinstance(event, list) else event
    unnamed = isinstance(data, dict) and (data.get("choices") == [] or several and not {"choices", "index"} & data.keys())
    return (1 << 19, json.dumps(event)) if unnamed else (index_of(event), "")


def has_several_answers(step):
    """They end in any order, and the next requests find other slots."""
    prompt = step["body"].get("prompt")
    return step["body"].get("n", 1) > 1 or isinstance(prompt, list) and all(isinstance(part, (str, list)) for part in prompt)


class Pair:
    """The two servers of a variant."""

    def __init__(self, name, options, stack):
        target, flags, self.slots, self.context, self.shared = VARIANTS[name]
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = default_model() if target == "smol" else self.tiny(options.build, target)
        flags = ["-t", "1", "--cache-ram", "0", "--draft-depth", "16", *flags]
        self.servers = []
        self.unread = False  # a client of the last scenario went at once: its request may be read behind this one's reset
        for arm, extra in (("drafts", [*DRAFTS, *options.flags.split()]), ("none", ["--draft-arms", "none", "--train", "off", "--capture", "off"])):
            folder = self.folder / arm
            (folder / "slots").mkdir(parents=True)
            self.servers.append(stack.enter_context(Server(options.build, model, *flags, *extra, "--slot-save-path",
                                                           str(folder / "slots"), state=folder)))
        props = json.loads(self.servers[1].get("/props"))
        tokens = send(self.servers[1], {"path": "/tokenize", "body": {"content": props["eos_token"], "parse_special": True}})
        self.pool = learn_pool(self.ask, tokens[1]["tokens"][0])

    def tiny(self, build, architecture):
        path = self.folder / f"{architecture}.gguf"
        subprocess.run([pathlib.Path(build) / "aurora-make-tiny-target", path, architecture, "1", "f16"], check=True)
        return path

    def ask(self, body):
        return send(self.servers[1], {"path": "/completion", "body": body})[1]

    def reset(self):
        """Slots are empty and were used in the same order."""
        for server in self.servers:
            for slot in range(self.slots):
                send(server, {"path": "/completion", "body": {"prompt": [0], "n_predict": 1, "id_slot": slot}})
                send(server, {"path": f"/slots/{slot}?action=erase", "body": {}})
            for path in (server.state / "slots").iterdir():
                path.unlink()

    def settle(self):
        """An answer's last event comes a moment before its slot is free, which decides where the next request goes."""
        for server in self.servers:
            server.wait(lambda: not any(slot["is_processing"] for slot in json.loads(server.get("/slots"))), SECONDS_MAX)

    def run(self, steps):
        """None, or what differs first: (step, answer with drafts, answer without)."""
        self.reset()
        loose = self.shared or self.unread
        self.unread = any(step["do"] == "cut" and step["after"] == 0 for step in steps)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for step in steps:
                self.settle()
                if step["do"] == "post":
                    loose = loose or has_several_answers(step) or ends_by_the_clock(step)
                    calls = [pool.submit(send, server, step) for server in self.servers]
                    found = [(step, *[call.result() for call in calls])]
                elif step["do"] == "cut":
                    loose = True
                    calls = [pool.submit(send, server, step, step["after"]) for server in self.servers]
                    found = [(step, *[call.result() for call in calls])]
                else:
                    loose = True
                    calls = [[pool.submit(send, server, one) for one in step["steps"]] for server in self.servers]
                    found = [(one, a.result(), b.result()) for one, a, b in zip(step["steps"], *calls)]
                for one, drafted, plain in found:
                    if "no answer" in (drafted[0], plain[0]):
                        return one, drafted, plain
                    if comparable(drafted, one, loose) != comparable(plain, one, loose):
                        return one, comparable(drafted, one, loose), comparable(plain, one, loose)
        return None


def smaller(steps):
    """Scenarios that are a little less: a step, a field or half of a text fewer."""
    for at in range(len(steps)):
        yield steps[:at] + steps[at + 1:]
        if steps[at]["do"] == "together":
            for one in steps[at]["steps"]:
                yield steps[:at] + [one] + steps[at + 1:]
    for at, step in enumerate(steps):
        for inner in range(len(step["steps"])) if step["do"] == "together" else [None]:
            body = (step if inner is None else step["steps"][inner])["body"]
            for field, value in body.items():
                for changed in less(field, value):
                    new = copy.deepcopy(steps)
                    target = (new[at] if inner is None else new[at]["steps"][inner])["body"]
                    if changed is None:
                        del target[field]
                    else:
                        target[field] = changed
                    yield new


def less(field, value):
    if field not in ("prompt", "messages", "input", "seed", "temperature"):
        yield None
    if isinstance(value, (str, list)) and len(value) > 1:
        yield value[:len(value) // 2]
        yield value[len(value) // 2:]
    if field == "messages" and value:
        last = value[-1]
        if isinstance(last["content"], str) and len(last["content"]) > 1:
            yield [*value[:-1], {**last, "content": last["content"][len(last["content"]) // 2:]}]
    if isinstance(value, int) and not isinstance(value, bool) and value > 2 and field.startswith(("n_", "max_")):
        yield value // 2
        yield value - 1


def shrink(pair, steps):
    """The smallest scenario found that still differs, or None when it does not differ again."""
    for _ in range(3):  # what a draft proposes depends on when it was trained
        if pair.run(steps):
            break
    else:
        return None
    tries, going = 0, True
    while going:
        going = False
        for candidate in smaller(steps):
            tries += 1
            if tries > TRIES_MAX:
                return steps
            if candidate and pair.run(candidate):
                steps, going = candidate, True
                break
    return steps


def curl(step):
    if step["do"] == "together":
        return "\n".join(curl(one) + " &" for one in step["steps"]) + "\nwait"
    gone = f"   # the client goes after {step['after']} events" if step["do"] == "cut" else ""
    return f"curl -sN $URL{shlex.quote(step['path'])} -d {shlex.quote(json.dumps(step['body']))}{gone}"


def first_difference(a, b, path=""):
    if type(a) is type(b) and isinstance(a, dict):
        for key in sorted(set(a) | set(b)):
            if a.get(key) != b.get(key):
                return first_difference(a.get(key), b.get(key), f"{path}/{key}")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        for at, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return first_difference(x, y, f"{path}/{at}")
        return f"{path}: {len(a)} and {len(b)} long"
    return f"{path}: {str(a)[:300]!r} with drafts, {str(b)[:300]!r} without"


def report(name, number, pair, steps, found):
    small = shrink(pair, steps) if "no answer" not in (found[1][0], found[2][0]) else None
    again = pair.run(small) if small else None
    step, drafted, plain = again or found
    print(f"\nDIFFERENCE in {name}:{number}{'' if small else ' (not met again; the whole scenario:)'}\n"
          f"flags of both: {' '.join(VARIANTS[name][1])}")
    print("\n".join(curl(step) for step in small or steps))
    print(f"at {curl(step)}\n   {first_difference(drafted, plain)}", flush=True)


def requests_in(steps):
    return sum(len(step["steps"]) if step["do"] == "together" else 1 for step in steps)


def fuzz(name, options, seconds, count):
    """(requests, differences, facts) of one variant."""
    requests = differences = number = 0
    with contextlib.ExitStack() as stack:
        pair = Pair(name, options, stack)
        begin = time.monotonic()
        number = options.first
        while requests < count and time.monotonic() - begin < seconds and differences < options.differences:
            maker = Maker(random.Random(f"{options.seed}/{name}/{number}"), pair.pool, pair.slots, pair.context)
            steps = maker.scenario()
            found = pair.run(steps)
            requests += requests_in(steps)
            if found:
                differences += 1
                report(name, number, pair, steps, found)
                if "no answer" in (found[1][0], found[2][0]):
                    break
            number += 1
        names = ("spec_decode_num_drafts_total", "spec_decode_num_accepted_tokens_total", "swaps_total", "speculator_errors_total")
        facts = {name: int(pair.servers[0].metric(name)) for name in names}
        if facts.pop("speculator_errors_total"):
            print(f"\nERRORS of the speculator in {name}:\n{pair.servers[0].log()[-2000:]}")
            differences += 1
        return requests, differences, {"scenarios": number - options.first, "seconds": round(time.monotonic() - begin), **facts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=None, help="for all variants together")
    parser.add_argument("--count", type=int, default=None, help="requests, of all variants together")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--variants", default="", help="names, or their beginnings, with commas (default: all)")
    parser.add_argument("--only", help="VARIANT:NUMBER: this scenario alone")
    parser.add_argument("--differences", type=int, default=3, help="stop a variant after so many")
    parser.add_argument("--flags", default="", help="further flags of the server with drafts")
    options = parser.parse_args()
    options.first = 0
    names = [name for name in VARIANTS if name.startswith(tuple(options.variants.split(",")))]
    if options.only:
        names, options.first = [options.only.split(":")[0]], int(options.only.split(":")[1])
        options.count = 1
    if not options.count and not options.seconds:
        options.seconds = 60
    failed, total = 0, 0
    for name in names:
        requests, differences, facts = fuzz(name, options, (options.seconds or 1e9) / len(names),
                                            -(-(options.count or 10**9) // len(names)))
        failed, total = failed + differences, total + requests
        print(json.dumps({"variant": name, "seed": options.seed, "requests": requests, "differences": differences, **facts}),
              flush=True)
        if not facts["spec_decode_num_accepted_tokens_total"] and not options.only:
            print(f"{name}: no drafted token was accepted: nothing was compared")
            failed += 1
    print(f"{total} requests, {failed} differences")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
