#!/usr/bin/env python3
"""Greedy text with drafts against text without, on the same server, across swaps; every difference explained or counted.

    bench/text_identity.py --prompts FILE.jsonl... [--count 200] [--max-tokens 80] [--init target|random] [--slots 1]

--answers FILE keeps the answers without drafts: several runs (other drafts, other slots) are compared with one.
With our kernels every answer must be equal: --require-equal. With stock kernels (--flags "--kernels off") a position in a
batch of several rows is summed in another order than alone: such a difference is explained when, at the first token that
differs, the log-probabilities of the target's two best tokens lie closer than MARGIN.
"""
import argparse
import contextlib
import hashlib
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, copy_newest_draft, default_model, failed, prompts_from

MARGIN = 0.25


def first_difference(plain, drafted):
    """(index, log-probability margin of the two best tokens there) in the undrafted answer, or None when equal."""
    a = plain["choices"][0]["logprobs"]["content"]
    b = drafted["choices"][0]["logprobs"]["content"] if "logprobs" in drafted["choices"][0] else None
    text = drafted["choices"][0]["message"]["content"]
    if plain["choices"][0]["message"]["content"] == text:
        return None
    built = ""
    for index, token in enumerate(a):
        same = token["token"] == b[index]["token"] if b and index < len(b) else text.startswith(built + token["token"])
        if not same:
            best = sorted((other["logprob"] for other in token["top_logprobs"]), reverse=True)
            return index, best[0] - best[1]
        built += token["token"]
    return len(a), 0.0


def start(options, flags, stack):
    """The server, in an empty state folder, or in one that holds nothing but the newest draft of options.state."""
    model = options.model or default_model()
    if not options.state:
        return Server(options.build, model, *flags)
    state = stack.enter_context(tempfile.TemporaryDirectory())
    copy_newest_draft(options.state, state)
    server = Server(options.build, model, *flags, "--train", "off", "--capture", "off", state=state)
    server.wait_for_draft(60)
    return server


def all_answered(answers):
    if failed(answers):
        raise SystemExit(f"a request failed: {failed(answers)[0]}")
    return answers


class Answers:
    """Answers without drafts: from `path` when an earlier run left them there, asked for otherwise."""

    def __init__(self, path, key):
        self.path = path and pathlib.Path(path)
        self.key = key
        self.all = []
        self.known = bool(self.path and self.path.exists())
        if self.known:
            stored = json.loads(self.path.read_text())
            if stored["key"] != key:
                raise SystemExit(f"{path} holds answers to other prompts, lengths or another model; give another file")
            self.all = stored["answers"]

    def part(self, server, begin, prompts, slots, **fields):
        if not self.known:
            got = server.chat_all(prompts, slots, logprobs=True, top_logprobs=2,
                                  headers={"X-Aurora-Speculate": "off", "X-Aurora-Capture": "off"}, **fields)
            self.all += all_answered(got)
        return self.all[begin:begin + len(prompts)]

    def save(self):
        if self.path and not self.known:
            self.path.write_text(json.dumps({"key": self.key, "answers": self.all}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--model", default=None)
    parser.add_argument("--prompts", required=True, nargs="+")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--init", default="target", help="target, or random: a draft that is hardly ever right")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--depth", default="16", help="most tokens of a draft, or auto")
    parser.add_argument("--seed", type=int, default=0, help="above 0: each draft's length is drawn from 1 to the depth")
    parser.add_argument("--no-cache", action="store_true", help="without the server's prompt cache")
    parser.add_argument("--require-equal", action="store_true", help="exit code 1 when any answer differs, ties included")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", help="of an earlier run: its newest draft serves, and nothing is trained")
    parser.add_argument("--answers", help="file of the answers without drafts: read when it is there, written otherwise")
    parser.add_argument("--flags", default="", help="further server flags, such as \"-fa off\"")
    options = parser.parse_args()
    each = -(-options.count // len(options.prompts))
    prompts = [prompt for path in options.prompts for prompt in prompts_from(path, each)][:options.count]
    flags = ["-t", str(options.threads), "-np", str(options.slots), "-c", str(4096 * options.slots), "--gate", "off", "--init", options.init,
             "--draft-depth", str(options.depth), "--draft-depth-seed", str(options.seed), *options.flags.split()]
    key = hashlib.sha256(json.dumps([str(options.model), options.max_tokens, options.flags, prompts]).encode()).hexdigest()
    answers = Answers(options.answers, key)
    equal, tokens, explained, other = 0, 0, [], []
    group = options.slots * 8
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start(options, flags, stack))
        for begin in range(0, len(prompts), group):
            part = prompts[begin:begin + group]
            cache = not options.no_cache
            drafted = all_answered(server.chat_all(part, options.slots, max_tokens=options.max_tokens, cache_prompt=cache))
            plain = answers.part(server, begin, part, options.slots, max_tokens=options.max_tokens, cache_prompt=cache)
            tokens += sum(answer["usage"]["completion_tokens"] for answer in drafted)
            for number, (a, b) in enumerate(zip(plain, drafted)):
                difference = first_difference(a, b)
                if difference is None:
                    equal += 1
                else:
                    (explained if difference[1] < MARGIN else other).append((begin + number, *difference))
            print(f"\r{begin + len(part)}/{len(prompts)} equal {equal} ties {len(explained)} other {len(other)} "
                  f"draft v{server.metric('draft_version'):.0f}", end="", file=sys.stderr, flush=True)
        answers.save()
        print(file=sys.stderr)
        print(json.dumps({
            "prompts": len(prompts), "max_tokens": options.max_tokens, "init": options.init, "slots": options.slots,
            "depth": options.depth, "seed": options.seed, "tokens": tokens,
            "equal": equal, "ties": len(explained), "other": other,
            "tie_margins": sorted(round(margin, 4) for _, _, margin in explained),
            "swaps": server.metric("swaps_total"), "drafts": server.metric("spec_decode_num_drafts_total"),
            "draft_tokens": server.metric("spec_decode_num_draft_tokens_total"),
            "accepted": server.metric("spec_decode_num_accepted_tokens_total")}))
    sys.exit(1 if other or (explained and options.require_equal) else 0)


if __name__ == "__main__":
    main()
