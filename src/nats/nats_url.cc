#include "nats/nats_url.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string_view>

namespace aurora {
namespace {

constexpr std::string_view kPlain = "nats://";
constexpr std::string_view kTls = "tls://";
constexpr size_t kServersMax = 64;
constexpr size_t kTokenBytesMax = 64;

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr Unit kByteUnits[] = {
    {"", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}};
constexpr Unit kTimeUnits[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};

// "64MiB" by a table of units.
template <size_t N, typename T>
bool parse_quantity(std::string_view text, const Unit (&units)[N], T max, T& out) {
  uint64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  for (const Unit& known : units) {
    if (unit != known.name) continue;
    if (number > static_cast<uint64_t>(max) / known.factor) return false;
    out = static_cast<T>(number * known.factor);
    return true;
  }
  return false;
}

constexpr uint64_t kBytesMax = 1ull << 60;
constexpr int64_t kAgeSecondsMin = 120;  // JetStream's window for duplicates, see jetstream.cc
constexpr int64_t kSecondsMax = 10ll * 365 * 86400;

struct Parameter {
  std::string_view name;
  const char* wants;
  std::function<bool(NatsUrl&, std::string_view)> set;
};

Parameter file(std::string_view name, std::string NatsUrl::*field) {
  return {name, "the path of a file", [field](NatsUrl& url, std::string_view value) {
            url.*field = value;
            return !value.empty();
          }};
}

const std::vector<Parameter>& parameters() {
  static const std::vector<Parameter> list = {
      {"prefix", "letters, digits, - and _, at most 64",
       [](NatsUrl& u, std::string_view v) {
         u.prefix = v;
         return is_subject_token(v);
       }},
      {"replicas", "1, 3 or 5",
       [](NatsUrl& u, std::string_view v) {
         if (v != "1" && v != "3" && v != "5") return false;
         u.replicas = v[0] - '0';
         return true;
       }},
      file("creds", &NatsUrl::creds),
      file("tls_ca", &NatsUrl::tls_ca),
      file("tls_cert", &NatsUrl::tls_cert),
      file("tls_key", &NatsUrl::tls_key),
      {"bytes_max", "a size, for example 20GiB",
       [](NatsUrl& u, std::string_view v) {
         return parse_quantity(v, kByteUnits, kBytesMax, u.bytes_max) && u.bytes_max > 0;
       }},
      // The broker knows a repetition only as long as it holds messages, at most that age.
      {"age", "a time of 2m or more, for example 24h",
       [](NatsUrl& u, std::string_view v) {
         return parse_quantity(v, kTimeUnits, kSecondsMax, u.age_s) && u.age_s >= kAgeSecondsMin;
       }},
      {"in_flight", "a size, for example 128MiB",
       [](NatsUrl& u, std::string_view v) {
         return parse_quantity(v, kByteUnits, kBytesMax, u.in_flight_bytes_max) &&
                u.in_flight_bytes_max > 0;
       }},
      {"stagger", "a time, for example 30s",
       [](NatsUrl& u, std::string_view v) {
         return parse_quantity(v, kTimeUnits, kSecondsMax, u.stagger_s);
       }},
  };
  return list;
}

Status set_parameter(std::string_view pair, NatsUrl& url) {
  const size_t equals = pair.find('=');
  const std::string_view name = pair.substr(0, equals);
  std::string known;
  for (const Parameter& parameter : parameters()) {
    known += (known.empty() ? "" : ", ") + std::string(parameter.name);
    if (name != parameter.name) continue;
    const std::string_view value = equals == pair.npos ? "" : pair.substr(equals + 1);
    if (parameter.set(url, value)) return Status::ok();
    return Status::invalid("the broker URL's " + std::string(name) + " is '" + std::string(value) +
                           "'; give " + parameter.wants);
  }
  return Status::invalid("the broker URL has no parameter '" + std::string(name) +
                         "'; the known ones are " + known);
}

// "host", "host:port", "[::1]:port".
Status add_server(std::string_view text, NatsUrl& url) {
  const std::string shown(text);
  if (text.find('@') != text.npos) {
    return Status::invalid(
        "the broker URL holds a user or password, which every process list shows; put them into a "
        "credentials file and give ?creds=FILE");
  }
  const size_t bracket = text.find(']');
  const size_t colon = text.find(':', bracket == text.npos ? 0 : bracket);
  const std::string_view host = text.substr(0, colon);
  uint16_t port = 4222;
  if (colon != text.npos) {
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc() || end != digits.data() + digits.size() || port == 0) {
      return Status::invalid("'" + shown +
                             "' in the broker URL has no usable port; give host:port");
    }
  }
  if (host.empty() || host.find_first_of(" \t") != host.npos) {
    return Status::invalid("the broker URL names no host; give nats://host:port[,host2:port2]");
  }
  if (url.servers.size() == kServersMax) {
    return Status::invalid("the broker URL names more than " + std::to_string(kServersMax) +
                           " servers; a few of the cluster are enough, it tells of the others");
  }
  url.servers.push_back(std::string(kPlain) + std::string(host) + ":" + std::to_string(port));
  return Status::ok();
}

// Calls `each` on the parts of `text` between separators, until one fails.
template <typename Each>
Status for_parts(std::string_view text, char separator, Each&& each) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (Status status = each(text.substr(begin, end - begin)); !status) return status;
    begin = end + 1;
  }
  return Status::ok();
}

}  // namespace

bool is_subject_token(std::string_view text) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  return !text.empty() && text.size() <= kTokenBytesMax &&
         text.find_first_not_of(kAllowed) == text.npos;
}

bool is_nats_url(const std::string& text) {
  return text.starts_with(kPlain) || text.starts_with(kTls);
}

Result<NatsUrl> parse_nats_url(const std::string& text) {
  if (!is_nats_url(text)) {
    return Status::invalid("'" + text +
                           "' is no broker URL; give nats://host:port or tls://host:port");
  }
  NatsUrl url;
  url.tls = text.starts_with(kTls);
  std::string_view rest = std::string_view(text).substr(url.tls ? kTls.size() : kPlain.size());
  std::string_view query;
  if (const size_t mark = rest.find('?'); mark != rest.npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find('/') != rest.npos) {
    return Status::invalid(
        "the broker URL has a path; parameters follow a '?', as in "
        "nats://host:port/?prefix=aurora");
  }
  Status status = for_parts(rest, ',', [&](std::string_view s) { return add_server(s, url); });
  if (status && !query.empty()) {
    status = for_parts(query, '&', [&](std::string_view p) { return set_parameter(p, url); });
  }
  if (!status) return status;
  if (url.tls_cert.empty() != url.tls_key.empty()) {
    return Status::invalid("the broker URL has one of tls_cert and tls_key; give both or neither");
  }
  url.tls = url.tls || !(url.tls_ca + url.tls_cert).empty();
  return url;
}

}  // namespace aurora
