#!/usr/bin/env python3
"""Files, memory, pipes and processes that fail beside the real binaries: serving answers, training goes on or says why not.

    tests/e2e/broken_world_test.py BUILD_DIR        AURORA_FAULTS=10 for how often each case is run (default 1)
"""
import contextlib
import fcntl
import os
import pathlib
import random
import resource
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model, failed

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
COUNT = int(os.environ.get("AURORA_FAULTS", "1"))
MODEL = default_model()
NOBODY = 65534
LEARN = ["--publish-first-records", "2", "--publish-every-records", "4", "--checkpoint-every", "1", "--gate", "off"]


def full_pipe():
    """Both ends of a pipe of one page that nobody reads; what is written behind that waits for ever."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, 1031, 4096)  # F_SETPIPE_SZ
    return read_end, write_end


def words_of_trainer(server):
    """How the trainer last ended, as `aurora status` shows it; empty: it has not."""
    name = "# aurora:trainer_last_exit "
    return next((line[len(name):] for line in server.get("/metrics").splitlines() if line.startswith(name)), "")


@contextlib.contextmanager
def small_disk(mib):
    folder = tempfile.mkdtemp(prefix="aurora-disk-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "none", folder], capture_output=True)
    if mounted.returncode != 0:
        raise unittest.SkipTest("no right to mount a small disk")
    try:
        yield pathlib.Path(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)


class Broken(unittest.TestCase):
    def setUp(self):
        self.answered = 0

    def ask(self, server, count=4, tokens=24):
        """Of /completion: a toy target has no words to talk in."""
        for number in range(count):
            answer = server.complete(f"Name {number} uses of salt and {self.answered} of tea.", tokens)
            self.assertEqual(answer["tokens_predicted"], tokens)
            self.answered += 1

    def learns(self, server, seconds=120):
        """Asks until the trainer, as it is now, has taken two more steps."""
        server.wait(lambda: self.ask(server, 1) or server.metric("trainer_alive") == 1, seconds)
        before = server.metric("trainer_steps_total")
        server.wait(lambda: self.ask(server, 1) or server.metric("trainer_steps_total") not in (before, before + 1), seconds)

    def tell(self, cause, what):
        print(f"\n  | {cause} | {COUNT} | {self.answered} of {self.answered} | {what} |", flush=True)


class Pipes(Broken):
    def test_stderr_that_nobody_reads(self):
        dropped = []
        for _ in range(COUNT):
            read_end, write_end = full_pipe()
            with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", "-v", stderr=write_end) as server:
                self.ask(server, count=50)
                dropped.append(server.metric("log_lines_dropped_total"))
                server.process.terminate()
                self.assertEqual(server.process.wait(timeout=30), 0)
            os.close(write_end)
            os.close(read_end)
        self.assertGreater(min(dropped), 0)
        self.tell("stderr a full pipe, `-v`", f"{min(dropped):.0f} lines dropped and counted, or more; SIGTERM ends it")


class Toy(Broken):
    """With a toy target of a long context: what is learnt from it is nothing, but quickly."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="aurora-toy-")
        os.chmod(cls.folder.name, 0o755)
        cls.models = [str(pathlib.Path(cls.folder.name) / f"{seed}.gguf") for seed in (1, 2)]
        for seed, path in enumerate(cls.models, 1):
            subprocess.run([BUILD / "aurora-make-tiny-target", path, "llama", str(seed), "f32", "32768"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def serve(self, *flags, model=None, context="4096", **options):
        server = Server(BUILD, model or self.models[0], "-t", "1", "-np", "1", "-c", context, *LEARN, *flags, **options)
        self.addCleanup(server.stop)
        return server

    def stopped(self, server):
        server.stop(keep_state=True)
        return server.state

    def test_answers_of_16k_tokens(self):
        server = self.serve(context="32768")
        for _ in range(COUNT):
            self.ask(server, count=1, tokens=16_000)
            self.learns(server)
        self.assertEqual(server.metric("trainer_restarts_total"), 0, words_of_trainer(server))
        self.tell("answers of 16,000 tokens", f"{server.metric('trainer_steps_total'):.0f} steps, the trainer never ended")

    def test_states_that_are_infinite(self):
        server = self.serve()
        for _ in range(COUNT):
            self.learns(server)
            self.stopped(server)
            subprocess.run([BUILD / "aurora-spoil-traces", server.state / "traces"], check=True)
            server.start()
            self.learns(server)
            server.wait(lambda: server.metric("trainer_dropped_records_total") > 0, 60)
            self.assertEqual(server.metric("trainer_restarts_total"), 0, words_of_trainer(server))
        self.tell("a trace of infinite states", "left out by cause, its step goes on")

    def spoil_checkpoint(self, name, spoil):
        server = self.serve()
        for _ in range(COUNT):
            self.learns(server)
            checkpoint = self.stopped(server) / "trainer.ckpt"
            spoil(checkpoint)
            server.start()
            self.learns(server)
            server.wait(lambda: "training begins anew" in server.log(), 60)  # it comes through a pipe, ten times a second
            self.assertTrue(checkpoint.with_suffix(".ckpt.bad").exists())
            checkpoint.with_suffix(".ckpt.bad").unlink()
        self.tell(f"checkpoint {name}", "set aside with a sentence, training begins anew")

    def test_checkpoint_that_is_cut(self):
        self.spoil_checkpoint("cut", lambda path: os.truncate(path, path.stat().st_size // 2))

    def test_checkpoint_of_other_bytes(self):
        self.spoil_checkpoint("of other bytes", lambda path: path.write_bytes(os.urandom(100_000)))

    def test_checkpoint_of_another_target(self):
        other = self.serve(model=self.models[1])
        self.learns(other)
        foreign = (self.stopped(other) / "trainer.ckpt").read_bytes()
        self.spoil_checkpoint("of another target", lambda path: path.write_bytes(foreign))

    def spoil_page(self, name, pages_of):
        """pages_of: of the file's bytes, from which pages one is taken."""
        rng = random.Random(3)
        server = self.serve()
        aside = 0
        for _ in range(COUNT):
            self.learns(server)
            traces = self.stopped(server) / "traces" / "traces"
            page = rng.choice(pages_of(traces.read_bytes()))
            with open(traces, "r+b") as file:
                file.seek(4096 * page)
                file.write(rng.randbytes(4096))
            server.start()
            self.learns(server)
            aside += server.metric("traces_set_aside_total")
        self.tell(f"a page of random bytes in the trace file, {name}", f"set aside {aside:.0f} times; serving and training go on")
        return aside

    def test_trace_file_with_a_random_page(self):
        self.spoil_page("any", lambda file: range(2, len(file) // 4096))

    def test_trace_file_with_a_random_page_of_its_tree(self):
        """LMDB's page: its number, two bytes, flags (1 a branch, 2 a leaf). Some are of no use any more and may be anything."""
        def pages_of(file):
            head = lambda page: struct.unpack_from("<QHH", file, 4096 * page)
            return [page for page in range(2, len(file) // 4096) if head(page)[0] == page and head(page)[2] in (1, 2)]
        self.spoil_page("of its tree", pages_of)

    def test_trace_file_that_is_cut(self):
        server = self.serve()
        for _ in range(COUNT):
            self.learns(server)
            traces = self.stopped(server) / "traces" / "traces"
            os.truncate(traces, traces.stat().st_size // 4096 // 2 * 4096)
            server.start()
            self.learns(server)
            self.assertEqual(server.metric("traces_set_aside_total"), 1)
        self.tell("the trace file cut", "set aside and counted, traces begin anew")

    def test_two_servers_of_one_state(self):
        first = self.serve()
        self.learns(first)
        second = self.serve(state=first.state)
        for _ in range(COUNT):
            self.ask(first)
            self.ask(second)
            self.learns(first)
        self.assertEqual(first.metric("speculator_errors_total") + second.metric("speculator_errors_total"), 0)
        second.wait(lambda: "works for this state folder" in second.log(), 60)
        self.tell("two servers, one model, one state", "one trainer; the other server says so and serves its drafts")

    def test_processes_that_cannot_be_started(self):
        root = os.geteuid() == 0  # whom no bound holds
        wrap = lambda argv: [*(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []), *argv]
        bound = lambda server, count: subprocess.run(wrap(["prlimit", "--pid", str(server.process.pid), f"--nproc={count}:"]),
                                                     check=True)
        with tempfile.TemporaryDirectory() as state:
            os.chown(state, NOBODY if root else -1, -1)
            server = self.serve(wrap=wrap, state=state)
            for _ in range(COUNT):
                self.learns(server)
                pid = server.trainer_pid()
                _, most = resource.getrlimit(resource.RLIMIT_NPROC)  # which it has from here
                bound(server, 1)
                server.signal_trainer()
                # It is started again after a minute at most.
                server.wait(lambda: "cannot start" in server.log().rsplit(f"pid {pid}", 1)[-1], 90)
                self.ask(server)
                bound(server, "unlimited" if most == resource.RLIM_INFINITY else most)
                server.wait(lambda: server.trainer_pid() != pid, 90)
                self.learns(server)
            self.assertEqual(server.metric('draft_refused_total{reason="corrupt"}'), 0, "what could not be loaded then is sound")
            server.stop()
        self.tell("no process can be started", "said, tried again with back-off, training goes on once it can")

    def test_disk_that_is_full(self):
        with small_disk(48) as disk, tempfile.NamedTemporaryFile() as log:
            server = self.serve("--buffer-mib", "8", state=disk, log=log.name)
            for _ in range(COUNT):
                self.learns(server)
                drafts = server.newest_draft()
                filler = disk / "filler"
                with open(filler, "wb") as file, contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                for _ in range(4):
                    self.ask(server, count=8)
                filler.unlink()
                server.wait(lambda: self.ask(server, 1) or server.newest_draft() > drafts, 180)
                self.learns(server)
            said = [line for line in server.log().splitlines() if "No space left" in line]
            self.assertTrue(said, server.log()[-3000:])
            self.assertEqual(server.metric("speculator_errors_total"), 0)
            server.stop()
        self.tell("disk full at trace, checkpoint, publish, verdict", f"{len(said)} sentences; training and publication go on with room")


class Memory(Broken):
    def test_half_of_the_memory(self):
        ends = {"it learns": 0, "it says what to do": 0}
        for _ in range(COUNT):
            with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", *LEARN, "--train-memory-mib", "96") as server:
                server.wait(lambda: self.ask(server, 2) or words_of_trainer(server) or
                            server.metric("trainer_steps_total") > 1, 180)
                words = words_of_trainer(server)
                if words:
                    self.assertIn("--train-memory-mib", words)
                ends["it says what to do" if words else "it learns"] += 1
        self.tell("`--train-memory-mib 96`", ", ".join(f"{end}: {count}" for end, count in ends.items() if count))


class StateFolder(Broken):
    def refused(self, sentence, state):
        ended = subprocess.run([BUILD / "aurora", "serve", "-m", MODEL, "--state", state], capture_output=True, text=True,
                               timeout=60)
        self.assertEqual(ended.returncode, 2)
        self.assertIn(sentence, ended.stderr)

    def test_folder_of_others(self):
        with tempfile.TemporaryDirectory() as state:
            os.chmod(state, 0o777)
            self.refused("chmod go-w", state)
            if os.geteuid() == 0:
                os.chmod(state, 0o700)
                os.chown(state, NOBODY, NOBODY)
                self.refused("belongs to another user", state)

    def test_files_are_for_their_user_alone(self):
        wrap = lambda argv: ["sh", "-c", 'umask 0; exec "$@"', "sh", *argv]
        with Server(BUILD, MODEL, "-t", "1", "-np", "2", "-c", "4096", *LEARN, wrap=wrap) as server:
            server.wait(lambda: self.ask(server, 2) or server.metric("draft_version") > 0, 180)
            server.wait(lambda: (server.state / "trainer.ckpt").exists(), 60)
            server.process.terminate()
            server.process.wait(timeout=60)
            modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in server.state.rglob("*") if path.name != "serve.log"}
            wrong = {str(path): oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)}
            self.assertEqual(wrong, {})
            self.assertTrue(any(path.suffix == ".gguf" for path in modes))


if __name__ == "__main__":
    unittest.main(verbosity=2)
