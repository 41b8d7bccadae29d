#include "cli/state_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "base/temp_dir.h"

namespace aurora {
namespace {

class StateDir : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"}) unsetenv(name);
  }
};

TEST_F(StateDir, TheNearestVariableWins) {
  EXPECT_EQ(default_state("t"), "");
  setenv("HOME", "/home/one", 1);
  EXPECT_EQ(default_state("t"), "/home/one/.local/state/aurora/t");
  setenv("XDG_STATE_HOME", "/xdg", 1);
  EXPECT_EQ(default_state("t"), "/xdg/aurora/t");
  setenv("STATE_DIRECTORY", "/var/lib/aurora:/var/lib/more", 1);
  EXPECT_EQ(default_state("t"), "/var/lib/aurora/t");
}

TEST_F(StateDir, AnEmptyVariableIsNone) {
  for (const char* name : {"STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"}) setenv(name, "", 1);
  EXPECT_EQ(default_state("t"), "");
}

TEST_F(StateDir, NowhereToWrite) {
  ServeOptions options;
  Status status = make_state(options);
  ASSERT_FALSE(status);
  EXPECT_NE(status.message().find("give --state DIR"), std::string::npos);

  options.capture = false;
  options.train = ServeOptions::Train::kOff;
  EXPECT_TRUE(make_state(options));
  EXPECT_EQ(options.state, "");

  options.state = "/proc/none/state";  // nobody makes a folder there
  EXPECT_TRUE(make_state(options));
  EXPECT_EQ(options.state, "");

  options.state = "/proc/none/state";
  options.capture = true;
  EXPECT_FALSE(make_state(options));
}

TEST_F(StateDir, IsMade) {
  const TempDir dir;
  ServeOptions options;
  options.state = dir.path() + "/a/b";
  ASSERT_TRUE(make_state(options));
  EXPECT_TRUE(std::filesystem::is_directory(options.state));
}

TEST_F(StateDir, ThatOthersMayWriteToIsRefusedOrGoneWithout) {
  const TempDir dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  ServeOptions options;
  options.state = dir.path();
  EXPECT_NE(make_state(options).message().find("chmod go-w"), std::string::npos);
  options.capture = false;
  options.train = ServeOptions::Train::kOff;
  EXPECT_TRUE(make_state(options));
  EXPECT_EQ(options.state, "") << "no draft of others is loaded either";
}

}  // namespace
}  // namespace aurora
