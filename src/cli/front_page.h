// What a browser sees at "/". Links are relative: the server may stand behind a prefix.
#pragma once

namespace aurora {

inline constexpr const char* kFrontPage = R"(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Aurora</title>
<h1>Aurora</h1>
<p>This is <code>aurora serve</code>: llama-server's HTTP API, with a draft model that learns from the text it serves.</p>
<ul>
<li><a href="health">health</a>: whether the model is loaded
<li><a href="metrics">metrics</a>: accept length, draft version, traces; for Prometheus
<li><a href="v1/models">v1/models</a>: the model that answers
<li><a href="slots">slots</a>: what is being answered
</ul>
<p>Ask it with any OpenAI client, at <code>/v1/chat/completions</code>.</p>
</html>
)";

}  // namespace aurora
