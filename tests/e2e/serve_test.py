#!/usr/bin/env python3
"""The real binaries over real HTTP: bad input, capture and opt-out, swaps, a killed trainer, a broken draft file.

    tests/e2e/serve_test.py BUILD_DIR
"""
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
MODEL = subprocess.run([sys.executable, ROOT / "scripts/fetch_model.py"], capture_output=True, text=True,
                       check=True).stdout.strip().splitlines()[-1]
LANGUAGES = ["Ada", "C", "D", "Go", "Java", "Lua", "Perl", "Python", "Ruby", "Rust", "Scheme", "Swift"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(*flags):
    return subprocess.run([str(BUILD / "aurora"), "serve", *flags], capture_output=True, text=True, timeout=120)


class BadInput(unittest.TestCase):
    def refused(self, sentence, *flags):
        ended = serve(*flags)
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn(sentence, ended.stderr)

    def test_no_model_is_an_error_and_not_router_mode(self):
        self.refused("no model given")

    def test_missing_file(self):
        self.refused("there is no model file", "-m", "/nonexistent.gguf")

    def test_not_a_gguf(self):
        self.refused("is not a GGUF model", "-m", __file__)

    def test_value_out_of_range(self):
        self.refused("--draft-depth is '99'", "-m", MODEL, "--draft-depth", "99")

    def test_flag_that_the_flywheel_cannot_serve(self):
        self.refused("--cache-reuse does not go with aurora serve", "-m", MODEL, "--cache-reuse", "64")

    def test_unknown_flag(self):
        self.assertNotEqual(serve("-m", MODEL, "--no-such-flag").returncode, 0)

    def test_port_in_use(self):
        with socket.socket() as holder, tempfile.TemporaryDirectory() as state:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = str(holder.getsockname()[1])
            ended = serve("-m", MODEL, "--port", port, "--state", state, "--train", "off")
            self.assertNotEqual(ended.returncode, 0)


class Serving(unittest.TestCase):
    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp())
        self.port = free_port()
        self.log = open(self.state / "serve.log", "wb")
        self.server = subprocess.Popen(
            [str(BUILD / "aurora"), "serve", "-m", MODEL, "-t", "1", "-np", "2", "-c", "4096", "--port", str(self.port),
             "--state", str(self.state), "--gate", "off", "--publish-first-records", "4", "--publish-every-records", "8",
             "--train-vocab", "2048"],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.wait(lambda: self.get("/health"), 60)

    def tearDown(self):
        self.server.terminate()
        self.server.wait(timeout=60)
        self.log.close()
        shutil.rmtree(self.state, ignore_errors=True)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def wait(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.assertIsNone(self.server.poll(), "the server ended")
            if condition():
                return
            time.sleep(0.2)
        self.fail("nothing came in time:\n" + (self.state / "serve.log").read_text(errors="replace")[-3000:])

    def metric(self, name):
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"aurora:{name} "):
                return float(line.split()[-1])
        self.fail(f"no metric aurora:{name}")

    def ask(self, subject, **headers):
        body = {"messages": [{"role": "user", "content": f"Name three uses of {subject}."}], "max_tokens": 40,
                "temperature": 0}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions",
                                         json.dumps(body).encode(),
                                         {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]

    def ask_all(self):
        with concurrent.futures.ThreadPoolExecutor(2) as clients:
            return list(clients.map(self.ask, LANGUAGES))

    def kill_trainer(self):
        for line in (self.state / "serve.log").read_text(errors="replace").splitlines()[::-1]:
            if "trainer started, pid" in line:
                os.kill(int(line.split()[-1]), signal.SIGKILL)
                return
        self.fail("the trainer never started")

    def test_flywheel(self):
        # Opted out: nothing is written.
        self.ask("tea", **{"X-Aurora-Capture": "off"})
        self.assertEqual(self.metric('traces_dropped_total{cause="opt_out"}'), 1)
        self.assertEqual(self.metric("traces_written_total"), 0)

        # Served, learned from, swapped in.
        self.ask_all()
        self.wait(lambda: self.metric("traces_written_total") == len(LANGUAGES), 20)
        self.wait(lambda: list((self.state / "drafts").glob("draft-*.json")), 120)
        self.wait(lambda: self.ask("salt") and self.metric("draft_version") >= 1, 60)
        self.ask_all()
        self.assertGreater(self.metric("spec_decode_num_drafts_total"), 0)
        self.assertGreater(self.metric("generated_tokens_total"), self.metric("target_steps_total"))
        self.assertEqual(self.metric("speculator_errors_total"), 0)
        self.assertEqual(self.metric('drafting_skipped_total{cause="error"}'), 0)
        self.assertEqual(self.metric('drafting_skipped_total{cause="rows_missing"}'), 0)

        # A killed trainer costs no request and comes back.
        self.kill_trainer()
        self.assertEqual(len(self.ask_all()), len(LANGUAGES))
        self.wait(lambda: (self.state / "serve.log").read_text(errors="replace").count("trainer started, pid") >= 2, 30)

        # A truncated draft under the next version: refused by name, no token served by it.
        version = int(max((self.state / "drafts").glob("draft-*.json")).stem.split("-")[1].split(".")[0])
        good = self.state / "drafts" / f"draft-{version:06d}"
        bad = self.state / "drafts" / f"draft-{version + 100:06d}"
        data = good.with_suffix(".gguf").read_bytes()
        bad.with_suffix(".gguf").write_bytes(data[: len(data) // 2])
        manifest = json.loads(good.with_suffix(".json").read_text())
        manifest["version"] = version + 100
        bad.with_suffix(".json").write_text(json.dumps(manifest))
        self.wait(lambda: f"draft {version + 100} refused" in (self.state / "serve.log").read_text(errors="replace"), 30)
        self.ask("iron")
        self.assertLess(self.metric("draft_version"), version + 100)


if __name__ == "__main__":
    unittest.main(verbosity=2)
