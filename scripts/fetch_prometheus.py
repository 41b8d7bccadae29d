#!/usr/bin/env python3
"""Puts Debian's prometheus and promtool, which tests start, into the cache and prints their folder.

    scripts/fetch_prometheus.py

The package is unpacked and not installed: installed it would start a service. Its version is the distribution's, as for every
other package that setup.sh names, and apt checks its signature. Programs that are there already are taken as they are.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from fetch_model import PROGRAM, cache_root

PROGRAMS = ("prometheus", "promtool")


def fetch(final):
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prometheus-", dir=final.parent) as folder:
        if os.geteuid() == 0:  # apt would rather read as a user of its own, who may not write here
            download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "prometheus"]
        else:
            download = ["apt-get", "download", "prometheus"]
        subprocess.run(download, cwd=folder, check=True, stdout=sys.stderr)
        package = next(pathlib.Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, f"{folder}/all"], check=True)
        programs = pathlib.Path(folder, "programs")
        programs.mkdir()
        for name in PROGRAMS:
            shutil.copy2(f"{folder}/all/usr/bin/{name}", programs / name)
        try:
            programs.rename(final)
        except OSError:  # another one was quicker
            if not (final / PROGRAMS[-1]).exists():
                raise


def main():
    final = cache_root() / "prometheus"
    if not (final / PROGRAMS[-1]).exists():
        try:
            fetch(final)
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:
            sys.exit(f"{PROGRAM}: prometheus cannot be fetched with apt ({error}); run apt-get update, or put prometheus and "
                     f"promtool into {final}")
    print(final)


if __name__ == "__main__":
    main()
