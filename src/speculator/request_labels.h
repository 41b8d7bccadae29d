// What a request says about itself in its X-Aurora-... headers.
#pragma once

#include <map>
#include <string>

#include "aurora_seam.h"
#include "base/status.h"

namespace aurora {

// headers: by name in any case; several values of one name stand in one text, a line each. Names
// that are not ours are passed over. invalid: one sentence for the client, which names the header
// and says what to give.
Result<RequestLabels> parse_request_labels(const std::map<std::string, std::string>& headers);

}  // namespace aurora
