#!/usr/bin/env python3
"""A drop-in llama-server: the same answers with drafts and without, and what it takes, refuses and says.

    tests/e2e/drop_in_test.py BUILD_DIR
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tiny_mmproj
from aurora_server import ROOT, Server, default_model, failed

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
MODEL = default_model()
LANGUAGES = ["Ada", "C", "D", "Go", "Java", "Lua", "Perl", "Python", "Ruby", "Rust", "Scheme", "Swift"]
QUESTIONS = [f"Name three uses of {language}." for language in LANGUAGES]
ONE_SLOT = ["-t", "1", "-np", "1", "--gate", "off", "--draft-depth", "4"]
OFF = {"X-Aurora-Speculate": "off"}


def post(server, path, body, headers=None):
    """The answer; an HTTP error answers with its code in `status`."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}
    if not body.get("stream"):
        return json.loads(text)
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(event) for event in events if event != "[DONE]"]


def without(answer, names=("id", "created", "timings", "aurora")):
    """The answer but for what no two answers have in common."""
    if isinstance(answer, dict):
        return {key: without(value, names) for key, value in answer.items() if key not in names}
    return [without(value, names) for value in answer] if isinstance(answer, list) else answer


def count(server, *names):
    return [server.metric(name) for name in names]


def wait_for_draft(server):
    server.wait(lambda: server.text("Name a use of salt.", max_tokens=8) and server.metric("draft_version") >= 1, 60)


class WithDraft(unittest.TestCase):
    """One trained draft for all; each server starts in its state folder."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.state = pathlib.Path(cls.folder.name)
        learn = ["--publish-first-records", "30", "--train-vocab", "2048"]  # after thirty steps, too
        with Server(BUILD, MODEL, "-c", "4096", *ONE_SLOT, *learn, state=cls.state) as server:
            assert not failed(server.chat_all(3 * QUESTIONS, 1))
            server.wait(lambda: server.newest_draft() >= 1, 400)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def serve(self, *flags):
        return Server(BUILD, MODEL, *ONE_SLOT, "--train", "off", "--deterministic", "on", *flags, state=self.state)

    def same(self, server, path, body):
        """The whole answer but ids and times, with a draft and without."""
        body = {"cache_prompt": False, **body}
        before = server.metric("spec_decode_num_accepted_tokens_total")
        drafted = post(server, path, body)
        accepted = server.metric("spec_decode_num_accepted_tokens_total") - before
        plain = post(server, path, body, OFF)
        self.assertEqual(without(drafted), without(plain))
        return drafted, accepted

    def test_answers(self):
        with self.serve("-c", "2048") as server:
            wait_for_draft(server)
            self.probabilities(server)
            self.stops(server)
            self.grammar_that_ends(server)
            self.backend_sampling(server)
            self.figures(server)

    def probabilities(self, server):
        chat = {"messages": [{"role": "user", "content": QUESTIONS[3]}], "max_tokens": 40, "temperature": 0}
        answer, accepted = self.same(server, "/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 5})
        self.assertGreater(accepted, 4)
        for token in answer["choices"][0]["logprobs"]["content"]:
            self.assertEqual(len(token["top_logprobs"]), 5)
            self.assertIn(token["token"], [top["token"] for top in token["top_logprobs"]])

        text = {"prompt": "The uses of Python are", "n_predict": 40, "seed": 7}
        accepted = 0
        for fields in ({"n_probs": 3, "temperature": 0}, {"n_probs": 3, "temperature": 0.5},
                       {"n_probs": 3, "post_sampling_probs": True, "temperature": 0.5},
                       {"n_probs": 1, "grammar": 'root ::= [a-z ]+', "temperature": 0},
                       {"n_probs": 2, "temperature": 0, "stream": True}):
            with self.subTest(**fields):
                accepted += self.same(server, "/completion", {**text, **fields})[1]
        self.assertGreater(accepted, 10)

    def stops(self, server):
        """In the middle of an accepted chain: no token behind the stop is counted or kept."""
        text = {"prompt": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,", "n_predict": 60, "temperature": 0}
        for stop in ("15", "16", "7", "20,", " 2"):
            with self.subTest(stop):
                answer = self.same(server, "/completion", {**text, "stop": [stop], "return_tokens": True})[0]
                self.assertEqual(answer["stop_type"], "word")

    def grammar_that_ends(self, server):
        """With ignore_eos no token may follow: an error, behind all tokens before it."""
        body = {"prompt": 8 * "left, right, ", "grammar": 'root ::= "left, right, left, right, left"', "temperature": 0,
                "ignore_eos": True, "stream": True}
        events, accepted = self.same(server, "/completion", body)
        self.assertGreater(accepted, 2)
        self.assertEqual("".join(event["content"] for event in events[:-1]), "left, right, left, right, left")
        self.assertIn("grammar", events[-1]["error"]["message"])

    def backend_sampling(self, server):
        body = {"prompt": "Salt is", "n_predict": 12, "temperature": 0}
        asked = post(server, "/completion", {**body, "backend_sampling": True})
        self.assertEqual(asked["content"], post(server, "/completion", body)["content"])
        self.assertFalse(asked["generation_settings"]["backend_sampling"])

    def figures(self, server):
        """X-Aurora-Figures: on: what drafting did, in the answer or its last event, on every path."""
        on = {"X-Aurora-Figures": "on"}
        messages = [{"role": "user", "content": QUESTIONS[9]}]  # not asked yet: no repeated text answers it
        chat = {"messages": messages, "max_tokens": 40, "temperature": 0}
        answer = post(server, "/v1/chat/completions", chat, on)
        self.check_figures(answer["aurora"], answer["usage"]["completion_tokens"])
        self.assertGreater(answer["aurora"]["accepted"], 0)
        self.assertGreater(answer["aurora"]["arms"]["chain"]["drafted"], 0)
        self.assertEqual(answer["aurora"]["draft_version"], server.metric("draft_version"))
        self.assertNotIn("aurora", post(server, "/v1/chat/completions", chat))
        off = post(server, "/v1/chat/completions", chat, {**on, **OFF})["aurora"]
        self.assertEqual((off["accept_length"], off["drafted"], off["accepted_by_step"]), (1, 0, [off["steps"]]))

        for path, body in (("/completion", {"prompt": "1, 2, 3, 4,", "n_predict": 20, "temperature": 0}),
                           ("/v1/completions", {"prompt": "1, 2, 3, 4,", "max_tokens": 20, "temperature": 0}),
                           ("/v1/chat/completions", {**chat, "stream_options": {"include_usage": True}}),
                           ("/v1/messages", chat), ("/v1/responses", {"input": "Salt?", "max_output_tokens": 20, "temperature": 0})):
            with self.subTest(path):
                self.check_figures(post(server, path, body, on)["aurora"])
                events = post(server, path, {**body, "stream": True}, on)
                self.check_figures(events[-1]["aurora"])
                self.assertFalse(any("aurora" in event for event in events[:-1]))
        answer = post(server, "/v1/chat/completions", {**chat, "n": 1, "temperature": 0.7, "seed": 3}, on)
        self.check_figures(answer["aurora"], answer["usage"]["completion_tokens"])

    def check_figures(self, figures, tokens=None):
        steps = figures["accepted_by_step"]
        self.assertEqual(sum(steps), figures["steps"])
        self.assertEqual(sum(accepted * count for accepted, count in enumerate(steps)), figures["accepted"])
        self.assertLessEqual(figures["accepted"], figures["drafted"])
        self.assertEqual(sum(arm["drafted"] for arm in figures["arms"].values()), figures["drafted"])
        self.assertEqual(sum(arm["accepted"] for arm in figures["arms"].values()), figures["accepted"])
        self.assertLessEqual(figures["tokens"], figures["steps"] + figures["accepted"])
        self.assertAlmostEqual(figures["accept_length"], figures["tokens"] / figures["steps"], places=3)
        if tokens is not None:
            self.assertEqual(figures["tokens"], tokens)

    def test_sleep(self):
        """--sleep-idle-seconds: text, drafts and capture come back with the next request; a rollout wakes nobody."""
        with self.serve("-c", "2048", "--sleep-idle-seconds", "2", "--draft-arms", "learnt") as server:
            wait_for_draft(server)
            text = server.text(QUESTIONS[1])
            chain = 'arm_draft_tokens_total{arm="chain"}'
            asleep = lambda: json.loads(server.get("/props"))["is_sleeping"]
            server.wait(asleep, 30)
            drafted, written = count(server, chain, "traces_written_total")
            refused = post(server, "/completion", {"prompt": "Salt", "n_predict": 2}, {"X-Aurora-Rollout-Of": "7"})
            self.assertEqual(refused["status"], 503)
            self.assertTrue(asleep())
            self.assertEqual(server.text(QUESTIONS[1]), text)
            server.wait(lambda: server.text(QUESTIONS[1]) == text and server.metric(chain) > drafted, 60)
            server.wait(lambda: server.metric("traces_written_total") > written, 10)
            self.assertEqual(server.metric("speculator_errors_total"), 0)

    def test_context_that_fills(self):
        with self.serve("-c", "256") as server:
            wait_for_draft(server)
            for question in QUESTIONS[:8]:
                with self.subTest(question):
                    answer = self.same(server, "/completion", {"prompt": question, "n_predict": -1, "temperature": 0,
                                                               "ignore_eos": True})[0]
                    self.assertTrue(answer["truncated"])
                    self.assertEqual(answer["tokens_evaluated"] + answer["tokens_predicted"], 256)

    def test_restored_and_moved_cells(self):
        """Drafting and capture go on for a slot out of a file, and where cached cells were moved."""
        with self.serve("-c", "2048", "--slot-save-path", str(self.state)) as server:
            wait_for_draft(server)
            story = "The town of Arles lies on the river. " * 40  # some 400 tokens
            self.restore(server, [{"role": "user", "content": story + QUESTIONS[0]}], captured_whole=False)
            self.restore(server, [{"role": "user", "content": QUESTIONS[1]}], captured_whole=True)

            self.goes_on(server, [{"role": "user", "content": story + QUESTIONS[2]}])
            moved = [{"role": "user", "content": "Listen. " + story + QUESTIONS[2]}]
            post(server, "/v1/chat/completions", {"messages": moved, "max_tokens": 8, "n_cache_reuse": 16})
            self.goes_on(server, moved)
            self.assertEqual(server.metric("speculator_errors_total"), 0)
            for cause in ("error", "rows_missing"):
                self.assertEqual(server.metric(f'drafting_skipped_total{{cause="{cause}"}}'), 0)

    def restore(self, server, talk, captured_whole):
        talk = talk + [{"role": "assistant", "content": server.text(talk)}, {"role": "user", "content": "Another."}]
        post(server, "/slots/0?action=save", {"filename": "slot.bin"})
        server.text("Something else.")
        post(server, "/slots/0?action=erase", {})
        restored = post(server, "/slots/0?action=restore", {"filename": "slot.bin"})
        self.assertGreater(restored["n_restored"], 10)
        again = self.goes_on(server, talk)
        if not captured_whole:
            self.assertGreater(again["timings"]["cache_n"], 100)  # most of it came from the file
        talk += [{"role": "assistant", "content": again["choices"][0]["message"]["content"]},
                 {"role": "user", "content": "And one more."}]
        self.goes_on(server, talk)

    def goes_on(self, server, talk):
        names = "spec_decode_num_drafts_total", "traces_written_total"
        drafts, written = count(server, *names)
        answer = server.chat(talk, ignore_eos=True)
        self.assertGreater(server.metric(names[0]), drafts)
        server.wait(lambda: server.metric(names[1]) > written, 10)
        return answer


class Grammars(unittest.TestCase):
    def test_what_is_forbidden_is_not_drafted(self):
        """The prompt's text proposes what the grammar forbids, here and there; of the rest all is accepted."""
        turns = 4 * '["left", "right", "left", "right"]'
        schema = {"type": "array", "items": {"enum": ["left", "up"]}, "minItems": 12, "maxItems": 12}
        shape = {"type": "json_schema", "json_schema": {"name": "turns", "schema": schema, "strict": True}}
        asked = [("/completion", {"prompt": 2 * (turns + "\n"), "json_schema": schema, "n_predict": 80}),
                 ("/completion", {"prompt": 8 * "left, right, ", "grammar": 'root ::= (("left" | "up") ", "){12}'}),
                 ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Repeat this list of turns: " + turns}],
                                           "max_tokens": 80, "response_format": shape})]
        names = "spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"
        flags = ["--draft-arms", "ngram", "--train", "off", "--deterministic", "on", "-c", "2048"]
        with Server(BUILD, MODEL, *ONE_SLOT, *flags) as server:
            for i, (path, body) in enumerate(asked):
                with self.subTest(path, body=body):
                    body = {"temperature": 0, "cache_prompt": False, **body}
                    before = count(server, *names)
                    answer = post(server, path, body, {"X-Aurora-Figures": "on", "X-Aurora-Tenant": str(i)})
                    counted = [after - then for after, then in zip(count(server, *names), before)]
                    self.assertEqual(without(answer), without(post(server, path, body, OFF)))
                    self.assertEqual([answer["aurora"]["drafted"], answer["aurora"]["accepted"]], counted)
                    self.assertEqual([answer["timings"]["draft_n"], answer["timings"]["draft_n_accepted"]], counted)
                    self.assertGreater(counted[0], 8)
                    self.assertEqual(*counted)


class Streams(unittest.TestCase):
    def test_several_answers_begin_once(self):
        with Server(BUILD, MODEL, "-t", "1", "-c", "2048", "-np", "2", "--train", "off") as server:
            events = post(server, "/completion", {"prompt": ["Salt is", "Bread is", ""], "n_predict": 3, "stream": True})
            self.assertNotIn(None, events)
            self.assertEqual(sorted(event["index"] for event in events if event["stop"]), [0, 1, 2])


class Pictures(unittest.TestCase):
    def test_pictures(self):
        """Only a request whose prompt or kept prefix holds a picture goes without draft and trace, not every one of the server."""
        with tempfile.TemporaryDirectory() as folder:
            model, encoder = f"{folder}/tiny.gguf", f"{folder}/mmproj.gguf"
            subprocess.run([BUILD / "aurora-make-tiny-target", model, "llama", "1", "f16"], check=True)
            tiny_mmproj.write(encoder)
            with Server(BUILD, model, "-t", "1", "-c", "1024", "-np", "1", "--train", "off", "--gate", "off", "--mmproj", encoder) as server:
                text = [{"role": "user", "content": 12 * "salt and bread, "}]
                seen = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": tiny_mmproj.picture()}},
                                                     {"type": "text", "text": text[0]["content"]}]}]
                later = [*seen, {"role": "assistant", "content": "Salt."}, {"role": "user", "content": "And?"}]
                names = "traces_written_total", 'traces_dropped_total{cause="multimodal"}'
                for talk, counts in ((text, [1, 0]), (seen, [1, 1]), (later, [1, 2]), (text, [2, 2])):
                    drafted = server.metric("spec_decode_num_draft_tokens_total")
                    answer = server.text(talk, max_tokens=24, ignore_eos=True)
                    server.wait(lambda: count(server, *names) == counts, 10)
                    drafts = server.metric("spec_decode_num_draft_tokens_total") > drafted
                    self.assertEqual(drafts, talk is text)
                    plain = server.text(talk, max_tokens=24, ignore_eos=True, headers={**OFF, "X-Aurora-Capture": "off"})
                    self.assertEqual(answer, plain)


class FullWindow(unittest.TestCase):
    def test_cells_outside_the_window_are_kept(self):
        """--swa-full in one pool of cells: neither another slot's tokens nor a slot's file may lose those of a kept prefix."""
        with tempfile.TemporaryDirectory() as folder:
            model = f"{folder}/tiny.gguf"
            subprocess.run([BUILD / "aurora-make-tiny-target", model, "gemma2", "1", "f16"], check=True)
            with Server(BUILD, model, "-t", "1", "-c", "1024", "-np", "2", "--kv-unified", "--swa-full", "--cache-ram", "0",
                        "--train", "off", "--draft-arms", "none", "--slot-save-path", folder) as server:
                def ask(slot, tokens, count=1):
                    return post(server, "/completion", {"prompt": list(tokens), "n_predict": count, "id_slot": slot, "temperature": 0,
                                                        "n_probs": 1, "ignore_eos": True})

                def goes_on(prompt, steps, kept):
                    expected = ask(0, prompt, 4)
                    for slot in 0, 1:
                        post(server, f"/slots/{slot}?action=erase", {})
                    steps()
                    answer = ask(0, prompt, 4)
                    self.assertEqual(answer["completion_probabilities"], expected["completion_probabilities"])
                    self.assertGreater(answer["timings"]["cache_n"], kept)

                def another_slot():
                    ask(1, range(150, 155))
                    ask(0, range(40, 160))
                    ask(1, range(100, 130))  # 25 more cells than it had

                def a_file():
                    ask(0, [40 + at % 150 for at in range(700)])
                    post(server, "/slots/0?action=save", {"filename": "slot.bin"})
                    post(server, "/slots/0?action=erase", {})
                    post(server, "/slots/0?action=restore", {"filename": "slot.bin"})

                goes_on(list(range(40, 100)), another_slot, 50)
                goes_on([40 + at % 150 for at in range(600)], a_file, 300)


class Headers(unittest.TestCase):
    def test_what_is_not_on_or_off_is_refused(self):
        body = {"prompt": "Salt is", "n_predict": 2}
        with Server(BUILD, MODEL, "-t", "1", "-c", "1024", "-np", "2", "--train", "off") as server:
            for name, value in (("X-Aurora-Capture", "false"), ("X-Aurora-Figures", "1"), ("x-aurora-capture", "0"), ("X-Aurora-Speculate", "no"),
                                ("X-Aurora-Expires-In", "1h"), ("X-Aurora-Expires-In", "-5")):
                answer = post(server, "/completion", body, {name: value})
                self.assertEqual(answer["status"], 400, (name, value))
                self.assertIn("X-Aurora-", answer["error"]["message"])
                self.assertIn(f"is '{value}'; give ", answer["error"]["message"])
            for name in "X-Aurora-Captures", "X_Aurora_Capture":
                self.assertIn("give X-Aurora-Capture", post(server, "/completion", body, {name: "off"})["error"]["message"])
            for first, second in (("X-Aurora-Capture", "X-Aurora-Capture"), ("X-Aurora-Capture", "x-aurora-capture")):
                self.twice(server, body, first, second)
            self.assertEqual(server.metric("generated_tokens_total"), 0)
            self.assertEqual(server.metric("traces_written_total"), 0)

            for value in ("Off", "OFF", " off "):
                self.assertIn("content", post(server, "/completion", body, {"X-Aurora-Capture": value}))
            self.assertEqual(server.metric('traces_dropped_total{cause="opt_out"}'), 3)
            post(server, "/completion", body, {"X-Aurora-Capture": "ON", "X-Aurora-Expires-In": "60"})
            server.wait(lambda: server.metric("traces_written_total") == 1, 10)

            self.assertIn("metrics", server.get("/"))
            self.steps_are_tokens(server)
            several = server.chat("Name a colour.", temperature=0.9, n=2, max_tokens=5, ignore_eos=True, headers={"X-Aurora-Figures": "on"})
            self.assertEqual([figures["tokens"] for figures in several["aurora"]], [5, 5])

    def twice(self, server, body, first, second):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/completion")
        data = json.dumps(body).encode()
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(data))), (first, "off"),
                            (second, "on")):
            connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        self.assertEqual(answer.status, 400)
        self.assertIn("came more than once", answer.read().decode())

    def steps_are_tokens(self, server):
        """Without a draft the accept length is 1, whatever is asked."""
        for fields in ({"n": 1, "max_tokens": 1}, {"n": 1, "max_tokens": 9}):
            server.chat("Name a colour.", temperature=0.9, **{"max_tokens": 4, **fields})
            tokens, steps = count(server, "generated_tokens_total", "target_steps_total")
            self.assertEqual(tokens, steps)


class Starts(unittest.TestCase):
    def test_children_and_embeddings_count_one_token_a_step(self):
        with Server(BUILD, MODEL, "-t", "1", "-c", "2048", "-np", "4", "--train", "off") as server:
            for tokens in (1, 7):
                answer = server.chat("Name a colour.", n=4, max_tokens=tokens, temperature=0.9)
                self.assertEqual(len(answer["choices"]), 4)
                generated, steps = count(server, "generated_tokens_total", "target_steps_total")
                self.assertGreaterEqual(generated, 4)
                self.assertEqual(generated, steps)
        with Server(BUILD, MODEL, "-t", "1", "-c", "1024", "--train", "off", "--embeddings", "--pooling", "mean") as server:
            self.assertIn("data", post(server, "/v1/embeddings", {"input": ["salt", "sugar and more"]}))
            self.assertEqual(count(server, "generated_tokens_total", "target_steps_total"), [0, 0])

    def test_drafts_larger_than_a_batch(self):
        """-b below a draft's rows, and below those of all slots together: it serves, and drafts."""
        for slots in ("1", "4"):
            with self.subTest(slots=slots), Server(BUILD, MODEL, "-t", "1", "-c", "2048", "-np", slots, "-b", "16", "--gate", "off",
                                                   "--draft-depth", "16", "--train", "off", "--deterministic", "on") as server:
                question = [{"role": "user", "content": "Repeat ten times: the salt of the sea."}]
                drafted = server.chat_all(int(slots) * [question], int(slots), max_tokens=60)
                self.assertFalse(failed(drafted))
                self.assertGreater(server.metric("spec_decode_num_accepted_tokens_total"), 0)
                plain = server.text(question, max_tokens=60, headers=OFF)
                self.assertEqual({answer["choices"][0]["message"]["content"] for answer in drafted}, {plain})

    def test_an_empty_prompt_holds_no_slot(self):
        with Server(BUILD, MODEL, "-t", "1", "-c", "1024", "-np", "2", "--train", "off") as server:
            for body in ({"prompt": "", "n": 2}, {"prompt": "", "n": 2, "stream": True}):
                answers = post(server, "/completion", {**body, "n_predict": 8})
                self.assertEqual([answer["content"] for answer in answers], ["", ""])
            self.assertEqual(server.metric("requests_processing", "llamacpp"), 0)

    def test_a_waiting_task_that_takes_no_slot_leaves_its_turn(self):
        """One slot is in use and tasks wait for it: those behind one that needs no slot, or is refused, must be served too."""
        wrong_grammar = ("/completion", {"prompt": "Salt", "n_predict": 2, "grammar": "root ::= missing"})
        erase = ("/slots/0?action=erase", {})
        with tempfile.TemporaryDirectory() as folder, \
             Server(BUILD, MODEL, "-t", "1", "-c", "1024", "-np", "1", "--train", "off", "--slot-save-path", folder) as server, \
             concurrent.futures.ThreadPoolExecutor(4) as pool:
            waiting = lambda: server.metric("requests_deferred", "llamacpp")
            for path, body in (wrong_grammar, erase):
                with self.subTest(path):
                    long = pool.submit(server.complete, "Salt", 300)
                    server.wait(lambda: server.metric("requests_processing", "llamacpp") == 1, 10)
                    first = pool.submit(post, server, path, body)
                    server.wait(lambda: waiting() == 1, 10)
                    second = pool.submit(server.complete, "Sugar", 4)
                    server.wait(lambda: waiting() == 2, 10)
                    self.assertEqual(long.result(60)["tokens_predicted"], 300)
                    try:
                        self.assertEqual(second.result(20)["tokens_predicted"], 4)
                    finally:
                        server.complete("One more takes the next one out of the queue.", 1)
                    self.assertEqual(first.result(20).get("status"), 400 if body else None)

    def test_stock_kernels(self):
        """On a CPU with AMX these are tiles: their set-up must survive the compiler."""
        with Server(BUILD, MODEL, "-t", "1", "-c", "512", "--train", "off", "--kernels", "off") as server:
            self.assertTrue(server.text("Salt?", max_tokens=4))

    def test_a_key_behind_a_prefix(self):
        """What needs no key at / needs none behind --api-prefix."""
        flags = ["-t", "1", "-c", "512", "--train", "off", "--metrics", "--api-prefix", "/served", "--api-key", "secret"]

        class PrefixServer(Server):
            def get(self, path):
                return super().get("/served" + path)

        with PrefixServer(BUILD, MODEL, *flags) as server:
            for path, status in (("/served/", 200), ("/served/aurora", 200), ("/served/health", 200), ("/served/aurora/state", 401),
                                 ("/served/completion", 401), ("/served", 401)):
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
                    connection.request("GET", path)
                    self.assertEqual(connection.getresponse().status, status, path)
            self.assertNotIn("specified multiple times", server.log())

    def test_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                           check=True, capture_output=True)
            context = ssl.create_default_context(cafile=certificate)

            class TlsServer(Server):
                def get(self, path):
                    try:
                        with urllib.request.urlopen(f"https://127.0.0.1:{self.port}{path}", timeout=30, context=context) as a:
                            return a.read().decode()
                    except OSError:
                        return ""

            with TlsServer(BUILD, MODEL, "-t", "1", "-c", "512", "--train", "off", "--ssl-key-file", key,
                           "--ssl-cert-file", certificate) as server:
                self.assertIn("aurora:target_steps_total", server.get("/metrics"))

    def test_nowhere_to_write(self):
        environment = {key: value for key, value in os.environ.items() if key not in ("XDG_STATE_HOME", "STATE_DIRECTORY")}
        for home in (None, "", "/proc/none"):
            env = dict(environment, HOME=home) if home is not None else {k: v for k, v in environment.items() if k != "HOME"}
            with self.subTest(home=home):
                flags = ["-m", str(MODEL), "-c", "512", "-t", "1"]
                ended = subprocess.run([BUILD / "aurora", "serve", *flags], env=env, capture_output=True, text=True, timeout=60)
                self.assertEqual(ended.returncode, 2)
                if not home:
                    self.assertIn("give --state DIR", ended.stderr)
        wrap = lambda argv: ["env", "-u", "HOME", "-u", "XDG_STATE_HOME", argv[0], argv[1], *argv[4:]]  # without --state
        with Server(BUILD, MODEL, "-t", "1", "-c", "512", "--capture", "off", "--train", "off", wrap=wrap) as server:
            self.assertTrue(server.text("Salt?", max_tokens=4))


if __name__ == "__main__":
    unittest.main(verbosity=2)
