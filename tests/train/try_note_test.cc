#include "train/try_note.h"

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/temp_dir.h"

namespace aurora {
namespace {

using Pieces = std::vector<Piece>;

Pieces wholes(std::initializer_list<uint64_t> ids) {
  Pieces pieces;
  for (const uint64_t id : ids) pieces.push_back({id, 4});
  return pieces;
}

TEST(TryNote, WhoSurvivesIsNoSuspect) {
  const TempDir dir;
  {
    TryNote note(dir / "trying");
    note.begin(wholes({1, 2, 3}));
    note.end();
  }
  const TryNote note(dir / "trying");
  for (const uint64_t id : {1u, 2u, 3u}) EXPECT_FALSE(note.suspect({id, 4}));
}

TEST(TryNote, TheOneThatKillsTwiceIsPoisonAndItsNeighboursAreNot) {
  const TempDir dir;
  TryNote(dir / "trying").begin(wholes({1, 2, 3}));  // dies
  {
    TryNote note(dir / "trying");
    for (const uint64_t id : {1u, 2u, 3u}) {
      EXPECT_TRUE(note.suspect({id, 4}));
      EXPECT_FALSE(note.poison(id));
    }
    note.begin(wholes({1}));
    note.end();
    EXPECT_FALSE(note.suspect({1, 4}));
    note.begin(wholes({2}));  // dies
  }
  for (int life = 0; life < 3; ++life) {
    TryNote note(dir / "trying");
    EXPECT_FALSE(note.suspect({1, 4}));
    EXPECT_TRUE(note.poison(2));
    EXPECT_TRUE(note.suspect({3, 4}));
    EXPECT_FALSE(note.poison(3));
  }
}

// One piece that survives clears no other.
TEST(TryNote, APieceThatKillsMakesItsRecordPoison) {
  const TempDir dir;
  for (int life = 0; life < 2; ++life) {
    TryNote note(dir / "trying");
    EXPECT_FALSE(note.poison(7));
    note.begin(Pieces{{7, 4}});
    note.end();
    note.begin(Pieces{{7, 1000}});  // dies
  }
  const TryNote note(dir / "trying");
  EXPECT_TRUE(note.poison(7));
  EXPECT_FALSE(note.suspect({7, 4}));
}

TEST(TryNote, IsBounded) {
  const TempDir dir;
  for (uint64_t life = 0; life < 4; ++life) {
    TryNote note(dir / "trying");
    Pieces many(1000);
    for (size_t i = 0; i < many.size(); ++i) many[i] = {life * 1000 + i, 4};
    note.begin(many);
  }
  const TryNote note(dir / "trying");
  EXPECT_TRUE(note.suspect({3000, 4}));
  EXPECT_FALSE(note.suspect({0, 4}));  // the oldest have left
  EXPECT_LE(read_file(dir / "trying")->size(), 16384u);
}

TEST(TryNote, DamageIsNoNote) {
  const TempDir dir;
  TryNote(dir / "trying").begin(wholes({1, 2}));
  const std::string good = *read_file(dir / "trying");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    ASSERT_TRUE(write_file_atomically(dir / "trying", bad));
    EXPECT_FALSE(TryNote(dir / "trying").suspect({1, 4})) << at;
    ASSERT_TRUE(write_file_atomically(dir / "trying", good.substr(0, at)));
    EXPECT_FALSE(TryNote(dir / "trying").suspect({1, 4})) << at;
  }
}

TEST(TryNote, WithoutAFileNothingIsNoted) {
  TryNote none("");
  none.begin(wholes({1}));
  none.end();
  EXPECT_FALSE(none.suspect({1, 4}));
  TryNote nowhere("/nonexistent/trying");
  nowhere.begin(wholes({1}));
  nowhere.end();
  EXPECT_FALSE(nowhere.suspect({1, 4}));
}

}  // namespace
}  // namespace aurora
