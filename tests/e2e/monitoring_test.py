#!/usr/bin/env python3
"""What is exposed for Prometheus, by its own tools: the metrics' form, the alert rules, each query of the Grafana dashboard.

    tests/e2e/monitoring_test.py BUILD_DIR
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model, failed, free_port

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
DEPLOY = ROOT / "deploy"


def programs():
    done = subprocess.run([sys.executable, ROOT / "scripts/fetch_prometheus.py"], capture_output=True, text=True, check=True)
    return pathlib.Path(done.stdout.strip().splitlines()[-1])


PROGRAMS = programs()


class Prometheus:
    def __init__(self, target_port):
        self.folder = tempfile.TemporaryDirectory(prefix="aurora-prometheus-")
        config = pathlib.Path(self.folder.name, "prometheus.yml")
        config.write_text("global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
                          f"rule_files: ['{DEPLOY}/prometheus/alerts.yml']\n"
                          f"scrape_configs: [{{job_name: aurora, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}]\n")
        self.port = free_port()
        self.process = subprocess.Popen(
            [PROGRAMS / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder.name}/data",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"], stdout=subprocess.DEVNULL)

    def ask(self, path, **query):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        try:
            return self.ask("/api/v1/query", query=expression)["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def wait(self, expression, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.query(expression):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.5)
        raise TimeoutError(expression)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(BUILD, default_model(), "-np", "2", "-c", "2048", "--train", "off")
        cls.addClassCleanup(cls.server.stop)

    def promtool(self, *arguments, text=None):
        return subprocess.run([PROGRAMS / "promtool", *arguments], input=text, capture_output=True, text=True)

    def test_the_form_of_the_metrics(self):
        self.assertEqual(failed(self.server.chat_all(["Hello", "A short poem, please."], 2, max_tokens=12)), [])
        text = self.server.get("/metrics")
        checked = self.promtool("check", "metrics", text=text)
        self.assertIn(checked.returncode, (0, 3), checked.stderr)  # 3: remarks, no error of form
        # Names of this field's servers have a colon (vllm:, llamacpp:), which the tool would keep for recording rules.
        remarks = [line for line in checked.stderr.splitlines()
                   if line.startswith("aurora:") and not line.endswith("metric names should not contain ':'")]
        self.assertEqual(remarks, [])
        wrong = self.promtool("check", "metrics", text=text.replace("# TYPE aurora:swaps_total counter", "# TYPE aurora:swaps_total colour"))
        self.assertEqual(wrong.returncode, 1)

    def test_every_metric_has_a_help(self):
        text = self.server.get("/metrics")
        names = {re.match(r"aurora:[a-z0-9_]+", line)[0] for line in text.splitlines() if line.startswith("aurora:")}
        helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP aurora:") and len(line.split()) > 4}
        plain = {name for name in names if name not in helped and re.sub("_(bucket|sum|count)$", "", name) not in helped}
        self.assertEqual(plain, set())
        self.assertGreater(len(names), 30)

    def test_alert_rules(self):
        done = self.promtool("test", "rules", str(DEPLOY / "prometheus/alerts_test.yml"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_dashboard(self):
        """Each query, as Grafana would send it, to a Prometheus that scrapes this server."""
        board = json.loads((DEPLOY / "grafana/aurora.json").read_text())
        prometheus = Prometheus(self.server.port)
        self.addCleanup(prometheus.stop)
        prometheus.wait("up == 1")
        for _ in range(4):
            self.assertEqual(failed(self.server.chat_all(["Count to twenty.", "Count to ten, twice."], 2, max_tokens=24)), [])
            time.sleep(1)
        prometheus.wait("rate(aurora:generated_tokens_total[10s]) > 0")
        empty, queries = [], 0
        for panel in board["panels"]:
            self.assertTrue(panel["description"], panel["title"])
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
                self.assertNotIn("$", expression)
                queries += 1
                if not prometheus.query(expression) and not expression.endswith("> 0"):
                    empty.append(f"{panel['title']}: {expression}")
        self.assertEqual(empty, [], "a panel without data")
        self.assertGreaterEqual(queries, 12)
        annotation = board["annotations"]["list"][0]["expr"].replace("$instance", ".*")
        prometheus.query(annotation)
        rules = prometheus.ask("/api/v1/rules")["groups"][0]["rules"]
        self.assertEqual([rule["name"] for rule in rules if rule["health"] == "err"], [])
        self.assertEqual(len(rules), 5)


if __name__ == "__main__":
    unittest.main(verbosity=2)
