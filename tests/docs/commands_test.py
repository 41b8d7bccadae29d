#!/usr/bin/env python3
"""The commands in README.md and docs/: each one that stands in a block is run on the tiny target, in the order of its page; of those
within sentences command and flags must exist.

    tests/docs/commands_test.py BUILD_DIR
"""
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import Server, free_port
from draft_files import versions

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build").resolve()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WAIT = 180  # seconds, beside a busy machine
NOT_RUN = {  # begins so: why
    "make demo": "e2e_demo_smoke runs what it runs, e2e_cluster_demo_smoke the one of many servers",
    "aurora serve -m model.gguf --buffer": "wants three brokers: e2e_cluster_faults has them",
    "aurora train -m model.gguf --buffer": "the same",
    "aurora status --all": "the same",
    "aurora rollouts -m model.gguf --buffer": "the same",
    "aurora train --nproc": "trains until it is ended: cli_rank_launcher_test and ranks_loop_test",
}
LEARN = ["--gate", "off", "--init", "random", "--publish-first-records", "2", "--publish-every-records", "2", "--train-vocab", "256"]
COMMAND = re.compile(r"(?:build/)?aurora(?:-train)? |curl |make ")


def blocks(text):
    """Lines of indented blocks and of fenced ones of shell, a continued line in one."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced and line.strip() in ("```sh", "```bash", "```")
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(page):
    return [re.sub(r"\s+# .*", "", line) for line in blocks(page.read_text()) if COMMAND.match(line)]


def why_not(command):
    return next((why for begin, why in NOT_RUN.items() if command.startswith(begin)), None)


@functools.cache
def help_of(*words):
    done = subprocess.run([BUILD / "aurora", *words, "--help"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else ""


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A server on the tiny target that has learnt a draft, and what pages call by name: model.gguf, draft.gguf, mine.jsonl."""
        folder = tempfile.TemporaryDirectory(prefix="aurora-docs-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / "build").symlink_to(BUILD)
        cls.environment = {**os.environ, "PATH": f"{BUILD}:{os.environ['PATH']}", "XDG_STATE_HOME": str(cls.folder / "states")}
        cls.environment.pop("STATE_DIRECTORY", None)
        subprocess.run([BUILD / "aurora-make-tiny-target", cls.folder / "model.gguf", "llama", "1", "f16"], check=True)
        (cls.folder / "target.gguf").symlink_to("model.gguf")
        lines = [{"id": str(i), "domain": "d", "messages": [{"role": "user", "content": f"Count to {i}."}]} for i in range(3)]
        (cls.folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        cls.state = cls.folder / "state"
        cls.state.mkdir(mode=0o700)
        cls.server = Server(BUILD, cls.folder / "model.gguf", "-c", "1024", "-np", "2", *LEARN, state=cls.state)
        cls.addClassCleanup(cls.server.stop)
        cls.server.wait(lambda: cls.server.complete("learn from this", 40) and len(versions(cls.state / "drafts")) >= 2, WAIT)

    def run_one(self, command):
        command = re.sub(r"[\[\]]", "", command) if "[--" in command else command
        command = re.sub(r"(127\.0\.0\.1:8080|host:port|HOST:8080|HOST:PORT)", f"127.0.0.1:{self.server.port}", command)
        if re.match(r"(build/)?aurora serve ", command):
            return self.serve(command)
        if command.startswith("aurora rollouts "):
            command += " --once"
        if command.startswith("curl "):
            command = command.replace("curl ", "curl --fail-with-body -sS ", 1)
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=WAIT,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def serve(self, command):
        """Until it answers; it must also leave in peace."""
        port = free_port()
        with open(self.folder / "serve.log", "ab") as log:
            process = subprocess.Popen(["bash", "-c", f"exec {command} --port {port} -c 512"], cwd=self.folder, stdout=log, stderr=log,
                                       env={**self.environment, "HOME": str(self.folder)}, stdin=subprocess.DEVNULL)
        asked = Server.__new__(Server)
        asked.host, asked.port, asked.process, asked.log_path = "127.0.0.1", port, process, self.folder / "serve.log"
        try:
            asked.wait(lambda: "ok" in asked.get("/health"), WAIT)
        finally:
            process.terminate()
            self.assertEqual(process.wait(timeout=WAIT), 0)

    def test_blocks_are_run(self):
        ran = 0
        for page in PAGES:
            newest = max(versions(self.state / "drafts"))
            shutil.copy(self.state / f"drafts/draft-{newest:06}.gguf", self.folder / "draft.gguf")
            if page.name != "draft-files.md":  # there it is what export makes
                (self.folder / "DIR").symlink_to(self.state)
            for command in commands(page):
                if why_not(command):
                    continue
                with self.subTest(f"{page.name}: {command}"):
                    self.run_one(command)
                ran += 1
            made = self.folder / "DIR"
            made.unlink() if made.is_symlink() else shutil.rmtree(made, ignore_errors=True)
        self.assertGreater(ran, 8)

    def test_what_is_not_run_is_there(self):
        """A command that leaves the docs leaves the list, too."""
        every = [command for page in PAGES for command in commands(page)]
        for begin in NOT_RUN:
            self.assertTrue(any(command.startswith(begin) for command in every), begin)

    def test_commands_and_flags_within_sentences_exist(self):
        checked = 0
        for page in PAGES:
            named = re.findall(r"`aurora ((?:[^`\n]|\n(?!\n))+)`", page.read_text()) + [
                command.split("aurora ", 1)[1] for command in commands(page) if "aurora " in command[:15]]
            for text in named:
                words = text.split()
                name = []
                while words and re.fullmatch(r"[a-z]+", words[0]) and len(name) < 2 and help_of(*name, words[0]):
                    name.append(words.pop(0))
                with self.subTest(f"{page.name}: aurora {text}"):
                    self.assertTrue(name or words[0].startswith("-"), "there is no such command")
                    for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", text):
                        if flag not in ("--help", "--train-"):
                            self.assertRegex(help_of(*name), rf"(?<![\w-]){flag}(?![\w-])")
                            checked += 1
        self.assertGreater(checked, 30)


if __name__ == "__main__":
    unittest.main(verbosity=2)
