#!/usr/bin/env python3
"""The live page: its JSON, its switches, the API key, and the page itself in a real browser, with pictures.

    tests/e2e/live_page_test.py BUILD_DIR        pictures: BUILD_DIR/live-page/*.png
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, copy_newest_draft, default_model, failed, prompts_from

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
MODEL = default_model()
PROMPTS = prompts_from(ROOT / "examples/traffic/1-classes.jsonl", 16)
PICTURES = BUILD / "live-page"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Headless, a profile of its own for each call; what the page did in its first page_ms, of its own time."""

    def run(self, url, *flags, size="1000,1500", page_ms=4000):
        with tempfile.TemporaryDirectory(prefix="aurora-browser-") as profile:
            done = subprocess.run(
                [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 f"--user-data-dir={profile}", f"--window-size={size}", "--enable-logging=stderr", f"--virtual-time-budget={page_ms}", *flags, url],
                capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": profile})
        said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return done.stdout, said

    def dom(self, url, **options):
        return self.run(url, "--dump-dom", **options)

    def picture(self, url, name, *flags, **options):
        PICTURES.mkdir(exist_ok=True)
        path = PICTURES / name
        path.unlink(missing_ok=True)
        _, said = self.run(url, f"--screenshot={path}", *flags, **options)
        return path, said


def text_of(dom):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<(script|style)>.*?</\1>", " ", dom, flags=re.S)))


class LivePage(unittest.TestCase):
    def state(self, server, seen="", key=None):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/aurora/state?seen={seen}",
                                         headers={"Authorization": f"Bearer {key}"} if key else {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
            return json.load(answer)

    def turn(self, server, what, to, key=None):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/aurora/turn?what={what}&to={to}", b"",
                                         {"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def serve(self, *flags, **options):
        server = Server(BUILD, MODEL, "-np", "2", "-c", "2048", *flags, **options)
        self.addCleanup(server.stop)
        return server

    def test_it_follows_traffic_and_shows_a_swap(self):
        server = self.serve("--gate", "off", "--publish-first-records", "4", "--publish-every-records", "8")
        page = f"http://127.0.0.1:{server.port}/aurora"
        dom, said = Browser().dom(page)
        self.assertIn("Ready. Nothing has been served yet.", text_of(dom))
        self.assertEqual(said, [])

        self.assertEqual(failed(server.chat_all(PROMPTS, 2, max_tokens=48)), [])
        server.wait(lambda: server.chat(PROMPTS[0], max_tokens=8) and server.metric("swaps_total") >= 1, 240)
        self.assertEqual(failed(server.chat_all(PROMPTS, 2, max_tokens=48)), [])
        time.sleep(0.5)  # an answer is out before its slot is done with it
        state = self.state(server)
        self.assertTrue(state["whole"])
        last = dict(zip(state["fields"], state["points"][-1]))
        self.assertIn(server.metric("generated_tokens_total") - last["tokens"], range(32))
        self.assertIn(server.metric("target_steps_total") - last["steps"], range(32))
        by_version = lambda name: {key: value for key, value in state["figures"].items() if key.startswith(f"aurora:version_{name}{{")}
        for name in ("generated_tokens_total", "target_steps_total"):
            self.assertEqual(sum(by_version(name).values()), state["figures"][f"aurora:{name}"])
            self.assertGreater(by_version(name)['aurora:version_%s{version="0"}' % name], 0)  # until the first draft came
            self.assertGreater(len([value for value in by_version(name).values() if value > 0]), 1)
        self.assertGreater(last["paced_ms"], 0)
        self.assertGreater(last["plain_ms"], 0)
        self.assertIn("serves", [event["kind"] for event in state["events"]])
        again = self.state(server, state["seen"])
        self.assertEqual((again["whole"], again["points"], again["events"]), (False, [], []))

        dom, said = Browser().dom(page)
        self.assertEqual(said, [])
        body = re.search(r"<body[^>]*>", dom)[0]
        points, swaps = (int(re.search(rf'data-{name}="(\d+)"', body)[1]) for name in ("points", "swaps"))
        self.assertGreater(points, 10)
        self.assertGreaterEqual(swaps, 1)
        self.assertIn("▲", dom)
        self.assertGreaterEqual(dom.count("<path"), 3)  # accept length; tokens a second, with drafts and without
        self.assertIn("draft in service", text_of(dom))
        self.assertRegex(text_of(dom), r"last offer, on requests held out [\d.–]+ offers, drafts published [1-9]\d*, [1-9]")
        self.assertRegex(text_of(dom), r"next offer (in [\d,]+ traces|due)")
        self.assertGreater(state["figures"]["aurora:trainer_cpu_seconds_total"], 0)
        self.assertRegex(text_of(dom), r"in the buffer [1-9]\d* MiB, of at most [\d.]+ of 2048.0 age of the oldest \d+ (s|minutes) written [1-9]")
        for name, flags, size in (("light.png", [], "1000,1560"), ("phone.png", [], "390,1800"),
                                  ("dark.png", ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"], "1000,1560")):
            path, said = Browser().picture(page, name, *flags, size=size)
            self.assertEqual(said, [])
            self.assertGreater(path.stat().st_size, 20_000, name)

    def test_switches(self):
        server = self.serve("--draft-arms", "ngram")
        repeated = "one two three four five six seven eight nine ten " * 6
        drafted = lambda: server.metric("spec_decode_num_draft_tokens_total")
        server.complete(repeated, 32)
        self.assertGreater(drafted(), 0)
        self.assertEqual(self.turn(server, "drafting", "off"), (200, {}))
        before = drafted()
        server.complete(repeated, 32)
        self.assertEqual(drafted(), before)
        self.assertFalse(self.state(server)["drafting"])
        self.assertEqual(self.turn(server, "drafting", "on"), (200, {}))
        server.complete(repeated, 32)
        self.assertGreater(drafted(), before)

        server.wait(lambda: server.trainer_pid() is not None, 30)
        running = lambda: pathlib.Path(f"/proc/{server.trainer_pid()}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T"
        self.assertEqual(self.turn(server, "training", "off"), (200, {}))
        server.wait(lambda: not running(), 30)
        self.assertFalse(self.state(server)["training"])
        self.assertEqual(self.turn(server, "training", "on"), (200, {}))
        server.wait(running, 30)
        self.assertEqual([event["kind"] for event in self.state(server)["events"] if "ing_o" in event["kind"]],
                         ["drafting_off", "drafting_on", "training_off", "training_on"])
        self.assertEqual(self.turn(server, "training", "off"), (200, {}))
        begin = time.monotonic()
        server.stop()
        self.assertLess(time.monotonic() - begin, 30, "who stands still ends with the server, too")

        for what, to, word in (("drafting", "maybe", "on or off"), ("x", "on", "drafting or training")):
            with self.subTest(what=what, to=to):
                server = self.serve("--train", "off") if server.process.poll() is not None else server
                code, answer = self.turn(server, what, to)
                self.assertEqual(code, 400)
                self.assertIn(word, answer["error"]["message"])
        code, answer = self.turn(server, "training", "off")
        self.assertEqual(code, 400)
        self.assertIn("no trainer", answer["error"]["message"])

    def test_the_figures_want_the_api_key_and_the_page_does_not(self):
        server = self.serve("--train", "off", "--api-key", "secret")
        for path in ("/", "/aurora"):
            self.assertIn("<title>Aurora", server.get(path))
        for attempt in (lambda: self.state(server), lambda: self.state(server, key="wrong")):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                attempt()
            self.assertEqual(refused.exception.code, 401)
        self.assertEqual(self.turn(server, "drafting", "off")[0], 401)
        self.assertTrue(self.state(server, key="secret")["drafting"])
        self.ask_status(f"http://127.0.0.1:{server.port}")
        dom, _ = Browser().dom(f"http://127.0.0.1:{server.port}/")
        form = re.search(r'<form id="key"[^>]*>', dom)[0]
        self.assertNotIn("hidden", form)
        self.assertNotIn("secret", dom)

    def ask_status(self, url):
        """`aurora status`: the key as a flag or in the environment, once or again and again."""
        command = [BUILD / "aurora", "status", url, "--json"]
        member = lambda text: json.loads(text)["members"][0]
        self.assertIn("silent", member(subprocess.run(command, capture_output=True, text=True).stdout))
        keyed = subprocess.run([*command, "--api-key", "secret"], capture_output=True, text=True).stdout
        self.assertEqual(member(keyed)["draft_version"], 0)
        watching = subprocess.Popen([*command, "--watch", "1"], stdout=subprocess.PIPE, text=True,
                                    env={**os.environ, "AURORA_API_KEY": "secret"})
        lines = [watching.stdout.readline() for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        self.assertEqual(watching.wait(timeout=10), -signal.SIGINT)
        watching.stdout.close()
        self.assertEqual([member(line)["draft_version"] for line in lines], [0, 0, 0])
        wrong = subprocess.run([*command, "--watch", "0"], capture_output=True, text=True)
        self.assertEqual((wrong.returncode, wrong.stderr), (2, "aurora status: --watch is '0'; give a whole number from 1 to 86400\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
