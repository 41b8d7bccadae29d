// `aurora drafts list`: the versions in a state folder, what they promised and what serving found.
#include "cli/drafts_list.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/parse_number.h"
#include "cli/state_dir.h"
#include "cli/text.h"
#include "registry/registry.h"
#include "registry/target_fingerprint.h"

namespace aurora {
namespace {

constexpr const char* kUsage =
    "usage: aurora drafts list -m TARGET.gguf | --state DIR  [--json] [VERSION]\n\n"
    "The versions that are there, the newest last: accept length on held-out requests (replay)\n"
    "and in service (live), and the last verdict. VERSION: this one alone, with its reasons.\n"
    "-m: the state folder that `aurora serve -m TARGET.gguf` uses.\n";

struct Options {
  bool json = false, help = false;
  std::string model, state;
  int64_t version = 0;  // 0: all
};

struct Listed {
  DraftManifest manifest;
  std::optional<DraftVerdict> verdict;
  bool file = false;  // its weights are still there
};

Result<Options> parse(const std::vector<std::string>& args) {
  Options o;
  for (size_t i = 0; i < args.size(); ++i) {
    const bool more = i + 1 < args.size();
    if (args[i] == "--json") o.json = true;
    else if (args[i] == "--help" || args[i] == "-h") o.help = true;
    else if ((args[i] == "-m" || args[i] == "--model") && more) o.model = args[++i];
    else if (args[i] == "--state" && more) o.state = args[++i];
    else if (!parse_number<int64_t>(args[i], 1, kDraftVersionMax, o.version))
      return Status::invalid("'" + args[i] + "' is not known here; aurora drafts list --help");
  }
  if (!o.help && o.model.empty() == o.state.empty())
    return Status::invalid("give the target by -m TARGET.gguf, or its folder by --state DIR");
  return o;
}

Result<std::string> folder_of(const Options& o) {
  std::string state = o.state;
  if (state.empty()) {
    const auto fingerprint = target_fingerprint(o.model);
    if (!fingerprint) return fingerprint.status();
    state = default_state(*fingerprint);
    if (state.empty()) return Status::invalid("no HOME to look below; give the folder by --state");
  }
  if (!std::filesystem::is_directory(state + "/drafts"))
    return Status::not_found("no draft has been published in " + state);
  return state + "/drafts";
}

Result<std::vector<Listed>> listed(const std::string& folder, int64_t version) {
  const auto registry = Registry::open(folder);
  if (!registry) return registry.status();
  auto manifests = registry->list();
  if (!manifests) return manifests.status();
  std::vector<Listed> all;
  for (DraftManifest& manifest : *manifests) {
    if (version != 0 && manifest.version != version) continue;
    Listed one;
    if (auto verdict = registry->verdict(manifest.version)) one.verdict = std::move(*verdict);
    one.file = std::filesystem::exists(registry->gguf_path(manifest.version));
    one.manifest = std::move(manifest);
    all.push_back(std::move(one));
  }
  if (version != 0 && all.empty())
    return Status::not_found("there is no version " + std::to_string(version) + " in " + folder);
  return all;
}

const char* word(const Listed& one) {
  if (!one.verdict) return one.manifest.serve ? "new" : "kept back";
  switch (one.verdict->kind) {
    case DraftVerdict::Kind::kServing: return "serving";
    case DraftVerdict::Kind::kRefused: return "refused";
    case DraftVerdict::Kind::kRolledBack: return "put away";
  }
  return "";
}

std::string when(int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &utc);
  return text;
}

// "" for what is not known.
std::string length(double accept_len) { return accept_len > 0 ? printed("%.3f", accept_len) : ""; }

std::string table(const std::vector<Listed>& all) {
  std::string out = printed("%8s  %-16s  %10s  %7s  %7s  %8s  %-9s\n", "version", "made (UTC)",
                            "tokens", "replay", "live", "MiB", "");
  for (const Listed& one : all) {
    const DraftManifest& m = one.manifest;
    out += printed(
        "%8lld  %-16s  %10s  %7s  %7s  %8s  %-9s\n", static_cast<long long>(m.version),
        when(m.created_ms).c_str(), grouped(static_cast<int64_t>(m.trained_tokens)).c_str(),
        length(m.replay_accept_len).c_str(),
        length(one.verdict ? one.verdict->live_accept_len : 0).c_str(),
        one.file ? printed("%.1f", static_cast<double>(m.bytes) / (1 << 20)).c_str() : "gone",
        word(one));
  }
  return out;
}

std::string reasons(const Listed& one) {
  std::string out =
      printed("parent %lld; sha256 %s; target %s\npublished: %s\n",
              static_cast<long long>(one.manifest.parent), one.manifest.sha256.c_str(),
              one.manifest.target.c_str(), one.manifest.reason.c_str());
  if (one.verdict) out += printed("%s: %s\n", word(one), one.verdict->reason.c_str());
  return out;
}

std::string json(const std::vector<Listed>& all) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Listed& one : all) {
    const DraftManifest& m = one.manifest;
    nlohmann::ordered_json entry = {{"version", m.version},
                                    {"parent", m.parent},
                                    {"created_ms", m.created_ms},
                                    {"trained_tokens", m.trained_tokens},
                                    {"replay_accept_len", m.replay_accept_len},
                                    {"bytes", m.bytes},
                                    {"sha256", m.sha256},
                                    {"target", m.target},
                                    {"file", one.file},
                                    {"state", word(one)},
                                    {"published", m.reason}};
    if (one.verdict) {
      entry["live_accept_len"] = one.verdict->live_accept_len;
      entry["target_steps"] = one.verdict->target_steps;
      entry["verdict"] = one.verdict->reason;
    }
    out.push_back(std::move(entry));
  }
  return out.dump(1) + "\n";
}

}  // namespace

int drafts_list_main(const std::vector<std::string>& args) {
  const auto options = parse(args);
  if (!options || options->help) {
    if (options) std::fputs(kUsage, stdout);
    else std::fprintf(stderr, "aurora drafts: %s\n", options.status().message().c_str());
    return options ? 0 : 2;
  }
  const auto folder = folder_of(*options);
  const auto all =
      folder ? listed(*folder, options->version) : Result<std::vector<Listed>>(folder.status());
  if (!all) {
    std::fprintf(stderr, "aurora drafts: %s\n", all.status().message().c_str());
    return 1;
  }
  std::string out = options->json ? json(*all) : table(*all);
  if (!options->json && options->version != 0) out += reasons(all->front());
  std::fputs(out.c_str(), stdout);
  return 0;
}

}  // namespace aurora
