#!/usr/bin/env python3
"""Kills and stops the real processes for real, while requests run, and looks at what survived.

    tests/e2e/faults_test.py BUILD_DIR        AURORA_FAULTS=20 for the count of each kind (default 2)
"""
import collections
import os
import pathlib
import random
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model
from faults_load import Load, steps_taken, surviving_steps

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
COUNT = int(os.environ.get("AURORA_FAULTS", "2"))
MODEL = default_model()
SECONDS_BETWEEN = 5.0  # a trainer starts, resumes and takes steps in it


class Faults(unittest.TestCase):
    def setUp(self):
        self.server = Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", "--gate", "off", "--train-vocab", "1024",
                             "--publish-first-records", "4", "--publish-every-records", "8", "--checkpoint-every", "1",
                             "--train-audit", "/dev/null")
        self.addCleanup(lambda: self.server.stop())
        self.audit = self.server.state / "audit"
        self.restart_with_audit()
        self.load = Load(self.server)
        self.load.start()
        self.addCleanup(self.stop_load)

    def restart_with_audit(self):
        self.server.kill()
        self.server.flags[self.server.flags.index("/dev/null")] = str(self.audit)
        self.server.start()

    def stop_load(self):
        self.load.going = False
        self.load.join(timeout=60)

    def kill_server(self):
        self.load.up = False  # the request in flight may fail, and only that one
        self.server.kill()
        self.server.start()
        self.load.up = True

    def wait_for_trainer(self, before):
        self.server.wait(lambda: self.server.trainer_pid() not in (None, before), 90)

    def kill_trainer(self):
        before = self.server.trainer_pid()
        try:
            os.kill(before, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had died with the last fault and is not back yet
        self.wait_for_trainer(before)

    def check_survivors(self):
        steps = surviving_steps(self.audit)
        seen = collections.Counter(pair for pairs in steps.values() for pair in pairs)
        twice = [pair for pair, times in seen.items() if times > 1]
        self.assertEqual(twice, [], "a (record, pass) is in the surviving weights twice")
        self.assertGreater(len(steps), 0)
        print(f"  {COUNT} faults, {self.load.answered} answered, {len(steps)} surviving steps, {len(seen)} (record, pass)",
              flush=True)

    def repeat(self, fault):
        rng = random.Random(2)
        self.server.wait(lambda: self.audit.exists(), 120)
        for _ in range(COUNT):
            time.sleep(SECONDS_BETWEEN * rng.uniform(0.6, 1.4))
            fault()
        before = steps_taken(self.audit)
        self.server.wait(lambda: steps_taken(self.audit) > before, 120)  # training resumes
        self.assertEqual(self.load.failed_up, [])
        self.check_survivors()

    def test_trainer_killed(self):
        self.repeat(self.kill_trainer)

    def test_server_killed(self):
        self.repeat(self.kill_server)

    def test_both_killed(self):
        def both():
            pid = self.server.trainer_pid()
            self.load.up = False
            self.server.process.kill()
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.server.process.wait()
            self.server.start()
            self.load.up = True
        self.repeat(both)

    def test_trainer_stopped(self):
        """SIGSTOP at a random instant, some of them inside a read: appends go on."""
        def stop():
            self.server.signal_trainer(signal.SIGSTOP)
            written = self.server.metric("traces_written_total")
            try:
                self.server.wait(lambda: self.server.metric("traces_written_total") > written + 1, 60)
            finally:
                self.server.signal_trainer(signal.SIGCONT)
        self.repeat(stop)


if __name__ == "__main__":
    unittest.main(verbosity=2)
