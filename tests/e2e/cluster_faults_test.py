#!/usr/bin/env python3
"""Kills, cuts off and fills up parts of a cluster while its servers answer, and looks at what was lost.

    tests/e2e/cluster_faults_test.py BUILD_DIR     AURORA_FAULTS=20 for the count of each kind (default 1),
                                                   AURORA_PARTITION_SECONDS=60 for the length of a partition (default 8)
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_cluster import Cluster, Namespaces, wait_until
from aurora_server import ROOT, default_model
from faults_load import Load, steps_taken, surviving_steps

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
COUNT = int(os.environ.get("AURORA_FAULTS", "1"))
PARTITION_SECONDS = float(os.environ.get("AURORA_PARTITION_SECONDS", "8"))
SECONDS_BETWEEN = 4.0
MODEL = default_model()
SERVE = ["-t", "1", "-np", "1", "-c", "2048", "--gate", "off"]
TRAIN = ["--train-threads", "1", "--gate", "off", "--train-vocab", "1024", "--publish-first-records", "4",
         "--publish-every-records", "8", "--checkpoint-every", "1"]


class ClusterFaults(unittest.TestCase):
    def start(self, ranks=1, stores=None):
        """stores: folder for a broker's name, where it is not below the cluster's own."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="aurora-cluster-"))
        self.addCleanup(lambda: shutil.rmtree(self.folder, ignore_errors=True))
        self.audit = self.folder / "audit"
        self.cluster = Cluster(BUILD, MODEL, self.folder, ranks=ranks, serve_flags=SERVE,
                               train_flags=[*TRAIN, "--train-audit", str(self.audit)], stores=stores,
                               url_options="stagger=2s&bytes_max=16GiB&in_flight=1GiB")  # none is lost for want of room
        self.addCleanup(self.cluster.close)
        self.loads = [Load(server) for server in self.cluster.servers]
        for load in self.loads:
            load.start()
        self.addCleanup(self.stop_loads)
        self.wait_for_traces(1)

    def stop_loads(self):
        for load in self.loads:
            load.going = False
        for load in self.loads:
            load.join(timeout=120)

    def answered(self):
        return sum(load.answered for load in self.loads)

    def stored(self):
        status = self.cluster.status()
        return (status or {}).get("traces", {}).get("records", -1)

    def wait_for_traces(self, more, seconds=60):
        before = max(self.stored(), 0)
        wait_until(lambda: self.stored() >= before + more, seconds, f"{more} more traces on the brokers")

    def check_nothing_failed(self):
        for load in self.loads:
            self.assertEqual(load.failed_up, [])

    def check_every_answer_is_stored(self):
        """Quiet first; then as many records as answers: none dropped, none lost, none twice."""
        self.stop_loads()
        try:
            wait_until(lambda: self.stored() >= self.answered(), 90, "a record for each answer")
        except TimeoutError:
            pass  # the next line says how many are missing
        dropped = [line for server in self.cluster.servers for line in server.get("/metrics").splitlines()
                   if line.startswith("aurora:traces_dropped_total") and not line.endswith(" 0")]
        self.assertEqual(self.stored(), self.answered(), dropped)
        size = self.cluster.status()["traces"]["bytes"] / 1e6
        print(f"  {self.answered()} answers, {self.stored()} records, {size:.0f} MB", flush=True)
        for server in self.cluster.servers:
            self.assertNotIn("aurora:traces_dropped_total{cause=\"buffer_away\"} 1", server.get("/metrics"))

    def test_stream_leader_killed(self):
        self.start()
        for _ in range(COUNT):
            leader = self.leader()
            leader.kill()
            self.wait_for_traces(2)
            leader.start(self.cluster.routes)
            wait_until(lambda back=leader: back.healthy() and self.cluster.in_step(), 120, f"{leader.name} has caught up")
        self.check_nothing_failed()
        self.check_every_answer_is_stored()

    def leader(self):
        wait_until(lambda: self.cluster.stream_leader() is not None, 60, "a leader of the stream")
        return self.cluster.stream_leader()

    def test_trainer_rank_killed(self):
        self.start(ranks=2)
        killed = 0
        for i in range(COUNT):
            wait_until(lambda: len(self.cluster.trainer.ranks()) == 2, 120, "two ranks")
            before = self.steps()
            wait_until(lambda: self.steps() > before, 180, "a training step of the group")
            ranks = self.cluster.trainer.ranks()
            if len(ranks) == 2:
                os.kill(ranks[i % 2], signal.SIGKILL)
                killed += 1
                wait_until(lambda gone=ranks: not set(gone) & set(self.cluster.trainer.ranks()), 60, "both ranks gone")
        self.assertGreaterEqual(killed, max(1, COUNT * 3 // 4))
        before = self.steps()
        wait_until(lambda: self.steps() > before, 180, "a training step after the last restart")
        self.stop_loads()
        self.check_nothing_failed()
        self.cluster.trainer.stop()
        pairs = [pair for path in self.audits() for pairs in surviving_steps(path).values() for pair in pairs]
        self.assertGreater(len(pairs), 0)
        self.assertEqual(len(pairs), len(set(pairs)), "a record of one pass is in the weights twice")

    def audits(self):
        return [path for path in (self.audit, self.audit.with_name("audit.1")) if path.exists()]

    def steps(self):
        return sum(steps_taken(path) for path in self.audits())

    def test_server_killed(self):
        self.start()
        victim, load = self.cluster.servers[1], self.loads[1]
        for _ in range(COUNT):
            load.up = False
            victim.kill()
            other = self.loads[0].answered
            wait_until(lambda before=other: self.loads[0].answered > before, 60, "the other server answers on")
            victim.start()
            load.up = True
            before = load.answered
            wait_until(lambda before=before: load.answered > before, 60, "an answer after the restart")
        self.stop_loads()
        self.check_nothing_failed()
        wait_until(lambda: self.stored() >= self.loads[0].answered, 90, "the other server's records")

    def test_server_cut_off(self):
        self.start()
        if not isinstance(self.cluster.network, Namespaces):
            self.skipTest("needs network namespaces: run as root with iproute2")
        for _ in range(COUNT):
            # The cable of the server is also its clients'; only the brokers' side is cut: a route to each goes nowhere.
            for broker in self.cluster.brokers:
                self.cluster.network.block("s1", broker.address)
            before = self.loads[0].answered
            time.sleep(PARTITION_SECONDS)
            self.assertGreater(self.loads[0].answered, before, "a server without brokers answers on")
            for broker in self.cluster.brokers:
                self.cluster.network.unblock("s1", broker.address)
            answered = self.answered()
            wait_until(lambda so_far=answered: self.stored() >= so_far, 120, "what waited in the server that was cut off")
        self.check_nothing_failed()
        self.check_every_answer_is_stored()

    def test_disk_of_a_broker_full(self):
        store = pathlib.Path(tempfile.mkdtemp(prefix="aurora-disk-"))
        self.addCleanup(lambda: shutil.rmtree(store, ignore_errors=True))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(store)], capture_output=True, check=False).returncode != 0:
            self.skipTest("needs a file system of its own: run as root")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", str(store)], check=False))
        self.start(stores={"n2": store / "n2"})
        broker = self.cluster.brokers[1]
        for _ in range(COUNT):
            filler = store / "filler"
            with open(filler, "wb", buffering=0) as out:
                try:
                    while True:
                        out.write(b"\0" * (1 << 20))
                except OSError:
                    pass  # full
            self.wait_for_traces(4, 120)
            filler.unlink()
            broker.stop()
            shutil.rmtree(store / "n2", ignore_errors=True)  # it takes the stream again from the other two
            broker.start(self.cluster.routes)
            wait_until(lambda: broker.healthy() and self.cluster.in_step(), 120, "the broker has caught up")
        self.check_nothing_failed()
        self.check_every_answer_is_stored()


if __name__ == "__main__":
    unittest.main(verbosity=2)
