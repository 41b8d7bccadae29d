"""Random requests for fuzz_drop_in.py: a scenario is a list of steps, plain JSON, drawn from one seed.

A step: {"do": "post", "path", "body"}, {"do": "cut", ..., "after": events read before the client goes} or
{"do": "together", "steps": [posts sent at once]}.
"""

WORDS = ("salt river a the of and town bread stone 1 2 3 4 5 6 7 8 9 10 north Arles walks if not return self def ( ) : "
         "{ } = x y i for in \n\n \n \t é 猫 🙂 , . ; \" ' <b> % zero").split(" ")
GRAMMARS = ['root ::= [a-z ]+', 'root ::= ("yes" | "no" | "never")', 'root ::= "a"* "b"', 'root ::= [0-9]+ ("." [0-9]+)?',
            'root ::= line+\nline ::= "- " [^\\n]* "\\n"', 'root ::= "\\"" [^"]{0,12} "\\""', 'root ::= [^x]*',
            'root ::= (', 'root ::= missing']
SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 4},
    {"type": "object", "properties": {"ok": {"type": "boolean"}}},
    {"enum": ["left", "right"]},
    {"type": "string", "pattern": "^[a-c]{1,5}$"},
]
TOOLS = [("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
         ("add", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}})]


class Maker:
    """draw: random.Random. pool: what the target says, from learn_pool(). slots, context: of the server."""

    def __init__(self, draw, pool, slots, context):
        self.draw, self.pool, self.slots, self.context = draw, pool, slots, context
        self.prompts, self.files = [], 0

    def chance(self, share):
        return self.draw.random() < share

    def scenario(self):
        return [self.step() for _ in range(self.draw.choice((1, 1, 2, 3, 4, 6)))]

    def step(self):
        kind = self.draw.random()
        if kind < 0.10:
            return {"do": "together", "steps": [self.request() for _ in range(self.draw.randint(2, 4))]}
        if kind < 0.18:
            step = self.request()
            step["body"]["stream"] = self.chance(0.9)
            return {**step, "do": "cut", "after": self.draw.choice((0, 1, 2, 5, 12)) if step["body"]["stream"] else 0}
        if kind < 0.28:
            return self.slot_action()
        return self.request()

    def slot_action(self):
        action = self.draw.choice(("save", "restore", "restore", "erase"))
        if action == "save":
            self.files += 1
        body = {} if action == "erase" else {"filename": f"slot{self.draw.randint(0, max(self.files, 1))}.bin"}
        return {"do": "post", "path": f"/slots/{self.draw.randrange(self.slots)}?action={action}", "body": body}

    def request(self):
        makers = ((self.completion, 8), (self.chat, 6), (self.oai_completion, 2), (self.messages, 2), (self.responses, 2),
                  (self.infill, 2), (self.control, 1))
        make = self.draw.choices([maker for maker, _ in makers], [weight for _, weight in makers])[0]
        path, body = make()
        return {"do": "post", "path": path, "body": body}

    # Prompts

    def text(self, words=None):
        draw = self.draw
        kind = draw.random()
        if kind < 0.3 and self.prompts:  # a prefix of an earlier one: cells are kept
            old = draw.choice(self.prompts)
            return old[:draw.randint(1, len(old))] + (self.text(3) if self.chance(0.7) else "")
        count = words or draw.choice((1, 3, 8, 20, 20, 60))
        if kind < 0.5:  # text that repeats itself is drafted from
            part = " ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 7)))
            text = " ".join([part] * max(2, count // 5))
        elif kind < 0.7:
            text = "".join(draw.choice(self.pool["texts"]) for _ in range(count))
        else:
            text = " ".join(draw.choice(WORDS) for _ in range(count))
        if self.chance(0.03):
            text *= 40  # may exceed the context
        if self.chance(0.03):
            text = ""
        if text:
            self.prompts.append(text)
        return text

    def prompt(self):
        kind = self.draw.random()
        if kind < 0.75:
            return self.text()
        tokens = [self.draw.choice(self.pool["tokens"]) for _ in range(self.draw.choice((1, 4, 30)))]
        if kind < 0.85:
            return tokens
        if kind < 0.93:
            return [self.text(3), *tokens[:4], self.text(2)]
        return [self.text(4), self.text(4)]

    def talk(self):
        turns = [{"role": "system", "content": self.text(4)}] if self.chance(0.3) else []
        for _ in range(self.draw.choice((0, 0, 1, 2))):
            turns += [{"role": "user", "content": self.text()}, {"role": "assistant", "content": self.text()}]
        return turns + [{"role": "user", "content": self.text()}]

    # What a request asks for

    def sampling(self):
        """Greedy half of the time. The same seed is the same text; some samplers draw at temperature 0 too."""
        draw, body = self.draw, {"temperature": 0, "seed": self.draw.randrange(1 << 31)}
        if self.chance(0.5):
            body["temperature"] = draw.choice((0.1, 0.5, 0.8, 1.0, 1.5))
        extra = {"top_k": (1, 5, 40, 0), "top_p": (0.1, 0.9, 1.0), "min_p": (0.0, 0.05, 0.5), "typical_p": (0.3, 0.9),
                 "repeat_penalty": (1.1, 1.5), "presence_penalty": (0.5, -0.5), "frequency_penalty": (0.5, 2.0),
                 "dry_multiplier": (0.8,), "mirostat": (1, 2), "dynatemp_range": (0.4,), "top_n_sigma": (1.0,),
                 "xtc_probability": (0.5,), "min_keep": (2,), "repeat_last_n": (0, 8, -1), "adaptive_target": (0.4,),
                 "samplers": (["top_k", "temperature"], ["temperature", "min_p"], [], ["penalties", "dry", "top_p"])}
        for name in draw.sample(sorted(extra), draw.choice((0, 0, 1, 2))):
            body[name] = draw.choice(extra[name])
        if "xtc_probability" in body:
            body["xtc_threshold"] = 0.1
        if self.chance(0.25):
            body["logit_bias"] = self.bias()
        return body

    def bias(self):
        draw = self.draw
        if self.chance(0.4):  # answers that end, in the middle of a chain too
            return [[self.pool["end"], draw.choice((2.0, 4.0, 8.0))]]
        tokens = [draw.choice(self.pool["tokens"]) for _ in range(draw.randint(1, 3))]
        pairs = [[token, draw.choice((-5.0, 3.0, 20.0, False))] for token in tokens]
        if self.chance(0.2):
            pairs.append([draw.choice(self.pool["texts"]), 1.5])
        return pairs

    def common(self, names=("n_predict",)):
        draw, body = self.draw, self.sampling()
        body[draw.choice(names)] = draw.choice((1, 2, 8, 20, 40, 40, 64))
        if self.chance(0.04):
            body[names[0]] = 0 if self.chance(0.3) else -1
        if self.chance(0.25):
            body["stop"] = [draw.choice(self.pool["texts"]) for _ in range(draw.randint(1, 3))]
        if self.chance(0.35):
            body["stream"] = True
        if self.chance(0.15):
            body["cache_prompt"] = False
        if self.chance(0.2):
            body["id_slot"] = draw.randrange(self.slots)
        if self.chance(0.1):
            body["ignore_eos"] = True
        if self.chance(0.08):
            body["n_cache_reuse"] = draw.choice((1, 8))
        if self.chance(0.05):
            body["timings_per_token"] = True
        if self.chance(0.06):
            body["n_keep"] = draw.choice((-1, 4))
        return body

    def completion(self):
        draw, body = self.draw, {"prompt": self.prompt(), **self.common()}
        if self.chance(0.25):
            body["n_probs"] = draw.choice((1, 3, 10))
            body["post_sampling_probs"] = self.chance(0.4)
        if self.chance(0.15):
            body["n"] = draw.randint(2, self.slots) if self.slots > 1 else 1
        if self.chance(0.15):
            body["grammar"] = draw.choice(GRAMMARS)
        elif self.chance(0.1):
            body["json_schema"] = draw.choice(SCHEMAS)
        for name, share in (("return_tokens", 0.3), ("return_progress", 0.1), ("verbose", 0.05)):
            if self.chance(share):
                body[name] = True
        if self.chance(0.05):
            body["n_indent"] = 2
        if self.chance(0.04):
            body["response_fields"] = ["content", "tokens_predicted", "generation_settings/n_predict", "stop_type"]
        if self.chance(0.03):
            body.update(t_max_predict_ms=draw.choice((1, 20)), stream=False)
        return "/completion", body

    def oai_completion(self):
        body = {"prompt": self.prompt(), **self.common(("max_tokens",))}
        if self.chance(0.3):
            body["logprobs"] = self.draw.choice((1, 3))
        if self.chance(0.15):
            body["n"] = min(2, self.slots)
        if self.chance(0.1):
            body["echo"] = True
        return "/v1/completions", self.stream_options(body)

    def stream_options(self, body):
        if body.get("stream") and self.chance(0.3):
            body["stream_options"] = {"include_usage": True}
        return body

    def chat(self):
        draw, body = self.draw, {"messages": self.talk(), **self.common(("max_tokens", "max_completion_tokens"))}
        if self.chance(0.3):
            body.update(logprobs=True, top_logprobs=draw.choice((0, 1, 5)))
        if self.chance(0.1):
            body["n"] = min(draw.randint(2, 4), self.slots)
        form = draw.random()
        if form < 0.12:
            body["tools"] = [{"type": "function", "function": {"name": name, "description": "It does.", "parameters": schema}}
                             for name, schema in TOOLS[:draw.randint(1, 2)]]
            body["tool_choice"] = draw.choice(("auto", "required", "none"))
            body["parallel_tool_calls"] = self.chance(0.5)
        elif form < 0.2:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "it", "schema": draw.choice(SCHEMAS)}}
        elif form < 0.24:
            body["response_format"] = {"type": "json_object"}
        elif form < 0.28:
            body["grammar"] = draw.choice(GRAMMARS)
        if self.chance(0.1) and body["messages"][-1]["role"] == "user":
            body["messages"].append({"role": "assistant", "content": self.text(3)})  # to be gone on with
        return "/v1/chat/completions", self.stream_options(body)

    def messages(self):
        body = {"messages": [turn for turn in self.talk() if turn["role"] != "system"], **self.common(("max_tokens",))}
        body["temperature"] = 0  # the server hands no seed on here
        if "stop" in body:
            body["stop_sequences"] = body.pop("stop")
        if self.chance(0.3):
            body["system"] = self.text(4)
        if self.chance(0.15):
            body["tools"] = [{"name": name, "description": "It does.", "input_schema": schema} for name, schema in TOOLS]
            body["tool_choice"] = {"type": self.draw.choice(("auto", "any"))}
        return "/v1/messages", body

    def responses(self):
        body = {"input": self.text() if self.chance(0.5) else self.talk(), **self.common(("max_output_tokens",))}
        body.pop("stop", None)
        if self.chance(0.3):
            body["instructions"] = self.text(4)
        if self.chance(0.15):
            body["tools"] = [{"type": "function", "name": name, "description": "It does.", "parameters": schema}
                             for name, schema in TOOLS]
            body["tool_choice"] = self.draw.choice(("auto", "required"))
        return "/v1/responses", body

    def infill(self):
        body = {"input_prefix": self.text(6), "input_suffix": self.text(4), **self.common()}
        if self.chance(0.4):
            body["prompt"] = self.text(2)
        if self.chance(0.3):
            body["input_extra"] = [{"filename": "a.py", "text": self.text(10)}]
        return "/infill", body

    def control(self):
        """Answered without the target's decoding, or refused."""
        draw = self.draw
        return draw.choice((
            ("/tokenize", {"content": self.text(), "with_pieces": True}),
            ("/apply-template", {"messages": self.talk()}),
            ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": self.text()}]}),
            ("/completion", {"prompt": self.text(), "n_predict": 4, "id_slot": self.slots + 3, "temperature": 0}),
            ("/completion", {"prompt": {"wrong": 1}}),
            ("/completion", {"prompt": [[-1, 1 << 30]], "n_predict": 4}),
            ("/v1/chat/completions", {"messages": [], "max_tokens": 8, "temperature": 0, "seed": 1}),
            ("/v1/chat/completions", {"messages": self.talk(), "max_tokens": 4, "response_format": {"type": "wrong"}}),
        ))


def learn_pool(ask, end):
    """Pieces of what the target says: stop strings, biases and prompts are drawn from them, so that they occur.

    ask(body): an answer of /completion. end: its end token.
    """
    texts, tokens = set(), set()
    for number, prompt in enumerate(("1, 2, 3, 4, 5,", "The town of", "def f(x):", "salt salt salt")):
        for temperature in (0, 1.0):
            answer = ask({"prompt": prompt, "n_predict": 40, "temperature": temperature, "seed": number + 1,
                          "return_tokens": True, "cache_prompt": False, "ignore_eos": True})
            tokens.update(answer["tokens"])
            content = answer["content"]
            texts.update(content[at:at + size] for at in range(0, len(content), 3) for size in (1, 2, 4))
    return {"texts": sorted(text for text in texts if text.strip()), "tokens": sorted(tokens), "end": end}
