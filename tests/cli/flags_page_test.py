#!/usr/bin/env python3
"""The list of llama-server's flags against the pinned server's --help, docs/flags.md and what `aurora serve` does.

    tests/cli/flags_page_test.py BUILD_DIR LLAMA_SERVER
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD, LLAMA_SERVER = (pathlib.Path(path) for path in (sys.argv.pop(1), sys.argv.pop(1)))
NAME = re.compile(r"\s*(--?[A-Za-z0-9][\w.-]*)(,?)")


def flags_in(text):
    """[(names, variable or None)] of each entry of a --help: its names stand first in a line."""
    entries = []
    for line in text.splitlines():
        names, rest = [], line if re.match(r"--?[A-Za-z]", line) else ""
        while found := NAME.match(rest):
            names.append(found[1])
            rest = rest[found.end():] if found[2] else ""
        if names:
            entries.append((names, None))
        elif entries and (variable := re.search(r"\(env: (\w+)\)", line)):
            entries[-1] = (entries[-1][0], variable[1])
    return entries


def run(*argv, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
    return subprocess.run([str(part) for part in argv], env={**clean, **environment}, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)


class Flags(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.entries = flags_in(run(LLAMA_SERVER, "--help").stdout)
        named = [name for names, variable in cls.entries for name in [*names, *([variable] if variable else [])]]
        cls.use = dict(line.split() for line in run(BUILD / "aurora-flags-page", *named).stdout.splitlines())

    def test_every_flag_and_variable_is_in_the_list(self):
        self.assertGreater(len(self.entries), 200)
        self.assertEqual([name for name, use in self.use.items() if use == "unknown"], [])

    def test_the_list_names_nothing_else(self):
        listed = re.findall(r"`([^`*\s]+)`", (ROOT / "docs/flags.md").read_text().split("## ", 1)[1])
        removed = {"--eagle3", "--mtp"}  # spellings of other versions, refused all the same
        self.assertEqual([name for name in listed if name not in self.use and name not in removed], [])

    def test_a_variable_does_what_its_flag_does(self):
        for names, variable in self.entries:
            if variable:
                said = [name for name in names if not name.startswith(("--no-", "-no-")) and name != "--draft-p-min"]
                uses = {self.use[name] for name in said or names}
                with self.subTest(variable):
                    self.assertEqual(uses, {self.use[variable]})

    def test_what_is_refused(self):
        """By the program: with a sentence, before it looks for the model."""
        for names, variable in self.entries:
            for name in names:
                if self.use[name] == "refused":
                    with self.subTest(name):
                        done = run(BUILD / "aurora", "serve", "-m", "/none.gguf", name, "1")
                        self.assertEqual(done.returncode, 2)
                        self.assertIn("does not go with aurora serve: ", done.stderr)
            if variable and self.use[variable] != "prints":
                with self.subTest(variable):
                    done = run(BUILD / "aurora", "serve", "-m", "/none.gguf", **{variable: "1"})
                    self.assertEqual("does not go with" in done.stderr, self.use[variable] == "refused", done.stderr)
                    if variable.startswith("LLAMA_"):
                        self.assertEqual(f"{variable} changes nothing: " in done.stderr, self.use[variable] == "idle", done.stderr)

    def test_what_changes_nothing_says_so(self):
        for names, _ in self.entries:
            for name in names:
                done = run(BUILD / "aurora", "serve", "-m", "/none.gguf", name) if self.use[name] == "idle" else None
                if done:
                    self.assertIn(f"{name} changes nothing: ", done.stderr)

    def test_what_prints_needs_no_model(self):
        for name, says in (("--version", "version:"), ("--list-devices", "devices"), ("--completion-bash", "complete"),
                           ("--help", "--draft-depth"), ("--usage", "--draft-depth")):
            with self.subTest(name):
                done = run(BUILD / "aurora", "serve", name)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(says, done.stdout + done.stderr)

    def test_page(self):
        made = run(BUILD / "aurora-flags-page").stdout
        self.assertEqual((ROOT / "docs/flags.md").read_text(), made, "write it anew: aurora-flags-page > docs/flags.md")


if __name__ == "__main__":
    unittest.main(verbosity=2)
