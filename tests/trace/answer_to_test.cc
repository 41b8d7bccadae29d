#include "trace/answer_to.h"

#include <gtest/gtest.h>

namespace aurora {
namespace {

TEST(AnswerTo, ReadsTheTwoNumbers) {
  const auto answer = answer_to("_INBOX.a.17.3", "_INBOX.a");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->flight, 17u);
  EXPECT_EQ(answer->message, 3u);
}

// One stray message to the bare inbox ended the server once.
TEST(AnswerTo, AnythingElseIsNobodysAnswer) {
  for (const char* subject :
       {"", "_INBOX.a", "_INBOX.a.", "_INBOX.a.x", "_INBOX.a.1", "_INBOX.a.1.", "_INBOX.a.1.x",
        "_INBOX.a..1", "_INBOX.a.1.2.3", "_INBOX.a.-1.2", "_INBOX.b.1.2", "_INBOX.ab1.2",
        "_INBOX.a.99999999999999999999.1", "other"}) {
    EXPECT_FALSE(answer_to(subject, "_INBOX.a")) << subject;
  }
}

}  // namespace
}  // namespace aurora
