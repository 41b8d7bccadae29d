#!/usr/bin/env python3
"""deploy/: every manifest is read, and what it says is compared with the real programs and files.

    manifests_test.py BUILD
"""
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

import yaml

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build").resolve()
DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
K8S = DEPLOY / "k8s"
KUSTOMIZATION = yaml.safe_load((K8S / "kustomization.yaml").read_text())


def documents():
    for name in KUSTOMIZATION["resources"]:
        if name.endswith(".yaml"):
            yield from yaml.safe_load_all((K8S / name).read_text())


DOCUMENTS = list(documents())


def of_kind(*kinds):
    return {document["metadata"]["name"]: document for document in DOCUMENTS if document["kind"] in kinds}


WORKLOADS = of_kind("Deployment", "StatefulSet")
SHARED = dict(literal.split("=", 1) for literal in KUSTOMIZATION["configMapGenerator"][0]["literals"])


def pod(workload):
    return workload["spec"]["template"]["spec"]


def container(workload):
    [only] = pod(workload)["containers"]
    return only


def env(workload):
    return {entry["name"]: entry.get("value") for entry in container(workload).get("env", [])}


def aurora_commands():
    """(sub-command, arguments with the shared values in place) of each container that runs aurora."""
    for workload in WORKLOADS.values():
        command = container(workload)["command"]
        if command[0] == "aurora":
            yield command[1], [re.sub(r"\$\((\w+)\)", lambda m: SHARED[m.group(1)], arg) for arg in container(workload)["args"]]


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)


class Manifests(unittest.TestCase):
    def test_files_are_all_listed(self):
        found = {path.name for path in K8S.glob("*.yaml")} - {"kustomization.yaml"}
        self.assertEqual(found, {name for name in KUSTOMIZATION["resources"] if name.endswith(".yaml")})
        for document in DOCUMENTS:
            self.assertTrue(document["apiVersion"] and document["kind"] and document["metadata"]["name"])
        self.assertEqual(set(WORKLOADS), {"aurora-server", "aurora-trainer", "nats"})

    def test_kustomize_takes_them(self):
        if not shutil.which("kubectl"):
            self.skipTest("kubectl is not here")
        built = run("kubectl", "kustomize", K8S)
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertEqual(sum(d["kind"] == "ConfigMap" for d in yaml.safe_load_all(built.stdout)), 2)

    def test_names_refer_to_something(self):
        generated = {entry["name"] for entry in KUSTOMIZATION["configMapGenerator"]}
        generated |= {entry["name"] for entry in yaml.safe_load((DEPLOY / "nats/kustomization.yaml").read_text())["configMapGenerator"]}
        services, claims = of_kind("Service"), of_kind("PersistentVolumeClaim")
        for name, workload in WORKLOADS.items():
            spec = workload["spec"]
            labels = spec["template"]["metadata"]["labels"]
            self.assertEqual(spec["selector"]["matchLabels"], labels, name)
            if workload["kind"] == "StatefulSet":
                self.assertIn(spec["serviceName"], services)
            volumes = {volume["name"]: volume for volume in pod(workload).get("volumes", [])}
            volumes |= {claim["metadata"]["name"]: claim for claim in spec.get("volumeClaimTemplates", [])}
            for mount in container(workload)["volumeMounts"]:
                volume = volumes.pop(mount["name"])
                if "configMap" in volume:
                    self.assertIn(volume["configMap"]["name"], generated)
                if "persistentVolumeClaim" in volume:
                    self.assertIn(volume["persistentVolumeClaim"]["claimName"], claims)
            self.assertEqual(volumes, {}, f"{name} mounts each of its volumes")
            for source in container(workload).get("envFrom", []):
                self.assertIn(source["configMapRef"]["name"], generated)
        every_label = [workload["spec"]["template"]["metadata"]["labels"] for workload in WORKLOADS.values()]
        for service in services.values():
            self.assertIn(service["spec"]["selector"], every_label)
        budgets = of_kind("PodDisruptionBudget")
        self.assertEqual(set(budgets), set(WORKLOADS))
        for budget in budgets.values():
            self.assertIn(budget["spec"]["selector"]["matchLabels"], every_label)

    def test_probes_and_resources(self):
        for name, workload in WORKLOADS.items():
            main = container(workload)
            if "--state" in main.get("args", []):
                state = main["args"][main["args"].index("--state") + 1]
                self.assertNotIn(state, [mount["mountPath"] for mount in main["volumeMounts"]], "fsGroup opens it to a group")
            ports = {port["name"] for port in main["ports"]}
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = main[kind]
                if name == "aurora-trainer":
                    self.assertIn(f"{state}/trainer.status", " ".join(probe["exec"]["command"]))
                else:
                    self.assertIn(probe["httpGet"]["port"], ports)
            if name == "aurora-server":
                self.assertEqual(main["readinessProbe"]["httpGet"]["path"], "/health")
            self.assertTrue(main["resources"]["requests"]["cpu"] and main["resources"]["requests"]["memory"])
            self.assertNotIn("cpu", main["resources"]["limits"], "a limit on cpu stalls the decode loop for parts of a second")

    def test_ports_of_services_exist(self):
        for service in of_kind("Service").values():
            [workload] = [w for w in WORKLOADS.values() if w["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]]
            named = {port["name"]: port["containerPort"] for port in container(workload)["ports"]}
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                self.assertIn(target, [*named, *named.values()])

    def test_ranks(self):
        trainer = WORKLOADS["aurora-trainer"]
        self.assertEqual(int(env(trainer)["WORLD_SIZE"]), trainer["spec"]["replicas"])
        self.assertEqual(env(trainer)["MASTER_ADDR"], f"aurora-trainer-0.{trainer['spec']['serviceName']}")
        self.assertIn(int(env(trainer)["MASTER_PORT"]), [port["containerPort"] for port in container(trainer)["ports"]])
        [rank] = [e for e in container(trainer)["env"] if e["name"] == "RANK"]
        self.assertIn("pod-index", rank["valueFrom"]["fieldRef"]["fieldPath"])

    def test_brokers_get_what_their_configuration_names(self):
        conf = (DEPLOY / "nats/nats-server.conf").read_text()
        used = {name for line in conf.splitlines() if not line.lstrip().startswith("#") for name in re.findall(r"\$(\w+)", line)}
        nats = WORKLOADS["nats"]
        self.assertEqual(used, set(env(nats)))
        brokers = {f"nats-{i}.{nats['spec']['serviceName']}" for i in range(nats["spec"]["replicas"])}
        self.assertEqual(set(re.findall(r"//([\w.-]+):6222", env(nats)["NATS_ROUTES"])), brokers)
        hosts = SHARED["BUFFER"].removeprefix("nats://").split("/")[0].split(",")
        self.assertEqual({host.split(":")[0] for host in hosts}, brokers)
        self.assertIn("replicas=3", SHARED["BUFFER"])


class Flags(unittest.TestCase):
    def test_flags_are_in_the_help(self):
        for command, args in aurora_commands():
            help_text = run(BUILD / "aurora", command, "--help").stdout
            known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_text))
            flags = args[::2]
            self.assertGreater(len(flags), 3)
            for flag in flags:
                self.assertTrue(flag.startswith("-"), f"{command}: {flag} stands where a flag should")
                self.assertIn(flag, known, f"aurora {command} --help has no {flag}")

    def test_values_are_taken(self):
        """All that is wrong with the whole command line here is that there is no model file."""
        wanted = {"serve": "there is no model file", "train": "target.gguf"}
        for command, args in aurora_commands():
            state = args.index("--state") + 1
            ended = run(BUILD / "aurora", command, *args[:state], BUILD / "manifests-state", *args[state + 1:])
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(wanted[command], ended.stderr)
            self.assertNotIn("impossible value", ended.stderr)
            self.assertNotIn("unknown flag", ended.stderr)

    def test_every_shared_value_is_used(self):
        used = {name for workload in WORKLOADS.values() for arg in container(workload).get("args", []) for name in re.findall(r"\$\((\w+)\)", arg)}
        self.assertEqual(used, set(SHARED))


class Image(unittest.TestCase):
    def test_libraries_of_the_programs_are_installed(self):
        if not (shutil.which("dpkg-query") and shutil.which("readelf")):
            self.skipTest("dpkg-query or readelf is not here")
        dockerfile = (DEPLOY / "Dockerfile").read_text().split("FROM")[-1]
        base = {"libc6", "libgcc-s1", "libstdc++6"}  # of the base image, or drawn in by each of the others
        for program in ("aurora", "aurora-train"):
            for library in re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", BUILD / program).stdout):
                owner = run("dpkg-query", "-S", library).stdout.splitlines()
                packages = {line.split(":")[0] for line in owner if line.endswith("/" + library)}
                if packages and not packages & base:  # none: a library of another origin than Debian
                    self.assertTrue(any(package in dockerfile.split() for package in packages), f"{library}: {packages}")


if __name__ == "__main__":
    unittest.main()
