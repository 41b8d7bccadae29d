// `aurora drafts list` and `show`: the versions in a state folder, what they promised and what
// serving found.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/drafts_options.h"
#include "registry/registry.h"
#include "replay/text.h"

namespace aurora {
namespace {

struct Listed {
  DraftManifest manifest;
  std::optional<DraftVerdict> verdict;
  bool file = false;    // its weights are still there
  bool pinned = false;  // and serve alone
};

Result<std::vector<Listed>> listed(const std::string& folder, int64_t version) {
  const auto registry = Registry::open(folder);
  if (!registry) return registry.status();
  auto manifests = registry->list();
  if (!manifests) return manifests.status();
  const auto pinned = registry->pinned();
  if (!pinned) return pinned.status();
  std::vector<Listed> all;
  for (DraftManifest& manifest : *manifests) {
    if (version != 0 && manifest.version != version) continue;
    Listed one;
    if (auto verdict = registry->verdict(manifest.version)) one.verdict = std::move(*verdict);
    one.file = std::filesystem::exists(registry->gguf_path(manifest.version));
    one.pinned = manifest.version == *pinned;
    one.manifest = std::move(manifest);
    all.push_back(std::move(one));
  }
  if (version != 0 && all.empty())
    return Status::not_found("there is no version " + std::to_string(version) + " in " + folder);
  return all;
}

const char* word(const Listed& one) {
  if (!one.verdict) return "new";
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
        (std::string(word(one)) + (one.pinned ? ", pinned" : "")).c_str());
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

nlohmann::ordered_json json(const Listed& one) {
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
                                  {"pinned", one.pinned},
                                  {"state", word(one)},
                                  {"published", m.reason}};
  if (one.verdict) {
    entry["live_accept_len"] = one.verdict->live_accept_len;
    entry["target_steps"] = one.verdict->target_steps;
    entry["verdict"] = one.verdict->reason;
  }
  return entry;
}

// All of them, or the one that the options name.
int run(CommandLine (*command)(DraftsOptions&), VersionWord version, const Words& args) {
  const auto options = parse_drafts_options(command, version, args);
  if (!options) return refuse("aurora drafts", options.status());
  if (options->help) return print_help(command);
  const auto folder = drafts_folder(*options);
  const auto all =
      folder ? listed(*folder, options->version) : Result<std::vector<Listed>>(folder.status());
  if (!all) {
    refuse("aurora drafts", all.status());
    return 1;
  }
  const bool one = options->version != 0;
  std::string out;
  if (options->json) {
    auto entries = nlohmann::ordered_json::array();
    for (const Listed& entry : *all) entries.push_back(json(entry));
    out = (one ? entries.front() : entries).dump(1) + "\n";
  } else {
    out = table(*all) + (one ? reasons(all->front()) : "");
  }
  std::fputs(out.c_str(), stdout);
  return 0;
}

}  // namespace

int drafts_list_main(const Words& args) {
  return run(drafts_list_command, VersionWord::kNone, args);
}

int drafts_show_main(const Words& args) {
  return run(drafts_show_command, VersionWord::kMust, args);
}

}  // namespace aurora
