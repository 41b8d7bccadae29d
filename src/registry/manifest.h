// The two JSON files of a version as text. Private to the registry. Never throws, whatever the
// bytes.
#pragma once

#include <string>

#include "base/status.h"
#include "registry/registry.h"

namespace aurora {

std::string encode_manifest(const DraftManifest& manifest);
Result<DraftManifest> decode_manifest(const std::string& text);

std::string encode_verdict(const DraftVerdict& verdict);
Result<DraftVerdict> decode_verdict(const std::string& text);

}  // namespace aurora
