#include "registry/manifest.h"

#include <array>
#include <nlohmann/json.hpp>

namespace aurora {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr std::array<const char*, 3> kKindNames = {"serving", "refused", "rolled_back"};

std::string dump(const Json& json) {
  // A sentence may quote foreign bytes: what is not UTF-8 becomes a replacement character.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Throws Json::exception for a missing key or another type.
Json parse_object(const std::string& text) {
  Json json = Json::parse(text);
  if (json.at("format").get<int>() > kFormat) {
    throw std::runtime_error("written by a later version of aurora");
  }
  const auto version = json.at("version").get<int64_t>();
  if (version <= 0 || version > kDraftVersionMax)
    throw std::runtime_error("its version is not one from 1 to 10^15");
  return json;
}

// JSON has no word for NaN: such a figure is written as null.
double figure(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>() : 0.0;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

DraftManifest manifest_from(const Json& json) {
  DraftManifest m;
  m.version = json.at("version").get<int64_t>();
  m.parent = json.value("parent", int64_t{0});
  m.created_ms = json.value("created_ms", int64_t{0});
  m.target = json.at("target").get<std::string>();
  m.bytes = json.at("bytes").get<uint64_t>();
  m.sha256 = json.at("sha256").get<std::string>();
  m.trained_tokens = json.value("trained_tokens", uint64_t{0});
  m.replay_accept_len = figure(json, "replay_accept_len");
  m.replay_accept_len_in_service = figure(json, "replay_accept_len_in_service");
  m.reason = json.value("reason", "");
  if (m.bytes > kDraftBytesMax) throw std::runtime_error("it is larger than a draft may be");
  if (!is_sha256(m.sha256)) throw std::runtime_error("its sha256 is not 64 hex digits");
  return m;
}

DraftVerdict verdict_from(const Json& json) {
  DraftVerdict v;
  v.version = json.at("version").get<int64_t>();
  const std::string kind = json.at("kind").get<std::string>();
  size_t index = 0;
  while (index < kKindNames.size() && kind != kKindNames[index]) ++index;
  if (index == kKindNames.size()) throw std::runtime_error("unknown kind " + kind);
  v.kind = static_cast<DraftVerdict::Kind>(index);
  v.reason = json.value("reason", "");
  v.live_accept_len = figure(json, "live_accept_len");
  v.target_steps = json.value("target_steps", uint64_t{0});
  return v;
}

}  // namespace

std::string encode_manifest(const DraftManifest& m) {
  return dump({{"format", kFormat},
               {"version", m.version},
               {"parent", m.parent},
               {"created_ms", m.created_ms},
               {"target", m.target},
               {"bytes", m.bytes},
               {"sha256", m.sha256},
               {"trained_tokens", m.trained_tokens},
               {"replay_accept_len", m.replay_accept_len},
               {"replay_accept_len_in_service", m.replay_accept_len_in_service},
               {"reason", m.reason}});
}

Result<DraftManifest> decode_manifest(const std::string& text) {
  try {
    return manifest_from(parse_object(text));
  } catch (const std::exception& e) {
    return Status::corrupt(e.what());
  }
}

std::string encode_verdict(const DraftVerdict& v) {
  return dump({{"format", kFormat},
               {"version", v.version},
               {"kind", kKindNames[static_cast<size_t>(v.kind)]},
               {"reason", v.reason},
               {"live_accept_len", v.live_accept_len},
               {"target_steps", v.target_steps}});
}

Result<DraftVerdict> decode_verdict(const std::string& text) {
  try {
    return verdict_from(parse_object(text));
  } catch (const std::exception& e) {
    return Status::corrupt(e.what());
  }
}

}  // namespace aurora
