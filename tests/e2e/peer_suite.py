#!/usr/bin/env python3
"""llama.cpp's own server tests, from the pinned source and unchanged, against `aurora serve`.

    tests/e2e/peer_suite.py [BUILD_DIR] [--all] [--record] [--model FILE] [--state DIR] [FILE_OR_TEST...]

peer_suite.txt holds what passes with stock llama-server: each line is a test that must pass here too, or that may not and
then says why. CI runs the lines marked `ci` (--all: every line). --record runs all tests on stock and those that pass on ours,
prints both columns and writes the list anew, with the reasons and marks that it has (with tests named: their lines). The
tests name models to download: every one is a tiny random target here (or --model FILE), so those about another model's text
or shape fail on both and are not in the list. --state: a state folder of an earlier run with that model, whose draft serves;
repeated text is drafted from in any case.
"""
import argparse
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from aurora_server import copy_newest_draft, free_port, llama_source

LIST = pathlib.Path(__file__).with_suffix(".txt")

# Stands for llama-server: flags that would download become the local model, and where none is named it is that one too, but
# for the tests of a server of several models.
PROGRAM = """#!{python}
import os, sys
command, model, args, out, named = {command!r}, {model!r}, sys.argv[1:], [], False
while args:
    flag = args.pop(0)
    if flag in ("--hf-repo", "--hf-file", "--model-url"):
        args.pop(0)
        if not named:
            out += ["-m", model]
        named = True
    elif flag != "--offline":
        named = named or flag in ("-m", "--model")
        out.append(flag)
if not named and not os.environ.get("SERVER_OF_SEVERAL"):
    out += ["-m", model]
os.execv(command[0], [*command, *out])
"""

# Loaded with -p: the suite starts one server of each preset first, to fetch its model.
PLUGIN = """
import os

def pytest_runtest_setup(item):
    os.environ["SERVER_OF_SEVERAL"] = "1" if "test_router" in item.nodeid else ""

def pytest_collection_finish(session):
    import utils
    utils.ServerPreset.load_all = staticmethod(lambda: None)
"""


def clients_dir():
    found = subprocess.run([sys.executable, ROOT / "scripts/fetch_clients.py"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


class Suite:
    def __init__(self, source, folder, model):
        """A copy, since the tests write beside themselves."""
        self.folder, self.model = pathlib.Path(folder), model
        self.tests = self.folder / "tools/server/tests"
        shutil.copytree(source / "tools/server/tests", self.tests)
        (self.folder / "models").symlink_to(source / "models")  # chat templates
        (self.folder / "plugin").mkdir()
        (self.folder / "plugin/local_models.py").write_text(PLUGIN)
        (self.folder / "plugin/wget.py").write_text("def download(*_):\n    raise OSError('models are local')\n")

    def run(self, name, command, tests):
        """{test: passed} of one server, its skipped tests left out."""
        program = self.folder / name
        program.write_text(PROGRAM.format(python=sys.executable, command=[str(part) for part in command], model=str(self.model)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        report = self.folder / f"{name}.xml"
        env = {**os.environ, "LLAMA_SERVER_BIN_PATH": str(program), "PORT": str(free_port()),
               "PYTHONPATH": os.pathsep.join([str(self.folder / "plugin"), clients_dir()])}
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "local_models", "-p", "no:cacheprovider", "--tb=short",
                               "-m", "not slow", f"--junitxml={report}", *tests], cwd=self.tests, env=env, stdin=subprocess.DEVNULL,
                              stdout=open(self.folder / f"{name}.out", "w"), stderr=subprocess.STDOUT)
        if not report.exists():
            raise SystemExit(f"pytest ended with {done.returncode}:\n" + (self.folder / f"{name}.out").read_text()[-3000:])
        results = {}
        for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
            module = case.get("classname").replace("unit.", "unit/", 1)
            if case.find("skipped") is None:
                results[f"{module}.py::{case.get('name')}"] = case.find("failure") is None and case.find("error") is None
        return results

    def why(self, name, test):
        """What pytest printed of a failed test, its last lines."""
        text = (self.folder / f"{name}.out").read_text()
        short = re.escape(test.split("::")[1])
        found = re.search(rf"_+ {short} _+\n(.*?)(?=\n_{{5,}} |\n=+ )", text, re.S)
        return found.group(1)[-1500:] if found else ""


def read_list():
    """{test: (in CI, reason that it may fail or "")}"""
    tests = {}
    for line in LIST.read_text().splitlines() if LIST.exists() else []:
        if line and not line.startswith("#"):
            test, _, reason = line.partition("  # ")
            mark, _, test = test.partition(" ")
            tests[test.strip()] = (mark == "ci", reason.strip())
    return tests


def write_list(stock, ours, anew):
    """anew: what was not run is in it no more."""
    known = read_list()
    tests = {} if anew else dict(known)
    for test, passed in stock.items():
        tests.pop(test, None)
        if passed:
            ci, reason = known.get(test, (False, ""))
            tests[test] = (ci, "" if ours.get(test) else reason)
    lines = ["# Tests of llama.cpp's server suite that pass with stock llama-server (peer_suite.py --record). \"ci\": CI runs it.",
             "# Behind \"  # \" the reason why one may fail with aurora serve."]
    lines += [f"{'ci' if ci else '--'} {test}" + (f"  # {reason}" if reason else "") for test, (ci, reason) in sorted(tests.items())]
    LIST.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("tests", nargs="*", help="of these files or tests alone")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--model", help="a GGUF (default: aurora-make-tiny-target's)")
    parser.add_argument("--state")
    parser.add_argument("--keep", help="folder for the output and the reports of both")
    options = parser.parse_intermixed_args()
    source = llama_source()
    with tempfile.TemporaryDirectory(prefix="aurora-peer-") as folder:
        model = options.model or f"{folder}/tiny.gguf"
        if not options.model:
            subprocess.run([options.build / "aurora-make-tiny-target", model, "llama", "1", "f16"], check=True)
        suite = Suite(source, folder, model)
        state = pathlib.Path(folder) / "state"
        state.mkdir()
        if options.state:
            copy_newest_draft(options.state, state)
        ours = [options.build.resolve() / "aurora", "serve", "--state", state, "--gate", "off", "--train", "off"]
        begin = time.monotonic()
        if options.record:
            columns = {"stock": suite.run("stock", [source.parent / "build/bin/llama-server"], options.tests or ["unit"])}
            columns["ours"] = suite.run("ours", ours, [test for test, passed in columns["stock"].items() if passed])
            write_list(columns["stock"], columns["ours"], anew=not options.tests)
            for name, results in columns.items():
                print(f"{name}: {sum(results.values())} passed of {len(results)}")
            must = [test for test, passed in columns["stock"].items() if passed]
        else:
            known = read_list()
            must = [test for test, (ci, _) in known.items() if (ci or options.all) and test.startswith(tuple(options.tests or ["unit"]))]
            columns = {"ours": suite.run("ours", ours, must)}
        reasons = {test: reason for test, (_, reason) in read_list().items() if reason}
        worse = [test for test in must if not columns["ours"].get(test) and test not in reasons]
        for test in worse:
            print(f"FAILED {test}\n{suite.why('ours', test)}")
        excused = [test for test in must if not columns["ours"].get(test) and test in reasons]
        print(f"{len(must) - len(worse) - len(excused)} of {len(must)} that pass on stock pass, {len(excused)} have a reason, "
              f"{len(worse)} fail; {time.monotonic() - begin:.0f} s")
        if options.keep:
            for path in [*pathlib.Path(folder).glob("*.out"), *pathlib.Path(folder).glob("*.xml")]:
                shutil.copy(path, options.keep)
    sys.exit(1 if worse or not must else 0)


if __name__ == "__main__":
    main()
