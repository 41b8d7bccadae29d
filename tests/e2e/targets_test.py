#!/usr/bin/env python3
"""Tiny targets of each kind behind the real binaries: each is served, captured and learnt from, and drafts change no answer.

    targets_test.py BUILD
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import target_variants
from aurora_server import Server, default_model

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build").resolve()
OFF = {"X-Aurora-Speculate": "off", "X-Aurora-Capture": "off"}
# Rates for 64 columns; published as soon as there is something.
LEARN = ["--train-vocab", "258", "--train-average", "0", "--train-threads", "1", "--train-nice", "0",
         "--train-lr", "0.003", "--train-lr-fc", "0.003", "--train-lr-head", "0.003",
         "--publish-first-records", "1", "--publish-every-records", "4", "--gate", "off"]
SERVE = ["-t", "1", "-c", "512", "-np", "1", "--draft-arms", "learnt"]
EXPERTS, LEFT_OUT, UNGATED, SCALES = "experts the first 2 are copied", "a draft has no place for ", "the target's has no gate", "become fixed scales"
# architecture (llama-moe: llama with experts): what the trainer says that its first draft lacks.
KINDS = {
    "llama": [], "mistral3": [], "granite": [], "phi3": [], "qwen2": [LEFT_OUT],
    "qwen3": [SCALES], "gemma": [], "gemma2": [SCALES], "gemma3": [SCALES], "glm4": [SCALES], "olmo2": [SCALES],
    "llama-moe": [EXPERTS], "qwen2moe": [EXPERTS, LEFT_OUT], "qwen3moe": [EXPERTS, SCALES], "gpt-oss": [EXPERTS, LEFT_OUT],
    "deepseek2": [EXPERTS, "compressed (MLA)"],
    "stablelm": [LEFT_OUT], "starcoder2": [UNGATED, LEFT_OUT], "gpt2": [UNGATED, LEFT_OUT],
    "falcon": [UNGATED, LEFT_OUT, "reads what attention reads there"],
}


def make_target(folder, kind, *more):
    path = f"{folder}/{kind}.gguf"
    subprocess.run([BUILD / "aurora-make-tiny-target", path, kind, "1", "f16", "512", *more], check=True)
    return path


class Targets(unittest.TestCase):
    def learns(self, model, says=()):
        """A text that is asked for again and again is learnt: two tokens a step, and the same ones as without drafts."""
        body = {"prompt": "salt and bread, ", "n_predict": 32, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        with Server(BUILD, model, *SERVE, *LEARN) as server:
            plain = server.post("/completion", body, OFF, 60)["content"]

            def drafted():
                answer = server.post("/completion", body, {"X-Aurora-Figures": "on"}, 60)
                self.assertEqual(answer["content"], plain)
                return answer["aurora"]["accept_length"] >= 2

            server.wait(drafted, 60)
            self.assertGreater(server.metric("traces_written_total"), 0)
            for sentence in says:
                self.assertIn(sentence, server.log())

    def test_kinds(self):
        with tempfile.TemporaryDirectory() as folder:
            for kind, says in KINDS.items():
                with self.subTest(kind):
                    self.learns(make_target(folder, kind), says)

    def test_in_two_files(self):
        with tempfile.TemporaryDirectory() as folder:
            make_target(folder, "llama", "split")
            second = pathlib.Path(f"{folder}/llama-00002-of-00002.gguf")
            self.learns(second)
            second.unlink()
            for program in (["aurora", "serve"], ["aurora-train"]):
                command = [str(BUILD / program[0]), *program[1:], "-m", f"{folder}/llama-00001-of-00002.gguf", "--state", f"{folder}/state"]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
                self.assertNotEqual(ended.returncode, 0)
                self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
                self.assertIn(f"{second} is missing: the model has 2 parts, put all of them into one folder", ended.stderr)

    def test_what_no_draft_can_be_learnt_for(self):
        """Nothing is begun for it, and its keeper is told that starting again cannot help."""
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(f"{folder}/text.gguf")
            model.write_text("not a model")
            ended = subprocess.run([BUILD / "aurora-train", "-m", model, "--state", f"{folder}/state"], capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 2)
            self.assertEqual(ended.stderr, f"aurora-train: {model} is not a GGUF file\n")
            self.assertFalse(pathlib.Path(f"{folder}/state").exists())


class Variants(unittest.TestCase):
    def test_two_equal_experts_and_two_files(self):
        """Real weights: the text of the whole target, with drafts of repeated text, alone and three at a time."""
        prompts = ["Count from 1 to 30.", "Write: salt, bread, salt, bread, and so on.", "Name three towns in France."]
        with tempfile.TemporaryDirectory() as folder:
            whole = default_model()
            answers = []
            for model in (whole, target_variants.as_experts(whole, folder), target_variants.as_split(whole, folder)):
                with Server(BUILD, model, "-c", "3072", "-np", "3", "--train", "off", "--deterministic", "on") as server:
                    for clients in (1, 3):
                        texts = [answer["choices"][0]["message"]["content"] for answer in server.chat_all(prompts, clients, max_tokens=60)]
                        answers.append(texts)
                    self.assertGreater(server.metric("spec_decode_num_accepted_tokens_total"), 0)
            for other in answers[1:]:
                self.assertEqual(other, answers[0])


if __name__ == "__main__":
    unittest.main()
