#!/usr/bin/env python3
"""The man page and the completion, which the build makes from the tables that parse: sound, and complete.

    tests/cli/pages_test.py BUILD_DIR
"""
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import unittest

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
COMMANDS = ("serve", "train", "rollouts", "replay", "status", "drafts list", "drafts show", "drafts pin", "drafts unpin",
            "drafts rollback", "drafts rm", "drafts export", "drafts import", "traces stats", "bench verify", "bench learn",
            "bench flywheel")
FLAG = re.compile(r"^  (--?[a-zA-Z][\w-]*(?:, --[\w-]+)?)", re.M)


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def flags_of(command):
    """As --help has them; serve prints llama-server's behind its own."""
    text = run(BUILD / "aurora", *command.split(), "--help").stdout.split("Flags of llama-server", 1)[0]
    return [name for names in FLAG.findall(text) for name in names.split(", ")]


def completed(*words):
    """What the completion offers for the last of the words."""
    script = (f"source {shlex.quote(str(BUILD / 'aurora.bash'))}; COMP_WORDS=({' '.join(map(shlex.quote, words))});"
              f" COMP_CWORD={len(words) - 1}; _aurora; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = run("bash", "-euc", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


class Pages(unittest.TestCase):
    def test_help_is_one_screen_and_names_every_command(self):
        text = run(BUILD / "aurora", "--help").stdout
        self.assertLess(len(text.splitlines()), 24)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        for command in COMMANDS:
            self.assertIn(f"\n  {command.split()[0]} ", text)

    @unittest.skipUnless(shutil.which("mandoc"), "no mandoc here; scripts/setup.sh mandoc")
    def test_the_man_page_is_sound(self):
        said = run("mandoc", "-Tlint", "-W", "warning", BUILD / "aurora.1").stdout.splitlines()
        # A date would make every build another page.
        self.assertEqual([line for line in said if "missing date" not in line], [])

    def test_the_man_page_has_every_flag(self):
        page = (BUILD / "aurora.1").read_text().replace("\\-", "-").replace("\\fB", " ").replace("\\fR", " ")
        for command in COMMANDS:
            part = page.split(f'.SH "aurora {command}"\n', 1)[1].split("\n.SH ", 1)[0]
            flags = flags_of(command)
            self.assertGreater(len(flags), 2, command)
            for flag in flags:
                self.assertRegex(part, rf"(?<![\w-]){re.escape(flag)}(?![\w-])", f"{command} {flag}")

    def test_the_completion_is_sound_and_completes(self):
        checked = run("bash", "-n", BUILD / "aurora.bash")
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        self.assertEqual(completed("aurora", "dr"), ["drafts"])
        self.assertEqual(completed("aurora", "drafts", "r"), ["rollback", "rm"])
        self.assertEqual(completed("aurora", "serve", "--draft-ar"), ["--draft-arms"])
        self.assertEqual(completed("aurora", "serve", "--draft-arms", ""), ["all", "learnt", "ngram", "none"])
        self.assertEqual(completed("aurora", "drafts", "export", "--format", "g"), ["gguf"])
        self.assertEqual(completed("aurora", "drafts", "list", "-m", "mod"), [], "files: bash's own")
        for command in COMMANDS:
            self.assertEqual(sorted(completed("aurora", *command.split(), "-")), sorted(flags_of(command)), command)


if __name__ == "__main__":
    unittest.main(verbosity=2)
