#!/usr/bin/env python3
"""One training step of the same draft in plain PyTorch and in our trainer, one thread each, taking turns.

    bench/train/pytorch_step.py --build build [--rounds 7] [--prompt 100] [--served 112] [--steps 3] [--vocab 4096]

Plain: one module, every row of the sequence through the layer, a mask of rows x rows for the steps of test-time training,
logits of all rows, log_softmax and KL against a dense law, autograd, torch.optim.AdamW. Needs Debian's python3-torch.
Supervised rows are the columns of the answer, in both. Ours is taken with all rows of all steps, and with four of ten
rows going on to the next step, as it is where four of ten drafted tokens are accepted. The machine's product rate is that of one large product.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read once at start; torch.set_num_threads() does not reach its pool
import torch
import torch.nn.functional as F

D, HEADS, KV, DIM, FF = 576, 9, 3, 64, 1536  # SmolLM2-135M


def rms(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x, position):
    angle = position[:, None] * 10000.0 ** (-torch.arange(0, DIM, 2) / DIM)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Draft(torch.nn.Module):
    def __init__(self, vocab):
        super().__init__()
        def matrix(rows, columns):
            return torch.nn.Parameter(torch.randn(rows, columns) * 0.02)
        self.fc, self.wq = matrix(D, 3 * D), matrix(HEADS * DIM, 2 * D)
        self.wk, self.wv, self.wo = matrix(KV * DIM, 2 * D), matrix(KV * DIM, 2 * D), matrix(D, HEADS * DIM)
        self.gate, self.up, self.down, self.head = matrix(FF, D), matrix(FF, D), matrix(D, FF), matrix(vocab, D)
        self.norms = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(D)) for _ in range(4)])

    def forward(self, taps, embeds, steps):
        """taps [L, 3D], embeds [L + steps, D] -> logits of each step [L, V]."""
        rows = taps.shape[0]
        causal = torch.full((rows, rows), float("-inf")).triu(1)
        diagonal = torch.full((rows, rows), float("-inf")).fill_diagonal_(0.0)
        state, keys, values, masks, out = taps @ self.fc.T, [], [], [], []
        for k in range(steps):
            position = torch.arange(rows) + float(k)
            z = torch.cat((rms(embeds[k:k + rows], self.norms[0]), rms(state, self.norms[1])), -1)
            q = rotate((z @ self.wq.T).view(rows, HEADS, DIM), position)
            keys.append(rotate((z @ self.wk.T).view(rows, KV, DIM), position).repeat_interleave(HEADS // KV, 1))
            values.append((z @ self.wv.T).view(rows, KV, DIM).repeat_interleave(HEADS // KV, 1))
            masks.append(causal if k == 0 else diagonal)
            scores = torch.einsum("qhd,khd->hqk", q, torch.cat(keys)) / DIM**0.5 + torch.cat(masks, 1)
            attention = torch.einsum("hqk,khd->qhd", scores.softmax(-1), torch.cat(values)).reshape(rows, -1)
            h = state + attention @ self.wo.T
            u = rms(h, self.norms[2])
            state = h + (F.silu(u @ self.gate.T) * (u @ self.up.T)) @ self.down.T
            out.append(rms(state, self.norms[3]) @ self.head.T)
        return out


class PlainStep:
    def __init__(self, options, supervised_only):
        torch.manual_seed(1)
        self.options = options
        self.rows = options.served - 1 + (0 if supervised_only else options.prompt - 1)
        self.draft = Draft(options.vocab)
        self.optimizer = torch.optim.AdamW(self.draft.parameters(), lr=1e-3)
        self.taps = torch.randn(self.rows, 3 * D) * 0.3
        self.embeds = torch.randn(self.rows + options.steps, D)
        self.law = torch.rand(self.rows + options.steps, options.vocab).softmax(-1)
        self.mask = torch.zeros(self.rows)
        self.mask[-(options.served - 1):] = 1.0

    def seconds(self, repeats=8):
        times = []
        for repeat in range(repeats + 1):
            begin = time.perf_counter()
            self.optimizer.zero_grad()
            loss = 0.0
            for k, logits in enumerate(self.draft(self.taps, self.embeds, self.options.steps)):
                rows = -(self.law[k:k + self.rows] * F.log_softmax(logits, -1)).sum(-1)
                loss = loss + 0.8**k * (rows * self.mask).sum() / self.mask.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.draft.parameters(), 1.0)
            self.optimizer.step()
            if repeat > 0:
                times.append(time.perf_counter() - begin)
        return statistics.median(times)


def product_rate():
    """Multiply-adds a second of one large product."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begin)
    return 2048**3 / min(times)


def step_products(options):
    """Multiply-adds that a step of ours needs: forward and twice that backward for supervised rows, keys and values of the prompt."""
    layer = HEADS * DIM * 2 * D + 2 * KV * DIM * 2 * D + D * HEADS * DIM + 3 * FF * D + options.vocab * D
    rows, context = options.served - 1, options.prompt - 1
    return 3 * rows * (options.steps * layer + 3 * D * D) + context * (3 * D * D + 2 * KV * DIM * 2 * D)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    for name, value in (("prompt", 100), ("served", 112), ("steps", 3), ("vocab", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = [text for name in ("prompt", "served", "steps", "vocab") for text in (f"--{name}", str(getattr(options, name)))]

    def ours(unreached):
        done = subprocess.run([options.build / "aurora-learner-bench", *size, "--unreached", unreached],
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["seconds"]

    plain, short = PlainStep(options, False), PlainStep(options, True)
    sides = {"ours": lambda: ours("1"), "ours, 4 of 10 rows go on": lambda: ours("0.4"), "plain": plain.seconds, "plain, answer rows alone": short.seconds}
    times, rates = {name: [] for name in sides}, []
    for _ in range(options.rounds):
        rates.append(product_rate())
        for name, run in sides.items():
            times[name].append(run())
    columns = options.served - 1
    for name, values in times.items():
        print(f"{name:28} {columns / statistics.median(values):8.1f} rows/s")
    for mine in ("ours", "ours, 4 of 10 rows go on"):
        for name in ("plain", "plain, answer rows alone"):
            ratio = statistics.median(b / a for a, b in zip(times[mine], times[name]))
            print(f"{mine}, against {name}: {ratio:.2f}")
    rate = statistics.median(rates)
    share = statistics.median(step_products(options) / seconds / r for seconds, r in zip(times["ours"], rates))
    print(f"one large product {rate / 1e9:.1f} G multiply-adds/s; a step of ours runs at {share:.2f} of it")


if __name__ == "__main__":
    main()
