#!/usr/bin/env python3
"""Versions by hand, beside the real server on the tiny target: pin, unpin and rollback are followed between two steps; what is
recorded is shown.

    tests/e2e/drafts_test.py BUILD_DIR
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server
from draft_files import versions

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build").resolve()
WAIT = 180  # seconds, beside a busy machine
FLAGS = ["-c", "512", "-np", "1", "--gate", "off"]
LEARN = ["--init", "random", "--publish-first-records", "2", "--publish-every-records", "2", "--train-vocab", "256"]


class Drafts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A state folder with two versions."""
        folder = tempfile.TemporaryDirectory(prefix="aurora-drafts-")
        cls.addClassCleanup(folder.cleanup)
        cls.model = f"{folder.name}/tiny.gguf"
        cls.state = pathlib.Path(folder.name) / "state"
        cls.state.mkdir(mode=0o700)
        subprocess.run([BUILD / "aurora-make-tiny-target", cls.model, "llama", "1", "f16"], check=True)
        with Server(BUILD, cls.model, *FLAGS, *LEARN, state=cls.state) as server:
            server.wait(lambda: server.complete("learn from this", 40) and len(versions(cls.state / "drafts")) >= 2, WAIT)

    def aurora(self, *args):
        run = subprocess.run([BUILD / "aurora", *map(str, args), "--state", self.state], capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    def test_a_server_follows(self):
        newest = max(versions(self.state / "drafts"))
        older = newest - 1
        with Server(BUILD, self.model, *FLAGS, "--train", "off", state=self.state) as server:
            def serves(version):
                server.wait(lambda: server.complete("go on", 8) and server.metric("draft_version") == version, WAIT)

            def says(version, words):  # a verdict is handed over in a step, and written behind it
                server.wait(lambda: server.complete("go on", 8) and words in self.aurora("drafts", "show", version), WAIT)

            serves(newest)
            self.aurora("drafts", "pin", older)
            serves(older)
            says(older, "pinned by hand")
            self.aurora("drafts", "unpin")
            serves(newest)
            says(newest, "the newest serves")
            self.assertIn(f"version {older} is pinned", self.aurora("drafts", "rollback", older))
            serves(older)
            self.assertIn("rolled back by hand", self.aurora("drafts", "show", newest))
            self.assertEqual(server.metric("rollbacks_total"), 0, "no trial has said so")
        with Server(BUILD, self.model, *FLAGS, "--train", "off", state=self.state) as server:  # a restart keeps it
            server.wait(lambda: server.complete("go on", 8) and server.metric("draft_version") == older, WAIT)
        self.aurora("drafts", "unpin")

    def test_what_is_recorded(self):
        stats = json.loads(self.aurora("traces", "stats", "--json"))
        self.assertGreaterEqual(stats["records"], 4)
        self.assertGreater(stats["bytes"], 1000)
        self.assertLessEqual(stats["oldest_ms"], stats["newest_ms"])
        self.assertNotIn("dropped", stats)
        with Server(BUILD, self.model, *FLAGS, "--train", "off", state=self.state) as server:
            url = f"http://127.0.0.1:{server.port}"
            server.post("/completion", {"prompt": "not this one", "n_predict": 4}, {"X-Aurora-Capture": "off"}, 60)
            server.wait(lambda: json.loads(self.aurora("traces", "stats", "--json", "--url", url))["dropped"], 30)
            self.assertIn("dropped", self.aurora("traces", "stats", "--url", url))
        none = subprocess.run([BUILD / "aurora", "traces", "stats", "--state", self.state / "none"], capture_output=True, text=True)
        self.assertEqual((none.returncode, none.stderr.count("\n")), (1, 1))
        self.assertIn("nothing has been recorded in", none.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
