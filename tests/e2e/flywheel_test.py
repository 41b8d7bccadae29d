#!/usr/bin/env python3
"""`aurora bench flywheel` end to end: a quick run measures every arm, and whatever happens no server stays behind.

    flywheel_test.py BUILD
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from aurora_server import ROOT, default_model

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build").resolve()
MODEL = default_model()
PROMPTS = ",".join(str(ROOT / "examples/traffic" / name) for name in ("1-classes.jsonl", "2-mails.jsonl"))
KEYS = {"over_stock", "over_stock_best", "over_own_none", "over_stock_4", "over_own_none_4", "online_over_static",
        "worst_window_over_none", "hostile_over_none", "failed", "swaps", "runs"}


def session_of(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[3])
    except OSError:
        return None


def members(session):
    """Programs that belong to it: servers and trainers, whoever their parent is by now."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session_of(pid) == session]


class Flywheel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def start(self, *flags):
        command = [str(BUILD / "aurora"), "bench", "flywheel", "-m", MODEL, *map(str, flags)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                env={**os.environ, "TMPDIR": str(self.path)})

    def wait_until(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.2)

    def assert_gone(self, session):
        self.wait_until(lambda: not members(session), f"still there: {members(session)}", 30)

    def test_quick_run(self):
        out, page = self.path / "flywheel.json", self.path / "flywheel.html"
        bench = self.start("--prompts", PROMPTS, "--quick", "--json", out, "--html", page)
        table, errors = bench.communicate(timeout=600)
        self.assertEqual(bench.returncode, 0, errors)
        self.assert_gone(bench.pid)
        self.assertEqual(list(self.path.glob("aurora-flywheel-*")), [])
        figures = json.loads(out.read_text())
        self.assertEqual(set(figures), KEYS)
        self.assertEqual(figures["failed"], 0)
        for key in ("over_stock", "over_stock_best", "over_own_none"):
            self.assertGreater(figures[key], 0, key)
        for key in ("over_stock_4", "online_over_static", "hostile_over_none"):
            self.assertIsNone(figures[key], key)
        [run] = figures["runs"]
        arms = {arm["arm"]: arm for arm in run["arms"]}
        self.assertEqual(set(arms), {"learning", "off", "none", "ngram", "stock", "stock-ngram-mod", "stock-ngram-map-k4v"})
        self.assertEqual(arms["learning"]["texts"], 3)
        self.assertEqual(arms["learning"]["same_texts"], 3)
        self.assertGreater(arms["stock"]["between_tokens_ms_p99"], 0)
        self.assertGreaterEqual(sum(window["requests"] for window in run["windows"]), 800 // 48)
        pairs = run["learning_over_none"]
        self.assertGreater(pairs["pairs"], 2)
        self.assertEqual(pairs["same_texts"], pairs["texts"])
        self.assertIn("stock-ngram-mod", table)
        self.assertIn("<svg", page.read_text())

    def test_hostile_run_fills_in_its_key(self):
        first, second = self.path / "first.json", self.path / "second.json"
        first.write_text(json.dumps({"over_stock": 2.5, "failed": 0, "swaps": 3, "runs": [{}]}))
        bench = self.start("--stream", "hostile", "--quick", "--pair-every", 1, "--learn-tokens", 300, "--merge", first,
                           "--json", second)
        _, errors = bench.communicate(timeout=600)
        self.assertEqual(bench.returncode, 0, errors)
        figures = json.loads(second.read_text())
        self.assertEqual(figures["over_stock"], 2.5)
        self.assertGreater(figures["hostile_over_none"], 0)
        self.assertEqual(len(figures["runs"]), 2)
        self.assert_gone(bench.pid)

    def test_interrupted_run_says_what_it_knows(self):
        out = self.path / "flywheel.json"
        bench = self.start("--prompts", PROMPTS, "--learn-tokens", 100000, "--max-tokens", 32, "--json", out)
        self.wait_until(lambda: len(members(bench.pid)) >= 3, "server and trainer start")
        time.sleep(2)
        os.kill(bench.pid, signal.SIGINT)
        bench.communicate(timeout=120)
        self.assertEqual(bench.returncode, 130)
        self.assertTrue(json.loads(out.read_text())["runs"][0]["interrupted"])
        self.assert_gone(bench.pid)

    def test_killed_run_leaves_no_server(self):
        bench = self.start("--prompts", PROMPTS, "--learn-tokens", 100000, "--max-tokens", 32)
        self.wait_until(lambda: len(members(bench.pid)) >= 3, "server and trainer start")
        bench.kill()
        bench.communicate(timeout=60)
        self.assert_gone(bench.pid)


if __name__ == "__main__":
    unittest.main(verbosity=2)
