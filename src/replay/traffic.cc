#include "replay/traffic.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

namespace aurora {
namespace {

using nlohmann::json;

std::string string_field(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Prompt> read_prompt(const std::string& line) {
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return Status::invalid("not a JSON object");
  const auto messages = object.find("messages");
  if (messages == object.end() || !messages->is_array() || messages->empty()) {
    return Status::invalid("no \"messages\"");
  }
  Prompt prompt;
  prompt.id = string_field(object, "id");
  prompt.domain = string_field(object, "domain");
  prompt.messages = messages->dump();
  return prompt;
}

Status append_file(const std::string& path, const TrafficOptions& options,
                   std::vector<Prompt>* prompts) {
  std::ifstream file(path);
  if (!file) return Status::not_found("cannot read " + path);
  std::string line;
  size_t line_number = 0;
  size_t prompt_number = 0;
  while (std::getline(file, line)) {
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (prompt_number++ < options.skip) continue;
    if (options.count != 0 && prompt_number > options.skip + options.count) break;
    Result<Prompt> prompt = read_prompt(line);
    if (!prompt) {
      return Status::invalid(path + ":" + std::to_string(line_number) + ": " +
                             prompt.status().message());
    }
    prompts->push_back(std::move(*prompt));
  }
  return Status::ok();
}

// Fisher and Yates on a generator whose sequence the standard fixes; std::shuffle's is not.
void shuffle(std::vector<Prompt>* prompts, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t left = prompts->size(); left > 1; --left) {
    std::swap((*prompts)[left - 1], (*prompts)[random() % left]);
  }
}

}  // namespace

Result<std::vector<Prompt>> read_traffic(const std::vector<std::string>& paths,
                                         const TrafficOptions& options) {
  std::vector<Prompt> prompts;
  for (const std::string& path : paths) {
    if (Status status = append_file(path, options, &prompts); !status) return status;
  }
  if (prompts.empty()) return Status::invalid("no prompts left in the given files");
  if (options.mixed) shuffle(&prompts, options.seed);
  return prompts;
}

}  // namespace aurora
