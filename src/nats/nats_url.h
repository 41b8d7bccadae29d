// The one URL that says where the brokers are and how the streams on them are kept:
//   nats://host[:port][,host2[:port2]...][/][?name=value&...]
// Encrypted where it begins with tls:// or names a TLS file.
// docs/many-servers.md lists the names. Needs no NATS library.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace aurora {

struct NatsUrl {
  std::vector<std::string> servers;  // "nats://host:port" each
  std::string prefix = "aurora";     // of every stream and subject: one flywheel each
  int replicas = 1;                  // of every stream
  std::string creds;                 // file of a user's credentials
  bool tls = false;
  std::string tls_ca, tls_cert, tls_key;        // files
  uint64_t bytes_max = 0;                       // of the traces held; 0: the caller decides
  int64_t age_s = 0;                            // traces older than this are removed; 0: none are
  uint64_t in_flight_bytes_max = 128ull << 20;  // of traces not yet confirmed, in each server
  int64_t stagger_s = 30;  // a server waits a part of this before it takes a new draft
};

// What may stand as one token of a subject: letters, digits, - and _, at most 64.
bool is_subject_token(std::string_view text);

bool is_nats_url(const std::string& text);  // by its scheme alone

// invalid: one sentence that says what to change.
Result<NatsUrl> parse_nats_url(const std::string& text);

}  // namespace aurora
