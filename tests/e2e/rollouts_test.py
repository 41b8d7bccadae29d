#!/usr/bin/env python3
"""Rollouts with the real binaries: made while idle, ended by a request, learnt from, and no user's.

    tests/e2e/rollouts_test.py BUILD_DIR
"""
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
MODEL = default_model()
QUESTIONS = [f"Name two uses of {thing}." for thing in ("salt", "wool", "iron", "paper", "glass", "tea")]
KEY = "a-key-of-this-test"


class KeyedServer(Server):
    headers = {"Authorization": f"Bearer {KEY}"}


def rolled(server):
    return server.metric("rollout_tokens_total")


class Rollouts(unittest.TestCase):
    def test_idle_time_becomes_text_and_requests_come_first(self):
        flags = ["-t", "1", "-np", "3", "-c", "6144", "--api-key", KEY, "--rollouts", "2", "--train", "off",
                 "--draft-arms", "none"]
        with KeyedServer(BUILD, MODEL, *flags) as server:
            for question in QUESTIONS:
                server.chat(question, max_tokens=12)
            generated, steps = server.metric("generated_tokens_total"), server.metric("target_steps_total")
            before = rolled(server)
            server.wait(lambda: rolled(server) > before + 20, 60)

            # A request ends those in flight; while it runs none is made.
            server.chat("Name two uses of bread.", max_tokens=100, ignore_eos=True)
            server.wait(lambda: "gave way to a request" in server.log(), 10)

            # A worker that is killed comes again and goes on.
            worker = int(server.log().split("rollouts started, pid ")[-1].split()[0])
            starts = server.log().count("rollouts started, pid")
            os.kill(worker, signal.SIGKILL)
            server.wait(lambda: server.log().count("rollouts started, pid") > starts, 30)
            before = rolled(server)
            server.wait(lambda: rolled(server) > before + 20, 60)

            # None of it counts as what users were served.
            self.assertEqual(server.metric("generated_tokens_total"), generated + 100)
            self.assertEqual(server.metric("target_steps_total"), steps + 100)
            self.assertEqual(server.metric("speculator_errors_total"), 0)
            server.wait(lambda: server.metric("traces_written_total") >= len(QUESTIONS) + 4, 120)

            # Each prompt has its two: from now on the server is left in peace.
            def in_peace():
                tokens = rolled(server)
                time.sleep(4)
                return rolled(server) == tokens
            server.wait(in_peace, 240)

    def test_one_slot_is_enough_and_a_conversation_is_kept(self):
        with Server(BUILD, MODEL, "-t", "1", "-np", "1", "-c", "2048", "--rollouts", "3", "--train", "off") as server:
            talk = [{"role": "user", "content": "Tell me about rivers, bridges and the people who built them. " * 6}]
            first = server.chat(talk, max_tokens=40)
            before = rolled(server)
            server.wait(lambda: rolled(server) > before + 20, 60)
            talk += [first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
            second = server.chat(talk, max_tokens=8)
            held = first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]
            self.assertGreaterEqual(second["timings"]["cache_n"], held - 4)  # of the first turn all but its end

    def test_the_draft_learns_from_them(self):
        quick = ["--publish-first-records", "4", "--publish-every-records", "6", "--train-vocab", "2048", "--gate", "off"]
        with Server(BUILD, MODEL, "-t", "1", "-np", "3", "-c", "6144", "--rollouts", "4", *quick) as server:
            for question in QUESTIONS:
                server.chat(question, max_tokens=16)
            drafts = server.metric("spec_decode_num_drafts_total")
            server.wait(lambda: server.newest_draft() >= 3, 180)  # of six requests there would be one
            self.assertEqual(server.metric("spec_decode_num_drafts_total"), drafts)  # nothing was drafted for them
            self.assertEqual(server.metric("rollbacks_total"), 0)

    def test_once_leaves_when_every_prompt_has_its_own(self):
        with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", "--train", "off") as server:
            for question in QUESTIONS[:3]:
                server.chat(question, max_tokens=4)
            server.wait(lambda: server.metric("traces_written_total") == 3, 30)
            command = [str(BUILD / "aurora"), "rollouts", "-m", MODEL, "--state", str(server.state), "--url",
                       f"http://127.0.0.1:{server.port}", "--each", "2", "--max-tokens", "8", "--once"]
            for _ in range(2):  # the second one finds them all made
                subprocess.run(command, check=True, timeout=120)
                server.wait(lambda: server.metric("traces_written_total") == 9, 30)

    def test_bad_flags_get_a_sentence(self):
        for sentence, *flags in (("needs --capture on", "--capture", "off"), ("plain HTTP", "--ssl-key-file", "k"),
                                 ("run `aurora rollouts", "--buffer", "nats://127.0.0.1:1"),
                                 ("leave out --cache-ram 0", "--cache-ram", "0")):
            ended = subprocess.run([str(BUILD / "aurora"), "serve", "-m", MODEL, "--rollouts", "2", *flags],
                                   capture_output=True, text=True, timeout=60)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(sentence, ended.stderr)

    def test_a_wrong_key_ends_it_with_a_sentence(self):
        with KeyedServer(BUILD, MODEL, "-t", "1", "-np", "1", "-c", "2048", "--api-key", KEY, "--train", "off") as server:
            ended = subprocess.run([str(BUILD / "aurora"), "rollouts", "-m", MODEL, "--state", str(server.state), "--url",
                                    f"http://127.0.0.1:{server.port}", "--api-key", "another"],
                                   capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 2)
            self.assertIn("wants its API key", ended.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
