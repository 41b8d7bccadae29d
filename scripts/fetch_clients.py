#!/usr/bin/env python3
"""Fetches the pinned Python clients that tests drive the server with into the cache and prints their folder.

    scripts/fetch_clients.py        and then PYTHONPATH=FOLDER python3 ...

Versions and sha256 of every wheel stand in scripts/clients.txt. Nothing is installed into the system: the folder is put
beside its final name and gets it when it is whole, so what has the name was checked.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from fetch_model import cache_root

PINS = pathlib.Path(__file__).resolve().parent / "clients.txt"


def fetch(final):
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{final.name}.{os.getpid()}.part")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
               "--only-binary", ":all:", "--target", str(partial), "-r", str(PINS)]
    try:
        for _ in (1, 2):  # a registry that hiccups once is common
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0:
                partial.rename(final)
                return
            shutil.rmtree(partial, ignore_errors=True)
        raise SystemExit(f"fetch_clients: cannot install what {PINS.name} pins; by hand: {' '.join(command)}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    final = pathlib.Path(cache_root()) / "clients" / f"{version}-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:16]}"
    if not final.exists():
        fetch(final)
    print(final)


if __name__ == "__main__":
    main()
