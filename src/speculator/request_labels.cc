#include "speculator/request_labels.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <set>
#include <string_view>

#include "base/parse_number.h"

namespace aurora {
namespace {

constexpr size_t kLabelCharsMax = 128;
constexpr int64_t kExpiresMax_s = 10'000'000'000;  // three hundred years: as --trace-expires-in

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

Status refused(std::string_view name, std::string_view value, const std::string& give) {
  return Status::invalid("header " + std::string(name) + " is '" +
                         std::string(value.substr(0, kLabelCharsMax)) + "'; give " + give);
}

Status need_switch(std::string_view name, std::string_view value, bool& out) {
  const std::string word = lower(value);
  if (word != "on" && word != "off") return refused(name, value, "on or off");
  out = word == "on";
  return Status::ok();
}

template <typename T>
Status need_whole(std::string_view name, std::string_view value, T least, T most, const char* what,
                  T& out) {
  if (parse_number<T>(value, least, most, out)) return Status::ok();
  return refused(
      name, value,
      std::string(what) + " from " + std::to_string(least) + " to " + std::to_string(most));
}

Status need_label(std::string_view name, std::string_view value, std::string& out) {
  if (value.size() > kLabelCharsMax)
    return refused(name, value, "at most " + std::to_string(kLabelCharsMax) + " bytes");
  out = value;
  return Status::ok();
}

Status read(const std::string& key, std::string_view value, RequestLabels& labels) {
  if (key == "x-aurora-capture") return need_switch("X-Aurora-Capture", value, labels.capture);
  if (key == "x-aurora-speculate")
    return need_switch("X-Aurora-Speculate", value, labels.speculate);
  if (key == "x-aurora-figures") return need_switch("X-Aurora-Figures", value, labels.figures);
  if (key == "x-aurora-tenant") return need_label("X-Aurora-Tenant", value, labels.tenant);
  if (key == "x-aurora-domain") return need_label("X-Aurora-Domain", value, labels.domain);
  if (key == "x-aurora-expires-in")
    return need_whole<int64_t>("X-Aurora-Expires-In", value, 1, kExpiresMax_s,
                               "a whole number of seconds", labels.expires_in_s);
  if (key == "x-aurora-rollout-of")
    return need_whole<uint64_t>("X-Aurora-Rollout-Of", value, 0, UINT64_MAX,
                                "the id of a trace, a whole number", labels.rollout_of);
  return Status::invalid("header " + key.substr(0, kLabelCharsMax) +
                         " is not known; give X-Aurora-Capture, -Speculate, -Figures, -Tenant, "
                         "-Domain, -Expires-In or -Rollout-Of");
}

}  // namespace

Result<RequestLabels> parse_request_labels(const std::map<std::string, std::string>& headers) {
  RequestLabels labels;
  std::set<std::string> seen;
  for (const auto& [name, value] : headers) {
    const std::string key = lower(name);
    if (!key.starts_with("x-aurora-") && !key.starts_with("x_aurora_")) continue;
    if (value.find('\n') != std::string::npos || !seen.insert(key).second)
      return Status::invalid("header " + name + " came more than once; give it once");
    if (Status status = read(key, trimmed(value), labels); !status) return status;
  }
  return labels;
}

}  // namespace aurora
