// In place of draft_courier.cc in a build without a NATS library.
#include "registry/draft_courier.h"

namespace aurora {

Result<std::unique_ptr<DraftCourier>> start_draft_courier(const NatsUrl&, Registry,
                                                          const DraftCourierOptions&) {
  return Status::invalid(
      "this build has no NATS client: install libnats-dev and build again, or leave --buffer out");
}

}  // namespace aurora
