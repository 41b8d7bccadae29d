#!/usr/bin/env python3
"""`aurora bench learn` end to end: records a stream with the real server, compares two recipes on it, goes on where it stopped.

    learn_test.py BUILD
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

from aurora_server import ROOT, Server, default_model, failed, prompts_from

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build").resolve()
MODEL = default_model()


def bench_learn(*flags):
    return subprocess.run([str(BUILD / "aurora"), "bench", "learn", *map(str, flags)], capture_output=True, text=True, timeout=300)


class Learn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        (cls.path / "state").mkdir()
        with Server(BUILD, MODEL, "-t", "2", "-np", "4", "-c", "8192", "--train", "off", state=cls.path / "state") as server:
            asked = prompts_from(ROOT / "examples/traffic/1-classes.jsonl", 16)
            answers = server.chat_all(asked, 4, max_tokens=48)
            assert not failed(answers), failed(answers)
            cls.served = sum(answer["usage"]["completion_tokens"] for answer in answers)
            server.wait(lambda: server.metric("traces_written_total") >= len(asked), 30)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_variants(self, text, *flags):
        variants = self.path / "variants.txt"
        variants.write_text(text)
        return bench_learn("-m", MODEL, "--trace-db", self.path / "state/traces", "--variants", variants,
                           "--out", self.path / "out", "--window", "8", "--passes", "2", *flags)

    def test_two_recipes_on_one_stream(self):
        text = "# two\nbase: --train-vocab 2048\nk1: --train-vocab 2048 --train-steps 1\n"
        seen = ("--seen", "8")
        ended = self.run_variants(text, *seen)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        figures = json.loads((self.path / "out/learn.json").read_text())
        for name in ("base", "k1"):
            windows = figures[name]["windows"]
            self.assertEqual([window["requests"] for window in windows], [8, 16])
            # Every record is scored; an end token that is not shown counts too.
            self.assertGreaterEqual(windows[-1]["served_tokens"], self.served)
            self.assertLess(windows[-1]["served_tokens"], self.served + 17)
            self.assertLess(windows[0]["accept_len"][0], 1.2, "nothing was trained on before the first group")
            self.assertEqual(windows[0]["seen_accept_len"], windows[0]["accept_len"], "the first window itself")
            self.assertGreater(windows[1]["seen_accept_len"][0], windows[0]["accept_len"][0], "learnt since")
            self.assertGreater(figures[name]["trained_columns"], 1.5 * self.served)
            self.assertIn(name, ended.stdout)
        self.assertIn("<svg", (self.path / "out/learn.html").read_text())
        again = self.run_variants(text, *seen)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stderr.count("done before"), 2)
        changed = self.run_variants(text.replace("--train-steps 1", "--train-steps 2"), *seen)
        self.assertEqual(changed.stderr.count("done before"), 1)

    def test_a_domain_that_is_not_there(self):
        ended = self.run_variants("base:\n", "--domains", "cooking")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("no record of the domain cooking", ended.stderr)

    def test_bad_input(self):
        ended = self.run_variants("base\n")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("line 1 must begin with a name and a colon", ended.stderr)
        ended = self.run_variants("base: --train-stepz 1\n")
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn("--train-stepz", ended.stderr)
        ended = bench_learn("-m", MODEL)
        self.assertEqual(ended.returncode, 2)
        self.assertIn("--trace-db", ended.stderr)


if __name__ == "__main__":
    unittest.main()
