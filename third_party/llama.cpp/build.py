#!/usr/bin/env python3
"""Fetches the pinned llama.cpp, applies our edits, builds it once into a cache outside the tree, prints the place.

The source comes inside the PyPI source package of llama-cpp-python (sha256 below). The cache entry's name holds the
source's hash, the edits, the flags and the CPU, so another machine type or another edit builds its own; ccache makes
the second one cheap. Standard output carries one line, the entry's folder; progress goes to standard error.
"""
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
FLAGS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_COMMON=ON", "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=ON", "-DGGML_CCACHE=OFF",
]
TARGETS = ["llama-server", "llama-server-impl"]
# Their layer outputs have rows of several streams (gemma3n), they do not write token by token, or are drafts themselves.
NO_TARGETS = {"gemma3n", "t5", "t5encoder", "dream", "llada", "llada-moe", "rnd1", "gemma-embedding", "llama-embed", "dflash", "pockettts",
              "qwen3tts"}
KEEP_ENTRIES = 4  # older cache entries are removed: each is about 400 MB

HERE = pathlib.Path(__file__).resolve().parent


def say(text):
    print(f"llama.cpp: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(f"error: {text}")
    sys.exit(1)


def cache_root():
    if os.environ.get("AURORA_CACHE"):
        return pathlib.Path(os.environ["AURORA_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "aurora"


def cpu_flags():
    """-march=native builds differ where the CPU's features differ."""
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("flags") or line.startswith("Features"):
                return " ".join(sorted(line.split(":", 1)[1].split()))
    return "unknown"


def extra_flags():
    """AURORA_LLAMA_FLAGS="-DGGML_CUDA=ON ...": more CMake flags of llama.cpp, part of the cache entry's name."""
    return os.environ.get("AURORA_LLAMA_FLAGS", "").split()


def edit_files():
    return sorted((HERE / "edits").glob("*.edit"))


def entry_name():
    digest = hashlib.sha256()
    for part in [SHA256, cpu_flags(), *FLAGS, *extra_flags(), *TARGETS]:
        digest.update(part.encode() + b"\0")
    for path in [HERE / "aurora_seam.h", HERE / "build.py", *edit_files()]:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(downloads):
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / f"llama_cpp_python-{VERSION}.tar.gz"
    if not path.exists() or file_sha256(path) != SHA256:
        say(f"fetching {PACKAGE} {VERSION} (77 MB)")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
                   "-d", str(downloads), f"{PACKAGE}=={VERSION}"]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            fail("the download failed; run this by hand and look: " + " ".join(command))
    if file_sha256(path) != SHA256:
        fail(f"{path} has sha256 {file_sha256(path)}, pinned is {SHA256}; remove it and run again")
    return path


def unpack(archive, source):
    say("unpacking")
    prefix = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/"
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.name.startswith(prefix):
                continue
            member.name = member.name[len(prefix):]
            if member.name and ".." not in pathlib.PurePosixPath(member.name).parts:
                tar.extract(member, source)


def parse_edits(path):
    """Yields (file, kind, anchor, text) of each edit; the format is described in edits/README.md."""
    edits, current, section = [], None, None
    for line in path.read_text().splitlines(keepends=True):
        word = line.strip()
        if line.startswith("file: "):
            current = {"file": line[6:].strip(), "anchor": "", "text": "", "kind": None}
            edits.append(current)
            section = None
        elif current and section is None and word in ("after:", "before:", "replace:"):
            current["kind"] = word[:-1]
            section = "anchor"
        elif section == "anchor" and line.rstrip("\n") in ("insert:", "with:"):
            section = "text"
        elif section and not (line.startswith("# ") and section == "text"):
            current[section] += line
    for edit in edits:
        anchor, text = edit["anchor"].strip("\n") + "\n", edit["text"].rstrip("\n") + "\n"
        yield edit["file"], edit["kind"], anchor, text


def apply_edits(source):
    shutil.copy(HERE / "aurora_seam.h", source / "common" / "aurora_seam.h")
    for path in edit_files():
        for name, kind, anchor, text in parse_edits(path):
            target = source / name
            before = target.read_text() if target.exists() else ""
            found = before.count(anchor)
            if found != 1:
                first = anchor.splitlines()[0].strip()
                fail(f"{path.name}: its anchor in {name} was found {found} times, must be exactly once: \"{first}\"")
            new = {"after": anchor + text, "before": text + anchor, "replace": text}[kind]
            target.write_text(before.replace(anchor, new))


def borrowed_graphs(models_h):
    """Models that build another one's graph: by a name for it, or as its subclass without one of their own."""
    lent = {}
    for model, base, body in re.findall(r"struct (llama_model_\w+) : public (llama_model_\w+) \{(.*?)\n\};", models_h, re.DOTALL):
        named = re.search(r"using graph\s*=\s*(llama_model_\w+)::graph", body)
        if named:
            lent[model] = named.group(1)
        elif base != "llama_model_base" and not re.search(r"(struct|class) graph\b", body):
            lent[model] = base
    return lent


def write_tap_architectures(source):
    """Architectures whose graph sets or names its layer outputs, as a C++ list: others are refused before loading."""
    model_cc = (source / "src" / "llama-model.cpp").read_text()
    names = dict(re.findall(r"\{ (LLM_ARCH_\w+),\s+\"([^\"]+)\"", (source / "src" / "llama-arch.cpp").read_text()))
    tapped = set()
    for path in (source / "src" / "models").glob("*.cpp"):
        text = path.read_text()
        one_stream = "build_hc_post(" not in text  # hyper-connections keep several, and only some have a tap of their mean
        if "res->t_layer_inp[" in text or one_stream and "\"l_out\"" in text:
            tapped.update(re.findall(r"(llama_model_\w+)::", text))
    lent = borrowed_graphs((source / "src" / "models" / "models.h").read_text())
    while more := {model for model, lender in lent.items() if lender in tapped} - tapped:
        tapped |= more
    lines, pending = [], []
    for line in model_cc.splitlines():
        case = re.match(r"\s*case (LLM_ARCH_\w+):", line)
        built = re.search(r"return new (llama_model_\w+)\(", line)
        if case:
            pending.append(case.group(1))
        if built:
            if built.group(1) in tapped:
                lines += [f"    \"{names[arch]}\",\n" for arch in pending if names.get(arch, "gemma3n") not in NO_TARGETS]
            pending = []
        elif line.strip() and not case:
            pending = []
    if len(lines) < 20:
        fail("the list of architectures with layer outputs could not be read from llama-model.cpp")
    header = "// Made by build.py.\n#pragma once\n\ninline constexpr const char* kTapArchitectures[] = {\n"
    (source / "common" / "aurora_tap_architectures.h").write_text(header + "".join(sorted(lines)) + "};\n")


def build(entry):
    environment = dict(os.environ, CCACHE_BASEDIR=str(entry), CCACHE_NOHASHDIR="1", CCACHE_SLOPPINESS="time_macros")
    flags = FLAGS + extra_flags()
    if shutil.which("ccache"):
        flags += ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    jobs = str(os.cpu_count() or 2)
    log_path = entry / "build.log"
    say(f"building with {jobs} jobs, about 7 minutes on 2 cores the first time; log: {log_path}")
    with open(log_path, "w") as log:
        for command in (["cmake", "-S", "src", "-B", "build", "-G", "Ninja", *flags],
                        ["cmake", "--build", "build", "-j", jobs, "--target", *TARGETS]):
            if subprocess.run(command, cwd=entry, env=environment, stdout=log, stderr=log).returncode != 0:
                sys.stderr.write("".join(open(log_path).readlines()[-30:]))
                fail(f"{' '.join(command[:3])} failed; the whole log is {log_path}")
            if "OPENSSL_VERSION_SUPPORTED:INTERNAL=1" not in (entry / "build" / "CMakeCache.txt").read_text():
                fail("OpenSSL 3 was not found, which TLS needs; run scripts/setup.sh")


def prune(root, keep_entry):
    entries = [path for path in root.iterdir() if path.is_dir() and path != keep_entry and path.name != "downloads"]
    entries.sort(key=lambda path: path.stat().st_mtime)
    for old in entries[: max(0, len(entries) - (KEEP_ENTRIES - 1))]:
        say(f"removing the old cache entry {old.name}")
        shutil.rmtree(old, ignore_errors=True)


def main():
    root = cache_root() / "llama.cpp"
    root.mkdir(parents=True, exist_ok=True)
    entry = root / entry_name()
    with open(root / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (entry / "done").exists():
            archive = fetch(root / "downloads")
            if not (entry / "unpacked").exists():
                shutil.rmtree(entry, ignore_errors=True)
                (entry / "src").mkdir(parents=True)
                unpack(archive, entry / "src")
                apply_edits(entry / "src")
                write_tap_architectures(entry / "src")
                (entry / "unpacked").touch()
            build(entry)
            (entry / "done").touch()
            prune(root, entry)
    os.utime(entry)
    print(entry)


if __name__ == "__main__":
    main()
