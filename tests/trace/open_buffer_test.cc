#include <gtest/gtest.h>

#include "base/temp_dir.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

TEST(OpenBuffer, NoUrlIsLmdb) {
  const TempDir dir;
  EXPECT_TRUE(open_trace_buffer("", {.dir = dir / "buffer"}));
}

TEST(OpenBuffer, ABadUrlIsOneSentence) {
  const Status status = open_trace_buffer("nats://a?replicas=2", {}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalid);
  EXPECT_NE(status.message().find("give 1, 3 or 5"), std::string::npos);
  EXPECT_EQ(check_buffer_url("nats://a?replicas=2").message(), status.message());
}

TEST(OpenBuffer, WithoutTheLibraryItSaysWhatToInstall) {
  const auto buffer = open_trace_buffer("nats://127.0.0.1:1", {});
#if AURORA_NATS
  EXPECT_TRUE(buffer) << "opening waits for no broker";
  EXPECT_TRUE(check_buffer_url("nats://127.0.0.1:1"));
#else
  EXPECT_FALSE(check_buffer_url("nats://127.0.0.1:1"));
  EXPECT_NE(buffer.status().message().find("install libnats-dev"), std::string::npos);
#endif
}

}  // namespace
}  // namespace aurora
