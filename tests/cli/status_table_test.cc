#include <gtest/gtest.h>

#include "cli/status.h"
#include "metrics/parse.h"

namespace aurora {
namespace {

FleetState sample_fleet() {
  FleetState fleet;
  fleet.members.push_back({"s2", "", 3,
                           parse_metrics("aurora:draft_version 7\n"
                                         "aurora:generated_tokens_total 300\n"
                                         "aurora:target_steps_total 200\n"
                                         "aurora:traces_written_total 9\n"
                                         "aurora:traces_dropped_total{cause=\"a\"} 1\n"
                                         "aurora:traces_dropped_total{cause=\"b\"} 2\n"
                                         "aurora:trainer_alive 0\n"
                                         "aurora:trainer_restarts_total 2\n"
                                         "aurora:trainer_last_exit_code 137\n"
                                         "aurora:trainer_lag_records 5\n"),
                           "signal 9: no room on the \"disk\""});
  fleet.members.push_back({"s1", "nobody \"listens\"", 0, {}, ""});
  fleet.members.push_back({"t", "", 1,
                           parse_metrics("aurora:trainer_updated_ms 12\n"
                                         "aurora:trainer_lag_records 4\n"
                                         "aurora:trainer_rows_per_second 250\n"),
                           ""});
  fleet.traces = StoredTraces{11, 3u << 20};
  return fleet;
}

TEST(StatusTable, OneLineAMemberTrainersFirst) {
  const std::string table = fleet_table(sample_fleet());
  const size_t trainer = table.find("\nt "), silent = table.find("\ns1 "), s2 = table.find("\ns2 ");
  ASSERT_NE(trainer, std::string::npos);
  EXPECT_LT(trainer, silent);
  EXPECT_LT(silent, s2);
  EXPECT_NE(table.find("nobody \"listens\""), std::string::npos);
  const std::string line = table.substr(s2 + 1, table.find('\n', s2 + 1) - s2 - 1);
  EXPECT_NE(line.find(" 1.50 "), std::string::npos) << line;
  EXPECT_NE(line.find(" 3 "), std::string::npos) << "drops of all causes: " << line;
  EXPECT_EQ(line.find(" 5 "), std::string::npos) << "a dead trainer's lag: " << line;
  EXPECT_NE(table.find("ended 2 times, the last time with exit code 137"), std::string::npos);
  EXPECT_NE(table.find("signal 9: no room"), std::string::npos);
  EXPECT_NE(table.find("11 records, 3.0 MiB"), std::string::npos);
}

TEST(StatusTable, JsonHasNullsForWhatAMemberDoesNotHave) {
  const std::string json = fleet_json(sample_fleet());
  EXPECT_NE(
      json.find("\"name\": \"t\", \"role\": \"trainer\", \"age_s\": 1, \"draft_version\": null"),
      std::string::npos)
      << json;
  EXPECT_NE(json.find("\"silent\": \"nobody \\\"listens\\\"\""), std::string::npos);
  EXPECT_NE(json.find("\"accept_len\": 1.5, \"traces_written\": 9, \"traces_dropped\": 3"),
            std::string::npos);
  EXPECT_NE(json.find("\"trainer_last_exit\": \"signal 9: no room on the \\\"disk\\\"\""),
            std::string::npos);
  EXPECT_NE(json.find("\"traces\": {\"records\": 11, \"bytes\": 3145728}"), std::string::npos);
  EXPECT_EQ(fleet_json({}), "{\"members\": []}\n");
}

}  // namespace
}  // namespace aurora
