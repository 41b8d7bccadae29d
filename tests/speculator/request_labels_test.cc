#include "speculator/request_labels.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace aurora {
namespace {

using Headers = std::map<std::string, std::string>;

TEST(RequestLabels, NothingGiven) {
  const auto labels = parse_request_labels({{"Content-Type", "application/json"}});
  ASSERT_TRUE(labels);
  EXPECT_TRUE(labels->capture);
  EXPECT_TRUE(labels->speculate);
  EXPECT_EQ(labels->expires_in_s, 0);
  EXPECT_EQ(labels->rollout_of, 0u);
}

TEST(RequestLabels, CaseAndSpacesDoNotMatter) {
  for (const char* value : {"off", "Off", "OFF", " off", "off \t"}) {
    const auto labels = parse_request_labels({{"x-AURORA-capture", value}});
    ASSERT_TRUE(labels) << value;
    EXPECT_FALSE(labels->capture) << value;
    EXPECT_TRUE(labels->speculate);
  }
  EXPECT_TRUE(parse_request_labels({{"X-Aurora-Capture", " On "}})->capture);
  EXPECT_FALSE(parse_request_labels({{"X-Aurora-Speculate", "oFF"}})->speculate);
}

TEST(RequestLabels, ValuesArrive) {
  const auto labels = parse_request_labels({{"x-aurora-tenant", " one "},
                                            {"X-Aurora-Domain", "Mails, of May"},
                                            {"X-Aurora-Expires-In", " 3600 "},
                                            {"X-Aurora-Figures", "on"},
                                            {"X-Aurora-Rollout-Of", "18446744073709551615"}});
  ASSERT_TRUE(labels);
  EXPECT_EQ(labels->tenant, "one");
  EXPECT_EQ(labels->domain, "Mails, of May");
  EXPECT_EQ(labels->expires_in_s, 3600);
  EXPECT_TRUE(labels->figures);
  EXPECT_EQ(labels->rollout_of, UINT64_MAX);
}

struct Refused {
  const char* name;
  std::string value;
  const char* says;
};

TEST(RequestLabels, AnythingElseIsRefusedByName) {
  const std::vector<Refused> cases = {
      {"X-Aurora-Capture", "false", "X-Aurora-Capture is 'false'; give on or off"},
      {"X-Aurora-Capture", "0", "give on or off"},
      {"x-aurora-capture", "no", "X-Aurora-Capture is 'no'"},
      {"X-Aurora-Capture", "", "X-Aurora-Capture is ''"},
      {"X-Aurora-Capture", "on, off", "give on or off"},
      {"X-Aurora-Speculate", "maybe", "X-Aurora-Speculate is 'maybe'; give on or off"},
      {"X-Aurora-Expires-In", "abc", "give a whole number of seconds from 1"},
      {"X-Aurora-Expires-In", "0", "give a whole number of seconds from 1"},
      {"X-Aurora-Expires-In", "1h", "X-Aurora-Expires-In is '1h'"},
      {"X-Aurora-Expires-In", "-5", "X-Aurora-Expires-In is '-5'"},
      {"X-Aurora-Expires-In", "1.5", "X-Aurora-Expires-In is '1.5'"},
      {"X-Aurora-Expires-In", "", "a whole number of seconds"},
      {"X-Aurora-Expires-In", "99999999999999999999", "a whole number of seconds"},
      {"X-Aurora-Expires-In", "9300000000000000", "a whole number of seconds"},
      {"X-Aurora-Rollout-Of", "x", "X-Aurora-Rollout-Of is 'x'"},
      {"X-Aurora-Tenant", std::string(129, 'a'), "at most 128 bytes"},
      {"X-Aurora-Domain", std::string(129, 'a'), "at most 128 bytes"},
      {"X-Aurora-Captures", "off", "header x-aurora-captures is not known; give X-Aurora-Capture,"},
      {"X_Aurora_Capture", "off", "header x_aurora_capture is not known"},
      {"X-Aurora-Capture", "off\noff", "came more than once"},
      {"X-Aurora-Tenant", "a\nb", "came more than once"},
  };
  for (const Refused& refused : cases) {
    const auto labels = parse_request_labels({{refused.name, refused.value}});
    ASSERT_FALSE(labels) << refused.name << ": " << refused.value;
    EXPECT_NE(labels.status().message().find(refused.says), std::string::npos)
        << labels.status().message();
  }
}

TEST(RequestLabels, TwoSpellingsOfOneName) {
  EXPECT_FALSE(parse_request_labels({{"X-Aurora-Capture", "off"}, {"x-aurora-capture", "on"}}));
}

}  // namespace
}  // namespace aurora
