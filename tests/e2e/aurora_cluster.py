"""Several brokers, servers and trainer ranks on one machine: each in a network namespace of its own where root may make
them, otherwise all on the loopback. Standard library only; the brokers run from deploy/nats/nats-server.conf."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

from aurora_server import ROOT, Server, free_port


class Network:
    """Where the programs live: host(name) makes a place, command(name, argv) runs there."""

    def host(self, name):
        """Its address."""
        raise NotImplementedError

    def command(self, name, argv):
        return argv

    def close(self):
        pass


class Loopback(Network):
    kind = "loopback"

    def host(self, name):
        return "127.0.0.1"


class Namespaces(Network):
    """One bridge, a namespace and a cable for each host. The machine itself is .1 on the bridge."""
    kind = "network namespaces"
    made = 0  # by this process: names of the last one may linger for a moment

    def __init__(self):
        number = (os.getpid() * 7 + Namespaces.made) % 12500
        Namespaces.made += 1
        self.tag, self.hosts = f"{number:05d}", {}
        self.bridge = f"au{self.tag}"
        self.subnet = f"10.{200 + number // 250}.{number % 250}"
        try:
            self.run("ip", "link", "add", self.bridge, "type", "bridge")
            self.run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.bridge)
            self.run("ip", "link", "set", self.bridge, "up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def run(*argv):
        subprocess.run(argv, check=True, capture_output=True, text=True)

    def host(self, name):
        number = len(self.hosts) + 2
        space, cable, address = f"au{self.tag}-{name}", f"au{self.tag}c{number}", f"{self.subnet}.{number}"
        self.hosts[name] = (space, cable)
        self.run("ip", "netns", "add", space)
        self.run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        self.run("ip", "link", "set", cable, "master", self.bridge, "up")
        for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            self.run("ip", "-n", space, *words)
        return address

    def command(self, name, argv):
        return ["ip", "netns", "exec", self.hosts[name][0], *argv]

    def block(self, name, address):
        """Packets from there to an address go nowhere; nobody hears of it, as with a partition."""
        self.run("ip", "-n", self.hosts[name][0], "route", "add", "blackhole", f"{address}/32")

    def unblock(self, name, address):
        self.run("ip", "-n", self.hosts[name][0], "route", "del", "blackhole", f"{address}/32")

    def close(self):
        for space, _ in self.hosts.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


def make_network():
    """Namespaces where this process may make them."""
    if os.geteuid() == 0 and shutil.which("ip"):
        network = None
        try:
            network = Namespaces()
            network.host("probe")
            return network
        except (subprocess.CalledProcessError, OSError):
            if network:
                network.close()
    return Loopback()


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds} s")


def fetch_json(url):
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


class Broker:
    def __init__(self, program, network, name, address, folder, store):
        self.program, self.network, self.name, self.address = program, network, name, address
        self.folder, self.store = folder, store
        self.port, self.route_port, self.monitor_port = free_port(), free_port(), free_port()
        self.process = None

    def start(self, routes):
        environment = {**os.environ, "NATS_NAME": self.name, "NATS_LISTEN": f"{self.address}:{self.port}",
                       "NATS_ROUTE_LISTEN": f"{self.address}:{self.route_port}", "NATS_ROUTES": f"[{routes}]",
                       "NATS_MONITOR": f"{self.address}:{self.monitor_port}", "NATS_STORE": str(self.store)}
        command = [str(self.program), "-c", str(ROOT / "deploy/nats/nats-server.conf"), "-l", str(self.folder / f"{self.name}.log")]
        self.process = subprocess.Popen(self.network.command(self.name, command), env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def monitor(self, path):
        return fetch_json(f"http://{self.address}:{self.monitor_port}{path}")

    def healthy(self):
        return (self.monitor("/healthz") or {}).get("status") == "ok"

    def kill(self):
        self.process.kill()  # `ip netns exec` becomes the program: the process is the broker
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


class RankGroup:
    """`aurora train --nproc N`: the launcher and its ranks."""

    def __init__(self, build, network, name, folder, flags):
        self.log_path = folder / "train.log"
        command = [str(pathlib.Path(build) / "aurora"), "train", "--state", str(folder), *flags]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(network.command(name, command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def ranks(self):
        """Process ids of the running ranks."""
        try:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in children.split()]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Cluster:
    """Three brokers, `servers` servers, one group of trainer ranks (0: none). Use as a context: everything ends with it."""

    def __init__(self, build, model, folder, servers=2, ranks=2, serve_flags=(), train_flags=(), url_options="stagger=2s",
                 stores=None):
        self.build, self.model = pathlib.Path(build), model
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network = make_network()
        self.brokers, self.servers, self.trainer = [], [], None
        try:
            self.start_brokers(stores or {})
            url = ",".join(f"{b.address}:{b.port}" for b in self.brokers)
            self.url = f"nats://{url}/?replicas=3&{url_options}"
            for i in range(servers):
                self.add_server(f"s{i + 1}", serve_flags)
            self.train_flags = ["-m", str(model), "--nproc", str(ranks), "--buffer", self.url, *train_flags]
            self.network.host("trainer")
            if ranks > 0:
                self.start_trainer()
        except BaseException:
            self.close()
            raise

    def start_brokers(self, stores):
        done = subprocess.run([sys.executable, ROOT / "scripts/fetch_nats_server.py"], capture_output=True, text=True, check=True)
        program = done.stdout.strip().splitlines()[-1]
        for i in range(3):
            name = f"n{i + 1}"
            self.brokers.append(Broker(program, self.network, name, self.network.host(name), self.folder, stores.get(name, self.folder / name)))
        self.routes = ",".join(f"nats-route://{b.address}:{b.route_port}" for b in self.brokers)
        for broker in self.brokers:
            broker.start(self.routes)
        wait_until(lambda: all(b.healthy() for b in self.brokers), 60, "three healthy brokers")

    def add_server(self, name, flags):
        address = self.network.host(name)
        state = self.folder / name
        state.mkdir(exist_ok=True)
        self.servers.append(Server(self.build, self.model, "--buffer", self.url, "--host", address, *flags, state=state,
                                   host=address, wrap=lambda argv: self.network.command(name, argv)))

    def start_trainer(self):
        folder = self.folder / "trainer"
        folder.mkdir(exist_ok=True)
        self.trainer = RankGroup(self.build, self.network, "trainer", folder, self.train_flags)

    def stream_state(self, stream="aurora_traces"):
        """What the brokers' page says of who leads the stream and who follows; {} while nobody leads it."""
        for broker in self.brokers:
            answer = broker.monitor("/jsz?streams=true&accounts=true") or {}
            for account in answer.get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream and detail.get("cluster", {}).get("leader") == broker.name:
                        return detail["cluster"]
        return {}

    def stream_leader(self):
        """The broker that leads the stream, None while there is none."""
        name = self.stream_state().get("leader")
        return next((b for b in self.brokers if b.name == name), None)

    def in_step(self):
        """Both followers have what the leader has: another broker may die."""
        return [replica.get("current") for replica in self.stream_state().get("replicas", [])] == [True, True]

    def signal_brokers(self, number):
        for broker in self.brokers:
            broker.process.send_signal(number)

    def status(self):
        """`aurora status --all`, from where the first server stands."""
        done = subprocess.run(self.network.command("s1", [str(self.build / "aurora"), "status", "--all", "--json", "--buffer", self.url]),
                              capture_output=True, text=True, check=False, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.trainer:
            self.trainer.stop()
        for server in self.servers:
            server.stop()
        for broker in self.brokers:
            broker.stop()
        self.network.close()
