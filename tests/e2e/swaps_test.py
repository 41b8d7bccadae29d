#!/usr/bin/env python3
"""Many swaps under load, and poisoned drafts published by force: no request fails, no text changes, what is bad leaves.

    tests/e2e/swaps_test.py BUILD_DIR        AURORA_SWAPS=1000 for how many (default 20)
"""
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model, failed, prompts_from
from draft_files import Publisher, flipped_head, random_head, shifted_vocabulary, versions

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
SWAPS = int(os.environ.get("AURORA_SWAPS", "20"))
MODEL = default_model()
PROMPTS = prompts_from(ROOT / "examples/traffic/1-classes.jsonl", 24)
SLOTS, TOKENS = 4, 48
FLAGS = ["-np", str(SLOTS), "-c", "4096", "--deterministic", "on"]
VERSIONS = 2  # real ones, learnt, which are then published again and again


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Stream(threading.Thread):
    """A client in a closed loop over streamed answers: texts by prompt, and the time between two events, seconds."""

    def __init__(self, server, first):
        super().__init__(daemon=True)
        self.server, self.first, self.going = server, first, True
        self.texts, self.gaps, self.failures, self.answers = [], [], [], 0

    def run(self):
        number = self.first
        while self.going:
            try:
                self.texts.append((number % len(PROMPTS), self.ask(PROMPTS[number % len(PROMPTS)])))
                self.answers += 1
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(error)
            number += SLOTS

    def ask(self, messages):
        text, last = "", None
        for now, event in self.server.stream(messages, TOKENS, timeout=120):
            piece = event["choices"][0]["delta"].get("content")
            if piece:
                text += piece
                if last is not None:
                    self.gaps.append(now - last)
                last = now
        return text


class Load:
    def __init__(self, server):
        self.clients = [Stream(server, first) for first in range(SLOTS)]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.going = False
        for client in self.clients:
            client.join()
        self.texts = [pair for client in self.clients for pair in client.texts]
        # Tokens of one step come in one go: what lies between two steps is what a reader sees.
        self.gaps = [gap for client in self.clients for gap in client.gaps if gap > 1e-3]
        self.failures = [error for client in self.clients for error in client.failures]


class Swaps(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A state folder with some learnt versions; the trainer is not there any more."""
        cls.folder = tempfile.TemporaryDirectory(prefix="aurora-swaps-")
        with Server(BUILD, MODEL, *FLAGS, "--gate", "off", "--publish-first-records", "4", "--publish-every-records", "8",
                    "--train-vocab", "4096", state=cls.folder.name) as server:
            for count in range(1, VERSIONS + 1):  # the trainer has the cores while nobody asks
                server.chat_all(PROMPTS, SLOTS, max_tokens=TOKENS)
                server.wait(lambda: len(versions(server.state / "drafts")) >= count, 180)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def serve(self, *flags, seconds=60):
        """Later flags go before earlier ones."""
        server = Server(BUILD, MODEL, *FLAGS, "--train", "off", "--capture", "off", *flags, state=self.folder.name)
        self.addCleanup(server.stop)
        server.wait_for_draft(seconds)
        return server

    def test_a_busy_start(self):
        """What a step and a draft cost is first seen beside other processes; once they are gone the draft is used."""
        others = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * os.cpu_count())]
        try:
            server = self.serve("-np", "1", "--draft-arms", "learnt", seconds=120)
        finally:
            for other in others:
                other.kill()
                other.wait()
        found = []
        while len(found) < 10 and (not found or found[-1] < 1.5):
            before = server.metric("generated_tokens_total"), server.metric("target_steps_total")
            self.assertEqual(failed(server.chat_all(PROMPTS[:12], 1, max_tokens=TOKENS)), [])
            tokens, steps = server.metric("generated_tokens_total") - before[0], server.metric("target_steps_total") - before[1]
            found.append(round(tokens / steps, 2))
        print(f"\n  accept length by 12 requests behind a busy start: {found}", flush=True)
        self.assertGreaterEqual(found[-1], 1.5)

    def texts_without_drafts(self, server):
        answers = server.chat_all(PROMPTS, SLOTS, max_tokens=TOKENS, headers={"X-Aurora-Speculate": "off"})
        self.assertEqual(failed(answers), [])
        return [answer["choices"][0]["message"]["content"] for answer in answers]

    def check_texts(self, load, expected):
        self.assertEqual(load.failures, [])
        different = [number for number, text in load.texts if text != expected[number]]
        self.assertEqual(different, [], f"of {len(load.texts)} answers")

    def test_swaps_under_load(self):
        server = self.serve("--gate", "off")
        expected = self.texts_without_drafts(server)
        with Load(server) as still:
            time.sleep(20)
        publisher = Publisher(self.folder.name)
        before = server.metric("swaps_total")
        begin = time.monotonic()
        with Load(server) as load:
            for _ in range(SWAPS):
                version = publisher.publish_in_turn()
                server.wait(lambda: server.metric("draft_version") >= version, 60)
                publisher.remove_below(version)
        self.assertEqual(server.metric("swaps_total") - before, SWAPS)
        self.check_texts(still, expected)
        self.check_texts(load, expected)
        self.assertEqual(server.metric("speculator_errors_total"), 0)
        step = statistics.median(still.gaps)
        p99 = [percentile(one.gaps, 0.99) for one in (still, load)]
        print(f"\n  {SWAPS} swaps in {time.monotonic() - begin:.0f} s, {len(load.texts)} answers, 0 failed, 0 different; between "
              f"tokens p50 {1e3 * step:.1f} and {1e3 * statistics.median(load.gaps):.1f} ms, p99 {1e3 * p99[0]:.1f} without "
              f"swaps and {1e3 * p99[1]:.1f} ms with", flush=True)
        if "AURORA_SWAPS" in os.environ:  # by hand, with the machine for itself
            self.assertLessEqual(p99[1], p99[0] + step)

    def test_poisoned_drafts_leave(self):
        server = self.serve("-np", "1", "--draft-arms", "learnt")  # where a learnt draft is what pays
        expected = self.texts_without_drafts(server)
        publisher = Publisher(self.folder.name)
        good, _ = publisher.sources[-1]
        for name, poison in (("random", random_head), ("head's sign", flipped_head), ("d2t shifted", shifted_vocabulary)):
            serving = server.metric("draft_version")
            with self.subTest(name), Load(server) as load:
                version = publisher.publish(poison(good), replay_accept_len=4.0)
                verdict = publisher.path(version, "verdict.json")
                server.wait(lambda: verdict.exists(), 120)
                said = json.loads(verdict.read_text())
                self.assertEqual(said["kind"], "rolled_back")
                self.assertLessEqual(said["target_steps"], 400, said["reason"])  # the trial's bound; 200 on a quiet machine
                server.wait(lambda: server.metric("draft_version_on_trial") == 0, 10)
                self.assertEqual(server.metric("draft_version"), serving)
                print(f"\n  {name}: put away after {said['target_steps']} steps: {said['reason']}", flush=True)
            self.check_texts(load, expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
