#!/usr/bin/env python3
"""aurora drafts on files: heads written here, as SpecForge, vLLM and speculators write them, become drafts and come back to the
byte; what is broken ends with one sentence and nothing written.

    drafts_test.py BUILD_DIR
"""
import array
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1))
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FF, VOCAB, DRAFT_VOCAB, LAYERS = 64, 4, 2, 16, 80, 258, 32, 6
LAYER = {"specforge": "midlayer", "vllm": "layers.0", "speculators": "layers.0"}
ARCHITECTURE = {"specforge": "LlamaForCausalLMEagle3", "vllm": "Eagle3LlamaForCausalLM", "speculators": "Eagle3Speculator"}


def shapes(layer):
    return {"fc.weight": [HIDDEN, 3 * HIDDEN], "norm.weight": [HIDDEN], "lm_head.weight": [DRAFT_VOCAB, HIDDEN],
            f"{layer}.input_layernorm.weight": [HIDDEN], f"{layer}.hidden_norm.weight": [HIDDEN],
            f"{layer}.post_attention_layernorm.weight": [HIDDEN],
            f"{layer}.self_attn.q_proj.weight": [HEADS * HEAD_DIM, 2 * HIDDEN],
            f"{layer}.self_attn.k_proj.weight": [KV_HEADS * HEAD_DIM, 2 * HIDDEN],
            f"{layer}.self_attn.v_proj.weight": [KV_HEADS * HEAD_DIM, 2 * HIDDEN],
            f"{layer}.self_attn.o_proj.weight": [HIDDEN, HEADS * HEAD_DIM],
            f"{layer}.mlp.gate_proj.weight": [FF, HIDDEN], f"{layer}.mlp.up_proj.weight": [FF, HIDDEN],
            f"{layer}.mlp.down_proj.weight": [HIDDEN, FF]}


def tensors(dialect, rng):
    out = {}
    for name, shape in shapes(LAYER[dialect]).items():
        count = 1
        for length in shape:
            count *= length
        out[name] = ("F32", shape, array.array("f", (rng.uniform(-1, 1) for _ in range(count))).tobytes())
    drafted = sorted(rng.sample(range(VOCAB), DRAFT_VOCAB))
    out["d2t"] = ("I64", [DRAFT_VOCAB], array.array("q", (token - i for i, token in enumerate(drafted))).tobytes())
    out["t2d"] = ("BOOL", [VOCAB], bytes(token in drafted for token in range(VOCAB)))
    return out


def config(dialect):
    layer = {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FF, "num_hidden_layers": 1,
             "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "hidden_act": "silu",
             "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 256, "vocab_size": VOCAB}
    head = {"architectures": [ARCHITECTURE[dialect]], "draft_vocab_size": DRAFT_VOCAB}
    if dialect == "specforge":
        return {**head, **layer, "eagle_config": {"use_aux_hidden_state": True, "eagle_aux_hidden_state_layer_ids": [1, 2, 4]}}
    head["eagle_aux_hidden_state_layer_ids"] = [2, 3, 5]
    if dialect == "vllm":
        return {**head, **layer}
    return {**head, "speculators_model_type": "eagle3", "norm_before_residual": True, "transformer_layer_config": layer}


def write_head(folder, settings, weights):
    folder.mkdir()
    header, data = {}, b""
    for name, (dtype, shape, values) in weights.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(settings))


def read_head(folder):
    raw = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + length])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], raw[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
            for name, entry in header.items()}


def drafts(*args):
    return subprocess.run([BUILD / "aurora", "drafts", *map(str, args)], capture_output=True, text=True, timeout=60, check=False)


class Drafts(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.target = self.dir / "target.gguf"
        subprocess.run([BUILD / "aurora-make-tiny-target", self.target], check=True, capture_output=True)
        self.rng = random.Random(5)

    def refused(self, words, *args, code=1):
        before = sorted(self.dir.rglob("*"))
        run = drafts(*args)
        self.assertEqual(run.returncode, code, run.stderr)
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assertIn(words, run.stderr)
        self.assertEqual(sorted(self.dir.rglob("*")), before)

    def imported(self, dialect):
        head = self.dir / dialect
        weights = tensors(dialect, self.rng)
        write_head(head, config(dialect), weights)
        out = self.dir / f"{dialect}.gguf"
        run = drafts("import", head, "-m", self.target, "-o", out)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return out, weights

    def test_every_dialect_comes_in_and_goes_out_to_the_byte(self):
        for dialect in LAYER:
            draft, weights = self.imported(dialect)
            out = self.dir / f"{dialect}-out"
            run = drafts("export", draft, "--dialect", dialect, "-o", out)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            self.assertEqual(read_head(out), weights)
            said = json.loads((out / "config.json").read_text())
            for key, value in config(dialect).items():
                if isinstance(value, dict):
                    self.assertEqual({name: said[key].get(name) for name in value}, value)
                else:
                    self.assertEqual(said[key], value)

    def test_gguf_goes_in_and_out(self):
        draft, _ = self.imported("specforge")
        for more in ([], ["-m", self.target]):
            copy = self.dir / f"copy{len(more)}.gguf"
            self.assertEqual(drafts("import", draft, "-o", copy, *more).returncode, 0)
            self.assertEqual(copy.read_bytes(), draft.read_bytes())
        self.assertEqual(drafts("export", draft, "--format", "gguf", "--type", "q8_0", "-o", self.dir / "packed").returncode, 0)
        self.assertLess((self.dir / "packed/draft.gguf").stat().st_size, draft.stat().st_size / 2)

    def test_what_is_broken_is_one_sentence(self):
        draft, weights = self.imported("specforge")
        out, head = self.dir / "out.gguf", self.dir / "specforge"
        into = ["-m", self.target, "-o", out]
        self.refused("give the target by -m", "import", head, "-o", out)
        self.refused("cannot be opened", "import", self.dir / "none.gguf", *into)
        self.refused("is not a GGUF file", "import", __file__, *into)
        cut = self.dir / "cut.gguf"
        cut.write_bytes(draft.read_bytes()[:-1000])
        self.refused("ends before its tensor", "import", cut, *into)
        self.refused("ends before its tensor", "export", cut, "-o", self.dir / "new")
        self.refused("is not a draft", "export", self.target, "-o", self.dir / "new")
        self.refused("is there already", "export", draft, "-o", head)
        for key, value, words in (("architectures", ["LlamaForCausalLM"], "is of architecture LlamaForCausalLM"),
                                  ("num_key_value_heads", 0, "num_key_value_heads: 0"), ("draft_vocab_size", 400, "drafts 400 tokens"),
                                  ("hidden_size", 128, "for a target of width 128")):
            (head / "config.json").write_text(json.dumps({**config("specforge"), key: value}))
            self.refused(words, "import", head, *into)
        (head / "config.json").write_text(json.dumps(config("specforge")))
        whole = (head / "model.safetensors").read_bytes()
        (head / "model.safetensors").write_bytes(whole[:-1])
        self.refused("ends before its tensor t2d", "import", head, *into)
        nan = whole[:-300] + b"\xff" * 4 + whole[-296:]
        (head / "model.safetensors").write_bytes(nan)
        self.refused("d2t", "import", head, *into)  # the ids lie there
        other = self.dir / "other"
        write_head(other, config("specforge"), {**weights, "norm.weight": ("F32", [HIDDEN], b"\xff" * 4 * HIDDEN)})
        self.refused("not finite", "import", other, *into)

    def publish(self, version, **more):
        folder = self.dir / "state/drafts"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        manifest = {"format": 1, "version": version, "parent": version - 1, "created_ms": 1_700_000_000_000, "target": "0" * 16,
                    "bytes": 3 << 20, "sha256": "ab" * 32, "trained_tokens": 12_345 * version, "replay_accept_len": 1.5,
                    "replay_accept_len_in_service": 1.25, "reason": f"reason {version}", **more}
        (folder / f"draft-{version:06}.json").write_text(json.dumps(manifest))
        return folder

    def test_list(self):
        state = self.dir / "state"
        self.refused("no draft has been published", "list", "--state", state)
        for version in (1, 2, 3):
            folder = self.publish(version)
        (folder / "draft-000002.gguf").write_bytes(b"weights")
        (folder / "draft-000001.verdict.json").write_text(json.dumps(
            {"format": 1, "version": 1, "kind": "rolled_back", "reason": "worse \"here\"", "live_accept_len": 1.125, "target_steps": 77}))
        (folder / "draft-000009.json").write_text("{")
        listed = json.loads(drafts("list", "--state", state, "--json").stdout)
        self.assertEqual([one["version"] for one in listed], [1, 2, 3])
        self.assertEqual([one["state"] for one in listed], ["put away", "new", "new"])
        self.assertEqual([one["file"] for one in listed], [False, True, False])
        self.assertEqual((listed[0]["live_accept_len"], listed[0]["verdict"], listed[0]["target_steps"]), (1.125, 'worse "here"', 77))
        table = drafts("list", "--state", state).stdout.splitlines()
        self.assertEqual(len(table), 4)
        self.assertEqual(table[2].split(), ["2", "2023-11-14", "22:13", "24,690", "1.500", "3.0", "new"])
        one = drafts("show", "1", "--state", state).stdout
        self.assertIn("published: reason 1", one)
        self.assertIn('put away: worse "here"', one)
        (folder / "draft-000009.json").unlink()  # each look says that it skips it
        self.refused("there is no version 7", "show", "--state", state, "7")
        self.assertEqual(json.loads(drafts("show", "2", "--state", state, "--json").stdout), listed[1])
        self.refused("give the target by -m", "list", code=2)
        self.refused("'x' is not known here", "list", "--state", state, "x", code=2)
        self.refused("state DIR", "list", "--state", state, "-m", self.target, code=2)

    def state_of_three(self):
        """Versions 1 to 3, with weights; 3 is the one that a server found good last."""
        for version in (1, 2, 3):
            folder = self.publish(version)
            (folder / f"draft-{version:06}.gguf").write_bytes(b"weights")
        self.judge(folder, 3, "serving")
        return folder.parent

    def judge(self, folder, version, kind):
        (folder / f"draft-{version:06}.verdict.json").write_text(json.dumps(
            {"format": 1, "version": version, "kind": kind, "reason": "seen", "live_accept_len": 1.5, "target_steps": 9}))

    def done(self, *args):
        run = drafts(*args)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout

    def states(self, state):
        return [(one["state"], one["pinned"]) for one in json.loads(self.done("list", "--state", state, "--json"))]

    def test_pin(self):
        state = self.state_of_three()
        self.assertIn("version 1 is pinned", self.done("pin", "1", "--state", state))
        self.assertEqual((state / "drafts/pinned").read_text(), "1\n")
        self.assertEqual(self.states(state), [("new", True), ("new", False), ("serving", False)])
        self.assertIn("new, pinned", self.done("list", "--state", state))
        self.refused("there is no version 9", "pin", "9", "--state", state)
        self.refused("give the version", "pin", "--state", state, code=2)
        self.refused("'2' is not known here; give one version", "pin", "1", "2", "--state", state, code=2)
        self.refused("version 1 is in service", "rm", "1", "--state", state)
        self.done("unpin", "--state", state)
        self.assertFalse((state / "drafts/pinned").exists())
        self.judge(state / "drafts", 2, "refused")
        self.refused("version 2 was refused: seen", "pin", "2", "--state", state)

    def test_rollback(self):
        state = self.state_of_three()
        self.assertIn("version 3 is put away, version 2 is pinned", self.done("rollback", "--state", state))
        self.assertEqual(self.states(state), [("new", False), ("new", True), ("put away", False)])
        self.assertIn("rolled back by hand to 2", self.done("show", "3", "--state", state))
        self.assertIn("version 2 is put away, version 1 is pinned", self.done("rollback", "1", "--state", state))
        self.refused("there is no version before 1", "rollback", "--state", state)
        self.refused("is the one in service", "rollback", "1", "--state", state)

    def test_rm(self):
        state = self.state_of_three()
        self.refused("version 3 is in service", "rm", "3", "--state", state)
        self.done("rm", "1", "--state", state)
        self.assertEqual(sorted(path.name for path in state.glob("drafts/*.gguf")), ["draft-000002.gguf", "draft-000003.gguf"])
        self.assertIn("gone", self.done("list", "--state", state))
        self.refused("there are no weights of version 1", "rm", "1", "--state", state)

    def test_flags(self):
        self.refused("there is no command 'fetch'", "fetch", code=2)
        self.refused("say where to", "export", "x.gguf", code=2)
        self.refused("--dialect is 'hf'; give specforge, vllm or speculators", "export", "x.gguf", "--dialect", "hf", code=2)
        self.refused("is no --type", "export", "x.gguf", "-o", "y", "--type", "q8_0", code=2)
        self.assertIn("usage: aurora drafts", drafts("--help").stdout)


if __name__ == "__main__":
    unittest.main()
