"""Starts the real binaries for tests and benches: one class, standard library only."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def default_model():
    """Path of SmolLM2-135M, fetched when it is not in the cache."""
    done = subprocess.run([sys.executable, ROOT / "scripts/fetch_model.py"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def llama_source():
    """The pinned llama.cpp as it was built, with its tests and chat templates."""
    built = subprocess.run([sys.executable, ROOT / "third_party/llama.cpp/build.py"], capture_output=True, text=True, check=True)
    return pathlib.Path(built.stdout.strip()) / "src"


def free_port():
    """Free now, and below the range of outgoing connections: none takes it while the program is down."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randint(12_000, 32_000)))
                return probe.getsockname()[1]
            except OSError:
                continue


class Server:
    """`aurora serve` (or another program with llama-server's flags) on a free port, with its log and state folder."""

    headers = {}  # of every request

    def __init__(self, build, model, *flags, state=None, program=None, host="127.0.0.1", wrap=None, stderr=None, log=None):
        """host: where it listens. wrap: makes another command of the command. stderr: a file in
        place of the log. log: its path, where it shall not lie in the state folder."""
        self.host, self.wrap, self.stderr = host, wrap or (lambda argv: argv), stderr
        self.build = pathlib.Path(build)
        self.model = model
        self.flags = list(flags)
        self.program = program
        self.own_state = state is None
        self.state = pathlib.Path(state or tempfile.mkdtemp(prefix="aurora-"))
        self.log_path = pathlib.Path(log) if log else self.state / "serve.log"
        self.process = None
        self.start()

    def start(self, seconds=120):
        self.port = free_port()
        command = [str(self.program)] if self.program else [str(self.build / "aurora"), "serve", "--state", str(self.state)]
        command += ["-m", str(self.model), "--port", str(self.port), *self.flags]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.wrap(command), stdout=log, stderr=self.stderr or log, stdin=subprocess.DEVNULL)
        self.wait(lambda: "ok" in self.get("/health"), seconds)

    def stop(self, keep_state=False):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.own_state and not keep_state:
            shutil.rmtree(self.state, ignore_errors=True)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def get(self, path):
        try:
            request = urllib.request.Request(f"http://{self.host}:{self.port}{path}", headers=self.headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read().decode()
        except (OSError, http.client.HTTPException):
            return ""

    def metric(self, name, prefix="aurora"):
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{prefix}:{name} "):
                return float(line.split()[-1])
        raise KeyError(f"no metric {prefix}:{name}")

    def wait(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self.process.returncode}:\n{self.log()[-3000:]}")
            if condition():
                return
            time.sleep(0.1)
        raise TimeoutError("nothing came in time:\n" + self.log()[-3000:])

    def wait_for_draft(self, seconds):
        """Asks until a draft serves: it is adopted between two steps."""
        self.wait(lambda: self.chat("Hello", max_tokens=4) and self.metric("draft_version") > 0, seconds)

    def chat(self, content, max_tokens=40, headers=None, timeout=300, **fields):
        """The whole answer object of one greedy chat request; raises on any failure."""
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **fields}
        return self.post("/v1/chat/completions", body, headers, timeout)

    def complete(self, prompt, tokens, timeout=300, **fields):
        """So many greedy tokens behind a text, of whatever model; raises on any failure."""
        body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0, **fields}
        return self.post("/completion", body, None, timeout)

    def post(self, path, body, headers, timeout):
        request = urllib.request.Request(f"http://{self.host}:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json", **self.headers, **(headers or {})})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)

    def stream(self, messages, max_tokens, headers=None, timeout=300, **fields):
        """A greedy chat answer as it comes: (time, event) each; raises on any failure, and where the stream breaks off."""
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True, **fields}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body),
                               {"Content-Type": "application/json", **self.headers, **(headers or {})})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}: {answer.read()[:200]}")
            for line in answer:
                if line.startswith(b"data: [DONE]"):
                    return
                if line.startswith(b"data: "):
                    yield time.monotonic(), json.loads(line[6:])
            raise ValueError("the stream broke off")
        finally:
            connection.close()

    def text(self, content, **options):
        return self.chat(content, **options)["choices"][0]["message"]["content"]

    def chat_all(self, contents, clients, **options):
        """Answers in order; an exception in place of a failed one."""
        def one(content):
            try:
                return self.chat(content, **options)
            except (OSError, http.client.HTTPException, ValueError) as error:
                return error
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            return list(pool.map(one, contents))

    def trainer_pid(self):
        pids = [int(line.split()[-1]) for line in self.log().splitlines() if "trainer started, pid" in line]
        return pids[-1] if pids else None

    def signal_trainer(self, number=signal.SIGKILL):
        os.kill(self.trainer_pid(), number)

    def newest_draft(self):
        """Highest version on disk, 0 when there is none."""
        versions = [int(path.stem[6:]) for path in (self.state / "drafts").glob("draft-??????.json")]
        return max(versions, default=0)


def copy_newest_draft(state, to):
    """The newest draft of an earlier run's state into the empty state folder `to`; the path of its file there."""
    drafts = sorted((pathlib.Path(state) / "drafts").glob("draft-??????.gguf"))
    if not drafts:
        raise SystemExit(f"there is no draft in {state}/drafts; run the demo first")
    folder = pathlib.Path(to) / "drafts"
    folder.mkdir(mode=0o700)
    for path in (drafts[-1], drafts[-1].with_suffix(".json")):
        shutil.copy(path, folder)
    return folder / drafts[-1].name


def failed(answers):
    return [answer for answer in answers if isinstance(answer, Exception)]


def prompts_from(path, count, skip=0):
    with open(path) as lines:
        return [json.loads(line)["messages"] for line in lines][skip:skip + count]
