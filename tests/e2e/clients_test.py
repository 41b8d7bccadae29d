#!/usr/bin/env python3
"""The official clients, as their users call them, and README's curl lines as they stand.

    tests/e2e/clients_test.py BUILD_DIR
"""
import json
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from aurora_server import ROOT, Server, default_model, llama_source

sys.path.insert(0, subprocess.run([sys.executable, ROOT / "scripts/fetch_clients.py"], capture_output=True, text=True,
                                  check=True).stdout.strip())
import anthropic
import openai

BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ROOT / "build")
COUNT = "Count from 1 to 30, with commas."
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Repeated text is drafted from without a learnt draft.
        cls.server = Server(BUILD, default_model(), "-t", "1", "-c", "4096", "-np", "2", "--gate", "off", "--train", "off",
                            "--deterministic", "on")
        cls.openai = openai.OpenAI(base_url=f"http://127.0.0.1:{cls.server.port}/v1", api_key="none", max_retries=0)
        cls.plain = cls.openai.with_options(default_headers={"X-Aurora-Speculate": "off"})
        cls.anthropic = anthropic.Anthropic(base_url=f"http://127.0.0.1:{cls.server.port}", api_key="none", max_retries=0)
        cls.model = cls.openai.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def chat(self, client=None, content=COUNT, **fields):
        fields = {"max_tokens": 60, "temperature": 0, **fields}
        return (client or self.openai).chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": content}], **fields)

    def test_openai_chat_and_stream(self):
        before = self.server.metric("spec_decode_num_accepted_tokens_total")
        whole = self.chat()
        self.assertGreater(self.server.metric("spec_decode_num_accepted_tokens_total"), before)
        self.assertEqual(whole.choices[0].message.content, self.chat(self.plain).choices[0].message.content)
        pieces, usage = [], None
        for chunk in self.chat(stream=True, stream_options={"include_usage": True}):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
            usage = chunk.usage or usage
        self.assertEqual("".join(pieces), whole.choices[0].message.content)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_openai_tools(self):
        """SmolLM2's template knows no tools, so that a call is not made here: what is answered is the same."""
        tools = [{"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters": WEATHER}}]
        fields = {"content": "How is the weather in Arles?", "tools": tools, "tool_choice": "required"}
        drafted, plain = (self.chat(client, **fields).choices[0] for client in (self.openai, self.plain))
        self.assertEqual((drafted.message, drafted.finish_reason), (plain.message, plain.finish_reason))
        pieces = [choice.delta.content or "" for chunk in self.chat(stream=True, **fields) for choice in chunk.choices]
        self.assertEqual("".join(pieces), drafted.message.content)

    def test_openai_structured_output(self):
        answer = self.chat(content="Who are you?", response_format={
            "type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}})
        self.assertEqual(sorted(json.loads(answer.choices[0].message.content)), ["age", "name"])

    def test_openai_logprobs(self):
        drafted, plain = (self.chat(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
                          for client in (self.openai, self.plain))
        self.assertEqual(drafted, plain)
        self.assertTrue(all(len(token.top_logprobs) == 3 for token in drafted))

    def test_openai_completions_and_responses(self):
        fields = {"model": self.model, "temperature": 0}
        texts = [client.completions.create(prompt="1, 2, 3, 4, 5, 6,", max_tokens=40, **fields).choices[0].text
                 for client in (self.openai, self.plain)]
        self.assertEqual(*texts)
        answers = [client.responses.create(input=COUNT, max_output_tokens=40, **fields).output_text
                   for client in (self.openai, self.plain)]
        self.assertTrue(answers[0])
        self.assertEqual(*answers)

    def test_openai_cancel(self):
        """A client that goes away frees its slot, and the next answer is whole."""
        whole = self.chat().choices[0].message.content
        for _ in range(3):
            stream = self.chat(stream=True, max_tokens=2000, extra_body={"ignore_eos": True})
            next(iter(stream))
            stream.close()
        self.server.wait(lambda: self.server.metric("requests_processing", "llamacpp") == 0, 20)
        self.assertEqual(self.chat().choices[0].message.content, whole)

    def test_openai_errors(self):
        with self.assertRaises(openai.BadRequestError):
            self.chat(content="x " * 10_000)
        with self.assertRaises(openai.BadRequestError):
            self.chat(extra_headers={"X-Aurora-Capture": "perhaps"})

    def test_anthropic(self):
        fields = {"model": self.model, "max_tokens": 60, "extra_body": {"temperature": 0}, "system": "You count.",
                  "messages": [{"role": "user", "content": COUNT}]}
        whole = self.anthropic.messages.create(**fields)
        plain = self.anthropic.messages.create(**fields, extra_headers={"X-Aurora-Speculate": "off"})
        self.assertEqual(whole.content, plain.content)
        self.assertEqual(whole.usage.output_tokens, plain.usage.output_tokens)
        with self.anthropic.messages.stream(**fields) as stream:
            self.assertEqual("".join(stream.text_stream), whole.content[0].text)
        self.assertGreater(self.anthropic.messages.count_tokens(model=self.model, messages=fields["messages"]).input_tokens, 5)

    def test_anthropic_tools(self):
        fields = {"model": self.model, "max_tokens": 60, "extra_body": {"temperature": 0}, "tool_choice": {"type": "any"},
                  "tools": [{"name": "weather", "description": "The weather of a city.", "input_schema": WEATHER}],
                  "messages": [{"role": "user", "content": "How is the weather in Arles?"}]}
        drafted = self.anthropic.messages.create(**fields)
        plain = self.anthropic.messages.create(**fields, extra_headers={"X-Aurora-Speculate": "off"})
        self.assertEqual((drafted.content, drafted.stop_reason), (plain.content, plain.stop_reason))

    def test_readme_curl(self):
        lines = re.findall(r"^    (curl .*(?:\\\n.*)*)", (ROOT / "README.md").read_text(), re.M)
        self.assertGreaterEqual(len(lines), 3)
        for line in lines:
            with self.subTest(line):
                self.assertIn("127.0.0.1:8080", line)
                done = subprocess.run(["sh", "-c", line.replace("127.0.0.1:8080", f"127.0.0.1:{self.server.port}")],
                                      capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn('"error"', done.stdout)
                self.assertTrue(done.stdout)


class Calls(unittest.TestCase):
    """With a template that knows tools, and calls before it that the target follows."""

    @classmethod
    def setUpClass(cls):
        template = llama_source() / "models/templates/Qwen-Qwen2.5-7B-Instruct.jinja"
        cls.server = Server(BUILD, default_model(), "-t", "1", "-c", "4096", "-np", "2", "--gate", "off", "--train", "off",
                            "--deterministic", "on", "--chat-template-file", str(template))
        cls.openai = openai.OpenAI(base_url=f"http://127.0.0.1:{cls.server.port}/v1", api_key="none", max_retries=0)
        cls.plain = cls.openai.with_options(default_headers={"X-Aurora-Speculate": "off"})
        cls.anthropic = anthropic.Anthropic(base_url=f"http://127.0.0.1:{cls.server.port}", api_key="none", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.accepted = self.server.metric("spec_decode_num_accepted_tokens_total")

    def tearDown(self):
        self.assertGreater(self.server.metric("spec_decode_num_accepted_tokens_total"), self.accepted + 10)

    def talk(self, call):
        """call: what the assistant says of a city."""
        turns = []
        for city in ("Nice", "Lyon", "Paris", "Metz", "Rouen"):
            turns += [{"role": "user", "content": f"How is the weather in {city}?"}, {"role": "assistant", **call(city)}]
        return [*turns, {"role": "user", "content": "How is the weather in Arles?"}]

    def test_openai(self):
        tools = [{"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters": WEATHER}}]
        talk = self.talk(lambda city: {"content": "", "tool_calls": [{
            "id": city, "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}]})
        for choice in ("required", "auto"):
            with self.subTest(choice):
                fields = {"model": "any", "max_tokens": 120, "temperature": 0, "tools": tools, "tool_choice": choice, "messages": talk}
                drafted, plain = (client.chat.completions.create(**fields).choices[0] for client in (self.openai, self.plain))
                self.assertEqual(drafted.finish_reason, "tool_calls")
                calls = [call.function for call in drafted.message.tool_calls]
                self.assertEqual(calls, [call.function for call in plain.message.tool_calls])
                self.assertEqual([(calls[0].name, json.loads(calls[0].arguments))], [("weather", {"city": "Arles"})])

                names, pieces = [], []
                for chunk in self.openai.chat.completions.create(stream=True, **fields):
                    for call in chunk.choices[0].delta.tool_calls or []:
                        names += [call.function.name] if call.function.name else []
                        pieces.append(call.function.arguments or "")
                self.assertEqual((names, "".join(pieces)), ([call.name for call in calls], "".join(call.arguments for call in calls)))

    def test_anthropic(self):
        talk = self.talk(lambda city: {"content": [{"type": "tool_use", "id": city, "name": "weather", "input": {"city": city}}]})
        fields = {"model": "any", "max_tokens": 120, "extra_body": {"temperature": 0}, "tool_choice": {"type": "any"}, "messages": talk,
                  "tools": [{"name": "weather", "description": "The weather of a city.", "input_schema": WEATHER}]}
        drafted = self.anthropic.messages.create(**fields)
        plain = self.anthropic.messages.create(**fields, extra_headers={"X-Aurora-Speculate": "off"})
        calls = [[(part.name, part.input) for part in answer.content if part.type == "tool_use"] for answer in (drafted, plain)]
        self.assertEqual(calls, 2 * [[("weather", {"city": "Arles"})]])
        self.assertEqual((drafted.stop_reason, plain.stop_reason), ("tool_use", "tool_use"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
