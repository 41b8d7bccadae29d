#include "train/try_note.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

using Ids = std::vector<uint64_t>;

TEST(TryNote, WhoSurvivesIsNoSuspect) {
  const TempDir dir;
  {
    TryNote note(dir / "trying");
    note.begin(Ids{1, 2, 3});
    note.end();
  }
  const TryNote note(dir / "trying");
  for (const uint64_t id : {1, 2, 3}) EXPECT_FALSE(note.suspect(id));
}

TEST(TryNote, TheOneThatKillsTwiceIsPoisonAndItsNeighboursAreNot) {
  const TempDir dir;
  TryNote(dir / "trying").begin(Ids{1, 2, 3});  // dies
  {
    TryNote note(dir / "trying");
    for (const uint64_t id : {1, 2, 3}) {
      EXPECT_TRUE(note.suspect(id));
      EXPECT_FALSE(note.poison(id));
    }
    note.begin(Ids{1});
    note.end();
    EXPECT_FALSE(note.suspect(1));
    note.begin(Ids{2});  // dies
  }
  for (int life = 0; life < 3; ++life) {
    TryNote note(dir / "trying");
    EXPECT_FALSE(note.suspect(1));
    EXPECT_TRUE(note.poison(2));
    EXPECT_TRUE(note.suspect(3));
    EXPECT_FALSE(note.poison(3));
  }
}

TEST(TryNote, IsBounded) {
  const TempDir dir;
  for (uint64_t life = 0; life < 4; ++life) {
    TryNote note(dir / "trying");
    Ids many(1000);
    for (size_t i = 0; i < many.size(); ++i) many[i] = life * 1000 + i;
    note.begin(many);
  }
  const TryNote note(dir / "trying");
  EXPECT_TRUE(note.suspect(3000));
  EXPECT_FALSE(note.suspect(0));  // the oldest have left
  EXPECT_LE(read_file(dir / "trying")->size(), 8192u);
}

TEST(TryNote, DamageIsNoNote) {
  const TempDir dir;
  TryNote(dir / "trying").begin(Ids{1, 2});
  const std::string good = *read_file(dir / "trying");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    ASSERT_TRUE(write_file_atomically(dir / "trying", bad));
    EXPECT_FALSE(TryNote(dir / "trying").suspect(1)) << at;
    ASSERT_TRUE(write_file_atomically(dir / "trying", good.substr(0, at)));
    EXPECT_FALSE(TryNote(dir / "trying").suspect(1)) << at;
  }
}

TEST(TryNote, WithoutAFileNothingIsNoted) {
  TryNote none("");
  none.begin(Ids{1});
  none.end();
  EXPECT_FALSE(none.suspect(1));
  TryNote nowhere("/nonexistent/trying");
  nowhere.begin(Ids{1});
  nowhere.end();
  EXPECT_FALSE(nowhere.suspect(1));
}

}  // namespace
}  // namespace aurora
