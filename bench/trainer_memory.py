#!/usr/bin/env python3
"""What the trainer holds of the memory: its RSS by optimizer steps, on made-up answers of a length.

    bench/trainer_memory.py --model MODEL.gguf [--build DIR] [--answers 40] [--served 8000] [--steps 200] [--flags "..."]

One line a sample: steps, RSS, of it anonymous (weights, moments, window, activations) and of files (mapped: other processes'
too, and the kernel takes them back where memory is short), and the largest so far.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAMPLES = 8


def memory_mib(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return [int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "RssAnon", "RssFile", "VmHWM")]


def steps_of(state):
    try:
        lines = (state / "trainer.status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(float(line.split()[1])) for line in lines if line.startswith("aurora:trainer_steps_total ")), 0)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", required=True)
    options.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options.add_argument("--answers", type=int, default=40)
    options.add_argument("--prompt", type=int, default=200)
    options.add_argument("--served", type=int, default=8000)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--flags", default="", help="of aurora-train")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="aurora-memory-") as folder:
        state = pathlib.Path(folder)
        subprocess.run([args.build / "aurora-fill-traces", args.model, state / "traces", str(args.answers), str(args.prompt),
                        str(args.served)], check=True)
        trainer = subprocess.Popen([args.build / "aurora-train", "--model", args.model, "--state", state, *args.flags.split()])
        print("| steps | RSS, MiB | anonymous | of files | largest |\n|---|---|---|---|---|", flush=True)
        try:
            shown, steps = -1, 0
            while steps < args.steps:
                time.sleep(0.5)
                if trainer.poll() is not None:
                    sys.exit(f"the trainer ended with {trainer.returncode}")
                steps = steps_of(state)
                if steps * SAMPLES // args.steps > shown:
                    shown = steps * SAMPLES // args.steps
                    print(f"| {steps} | " + " | ".join(map(str, memory_mib(trainer.pid))) + " |", flush=True)
        finally:
            trainer.terminate()
            trainer.wait(60)


if __name__ == "__main__":
    main()
