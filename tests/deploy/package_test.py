#!/usr/bin/env python3
"""The Debian package: built, installed, run, removed; the systemd unit's exposure.

    tests/deploy/package_test.py BUILD_DIR        installing needs root: without it the package is unpacked and run from there
"""
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
from aurora_server import Server, default_model

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build").resolve()
EXPOSURE_MAX = 3.0


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="aurora-deb-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        made = run("cpack", "-G", "DEB", "-B", cls.folder / "made", cwd=BUILD)
        assert made.returncode == 0, made.stdout + made.stderr
        [cls.deb] = (cls.folder / "made").glob("aurora-serve_*.deb")

    def installed(self):
        """Where the programs lie: the system's own places, or a folder where the test may not install."""
        if os.geteuid() == 0 and not run("dpkg-query", "-W", "-f", "${Status}", "aurora-serve").stdout.startswith("install ok"):
            done = run("dpkg", "-i", self.deb)
            self.addCleanup(lambda: run("dpkg", "-P", "aurora-serve"))
            self.assertEqual(done.returncode, 0, done.stderr)
            return pathlib.Path("/")
        run("dpkg-deb", "-x", self.deb, self.folder / "root", check=True)
        return self.folder / "root"

    def test_it_names_what_it_needs(self):
        depends = run("dpkg-deb", "-f", self.deb, "Depends").stdout
        for package in ("libtorch1.13", "liblmdb0", "libssl3", "libopenblas0-pthread", "libc6"):
            self.assertIn(package, depends)
        self.assertLess(self.deb.stat().st_size, 60 << 20)

    def test_it_is_installed_serves_and_is_removed(self):
        root = self.installed()
        for name in ("usr/bin/aurora", "usr/bin/aurora-train", "lib/systemd/system/aurora.service",
                     "usr/share/doc/aurora-serve/README.md", "usr/share/aurora/alerts.yml", "usr/share/man/man1/aurora.1",
                     "usr/share/bash-completion/completions/aurora"):
            found = root / name if (root / name).exists() else root / "usr" / name
            self.assertTrue(found.exists(), name)
        self.assertIn("usage", run(root / "usr/bin/aurora", "--help").stdout.lower())
        with Server(root / "usr/bin", default_model(), "-c", "512", "--draft-arms", "none") as server:
            self.assertTrue(server.text("Hello", max_tokens=4))
            server.wait(lambda: server.trainer_pid() is not None, 30)
            program = os.readlink(f"/proc/{server.trainer_pid()}/exe")
            self.assertEqual(program, str((root / "usr/bin/aurora-train").resolve()))
        if root == pathlib.Path("/"):
            self.assertEqual(run("dpkg", "-P", "aurora-serve").returncode, 0)
            self.assertFalse(pathlib.Path("/usr/bin/aurora").exists())
            self.assertFalse(pathlib.Path("/usr/share/aurora").exists())

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd here")
    def test_the_unit_is_closed(self):
        unit = ROOT / "deploy/systemd/aurora.service"
        said = run("systemd-analyze", "security", "--offline=true", unit)
        exposure = float(re.search(r"exposure level for \S+: ([0-9.]+)", said.stdout)[1])
        self.assertLessEqual(exposure, EXPOSURE_MAX)


if __name__ == "__main__":
    unittest.main(verbosity=2)
