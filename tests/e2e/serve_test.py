#!/usr/bin/env python3
"""The real binaries over real HTTP: bad input, capture and opt-out, swaps, prompt cache, bad draft files, full KV pool.

    tests/e2e/serve_test.py BUILD_DIR
"""
import hashlib
import json
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
import urllib.error

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model, failed

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
MODEL = default_model()
LANGUAGES = ["Ada", "C", "D", "Go", "Java", "Lua", "Perl", "Python", "Ruby", "Rust", "Scheme", "Swift"]
QUESTIONS = [f"Name three uses of {language}." for language in LANGUAGES]
QUICK = ["--publish-first-records", "4", "--publish-every-records", "8", "--train-vocab", "2048"]


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

    def refused_architecture(self, sentence, architecture, *flags):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            key = b"general.architecture"
            file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key +
                       struct.pack("<IQ", 8, len(architecture)) + architecture)
            file.flush()
            self.refused(sentence, "-m", file.name, *flags)

    def test_target_without_layer_outputs(self):
        for architecture in (b"mamba2-of-the-future", b"gemma3n", b"llada", b"t5"):
            self.refused_architecture("has no layer outputs", architecture)

    def test_value_out_of_range(self):
        self.refused("--draft-depth is '99'", "-m", MODEL, "--draft-depth", "99")

    def test_flag_that_the_flywheel_cannot_serve(self):
        self.refused("--cache-reuse does not go with aurora serve", "-m", MODEL, "--cache-reuse", "64")

    def test_deterministic_refuses_what_it_cannot_promise(self):
        for sentence, *flags in (("stock's kernels", "--kernels", "off"), ("flash kernel", "-fa", "off"),
                                 ("a cache of type q8_0", "-ctk", "q8_0")):
            self.refused(sentence, "-m", MODEL, "--deterministic", "on", *flags)
        self.refused_architecture("the architecture 'qwen3' yet", b"qwen3", "--deterministic", "on")

    def test_unknown_flag(self):
        self.assertNotEqual(serve("-m", MODEL, "--no-such-flag").returncode, 0)

    def test_port_in_use(self):
        with socket.socket() as holder, tempfile.TemporaryDirectory() as state:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = str(holder.getsockname()[1])
            ended = serve("-m", MODEL, "--port", port, "--state", state, "--train", "off")
            self.assertNotEqual(ended.returncode, 0)

    def test_foreign_trace_file_is_named_and_kept_and_serving_goes_on(self):
        with tempfile.TemporaryDirectory() as state:
            foreign = pathlib.Path(state) / "traces" / "traces"
            foreign.parent.mkdir(mode=0o700)
            foreign.write_bytes(b"someone else's notes\n" * 1000)
            with Server(BUILD, MODEL, "-t", "1", "-c", "2048", "--train", "off", state=state) as server:
                self.assertIn(str(foreign), server.log())
                self.assertEqual(server.metric("traces_set_aside_total"), 1)
                server.chat("Hello", max_tokens=4)
                server.wait(lambda: server.metric("traces_written_total") == 1, 30)
            kept = pathlib.Path(state) / "traces.bad" / "traces"
            self.assertTrue(kept.read_bytes().startswith(b"someone else's notes"))


class Serving(unittest.TestCase):
    def all_answered(self, server, questions, clients=2, **options):
        answers = server.chat_all(questions, clients, **options)
        self.assertEqual(failed(answers), [])
        return answers

    def learn_first_draft(self, server):
        self.all_answered(server, QUESTIONS)
        server.wait(lambda: server.newest_draft() >= 1, 120)
        server.wait(lambda: server.text("Name a use of salt.") and server.metric("draft_version") >= 1, 60)

    def no_errors(self, server):
        self.assertEqual(server.metric("speculator_errors_total"), 0)
        for cause in ("error", "rows_missing"):
            self.assertEqual(server.metric(f'drafting_skipped_total{{cause="{cause}"}}'), 0)

    def test_flywheel(self):
        with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", "--gate", "off", *QUICK) as server:
            # Opted out: nothing is written.
            server.chat("tea", headers={"X-Aurora-Capture": "off"})
            self.assertEqual(server.metric('traces_dropped_total{cause="opt_out"}'), 1)
            self.assertEqual(server.metric("traces_written_total"), 0)

            # Served, learned from, swapped in.
            self.learn_first_draft(server)
            self.all_answered(server, QUESTIONS)
            self.assertGreater(server.metric("spec_decode_num_drafts_total"), 0)
            self.assertGreater(server.metric("generated_tokens_total"), server.metric("target_steps_total"))
            self.assertEqual(server.metric("trainer_alive"), 1)
            self.no_errors(server)

            # A killed trainer costs no request and comes back.
            first = server.trainer_pid()
            server.signal_trainer()
            self.all_answered(server, QUESTIONS)
            server.wait(lambda: server.trainer_pid() != first, 60)

            # Several answers of one prompt, and a longer talk whose prefix comes from the prompt cache.
            choices = server.chat("Name a colour.", n=2, max_tokens=12, temperature=0.8)["choices"]
            self.assertEqual(len(choices), 2)
            talk = [{"role": "user", "content": "Name a tree."}]
            for _ in range(3):
                talk += [{"role": "assistant", "content": server.text(talk)}, {"role": "user", "content": "Another."}]
            written = server.metric("traces_written_total")
            again = server.chat(talk)
            self.assertGreater(again["timings"]["cache_n"], 0)
            server.wait(lambda: server.metric("traces_written_total") > written, 10)
            self.assertEqual(server.metric('traces_dropped_total{cause="no_rows"}'), 0)

            # A stop string in the middle of an accepted chain, an aborted stream: both leave the server as it was.
            server.chat("Count from one to ten in digits.", stop=["5"], max_tokens=60)
            with self.assertRaises(OSError):
                server.chat("Tell a long story.", max_tokens=400, timeout=0.3)
            self.all_answered(server, QUESTIONS[:4])
            self.no_errors(server)
            self.bad_drafts(server)

    def bad_drafts(self, server):
        """Truncated, bit-flipped, NaN, wrong vocabulary, wrong model: each refused by name, no token served by it."""
        server.signal_trainer(19)  # SIGSTOP: no version of its own meanwhile
        version = server.newest_draft()
        folder = server.state / "drafts"
        data = (folder / f"draft-{version:06d}.gguf").read_bytes()
        manifest = json.loads((folder / f"draft-{version:06d}.json").read_text())
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 8
        width = data.index(b"eagle3.embedding_length") + len(b"eagle3.embedding_length") + 4
        names = b"tokenizer.ggml.tokens"
        text = data.index(names) + len(names) + 4 + 4 + 8 + 8 + 1  # inside the first token's text
        cases = {
            "truncated": (data[: len(data) // 2], False),
            "bit flip": (bytes(flipped), False),
            "not finite": (data[:-4096] + b"\xff" * 4096, True),
            "other vocabulary": (data[:text] + b"~" + data[text + 1:], True),
            "other model": (data[:width] + struct.pack("<I", 640) + data[width + 4:], True),
        }
        for number, (name, (bad, signed)) in enumerate(cases.items()):
            with self.subTest(name):
                new = version + 100 + number
                (folder / f"draft-{new:06d}.gguf").write_bytes(bad)
                manifest.update(version=new)
                if signed:  # a manifest that agrees with the bytes: the content itself must be refused
                    manifest.update(bytes=len(bad), sha256=hashlib.sha256(bad).hexdigest())
                (folder / f"draft-{new:06d}.json").write_text(json.dumps(manifest))
                server.wait(lambda: f"draft {new} refused" in server.log(), 30)
                self.all_answered(server, QUESTIONS[:2])
                self.assertLessEqual(server.metric("draft_version"), version)
                verdict = folder / f"draft-{new:06d}.verdict.json"
                server.wait(verdict.exists, 30)  # the loader writes it after the log line, in its next round
                self.assertIn('"refused"', verdict.read_text())

    def test_kv_pool_that_fills(self):
        """Four slots in one pool that their texts overflow: drafts are left out, no request fails."""
        with Server(BUILD, MODEL, "-t", "1", "-np", "4", "-c", "1024", "--kv-unified", "--gate", "off", *QUICK) as server:
            self.learn_first_draft(server)
            essays = [f"Write a long essay about {language}." for language in LANGUAGES]
            answers = self.all_answered(server, essays, clients=4, max_tokens=190)
            self.assertEqual(len(answers), len(essays))
            self.assertEqual(server.metric("speculator_errors_total"), 0)

    def test_a_draft_that_does_not_pay_drafts_now_and_then(self):
        """A young draft on stock kernels, where every row of a verify step costs like a step of its own."""
        with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", "--kernels", "off", "--draft-arms", "learnt",
                    *QUICK) as server:
            self.all_answered(server, QUESTIONS)
            server.wait(lambda: server.newest_draft() >= 1, 120)
            server.signal_trainer(signal.SIGSTOP)  # it would go on and learn these questions by heart
            server.wait_for_draft(60)
            for _ in range(2):
                drafts, steps = server.metric("spec_decode_num_drafts_total"), server.metric("target_steps_total")
                self.all_answered(server, QUESTIONS)
                drafts = server.metric("spec_decode_num_drafts_total") - drafts
                steps = server.metric("target_steps_total") - steps
            self.assertLess(drafts, 0.3 * steps)
            server.signal_trainer(signal.SIGCONT)

    def test_capture_rate_records_a_share(self):
        asked = 40
        with Server(BUILD, MODEL, "-t", "1", "-np", "4", "-c", "4096", "--train", "off", "--capture-rate", "0.5") as server:
            self.assertFalse(failed(server.chat_all(["Hello"] * asked, 4, max_tokens=2)))
            left_out = 'traces_dropped_total{cause="not_sampled"}'
            server.wait(lambda: server.metric("traces_written_total") + server.metric(left_out) == asked, 30)
            self.assertGreater(server.metric("traces_written_total"), 4)  # either fails once in 10 million runs
            self.assertGreater(server.metric(left_out), 4)

    def test_a_request_bounds_its_drafts(self):
        with Server(BUILD, MODEL, "-t", "1", "-np", "1", "-c", "4096", "--train", "off", "--capture", "off", "--gate", "off") as server:
            text = "red green blue white black grey pink brown " * 8
            for most, said in ((0, {"speculative": {"n_max": 0}}), (2, {"speculative": {"n_max": 2}}), (2, {"speculative.n_max": 2}),
                               (16, {"speculative": {"n_max": None}})):
                names = ("spec_decode_num_draft_tokens_total", "spec_decode_num_drafts_total")
                before = [server.metric(name) for name in names]
                server.complete(text, 60, **said)
                tokens, drafts = (server.metric(name) - old for name, old in zip(names, before))
                self.assertLessEqual(tokens, most * drafts)
                self.assertEqual(tokens > 0, most > 0)
            for wrong in (-1, "two", 1.5):
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    server.chat("Hello", speculative={"n_max": wrong})
                self.assertEqual(refused.exception.code, 400)
                self.assertIn("speculative.n_max", refused.exception.read().decode())

    def test_read_only_state_costs_no_request(self):
        with tempfile.TemporaryDirectory() as state:
            (pathlib.Path(state) / "traces").write_text("a file where the folder should be")
            with Server(BUILD, MODEL, "-t", "1", "-c", "2048", "--train", "off", state=state) as server:
                self.all_answered(server, QUESTIONS[:3])
                self.assertIn("without capture", server.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
