// The figures of `aurora bench flywheel` for programs.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lab/flywheel_figures.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kKeys[] = {
    "over_stock",      "over_stock_best",    "over_own_none",          "over_stock_4",
    "over_own_none_4", "online_over_static", "worst_window_over_none", "hostile_over_none"};

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

Json number_or_null(std::optional<double> value) {
  return value && *value > 0 ? Json(rounded(*value)) : Json();
}

Json latency_json(const Latency& latency) {
  return {{"first_token_ms_p50", rounded(quantile(latency.first, 0.5))},
          {"between_tokens_ms_p50", rounded(quantile(latency.gaps, 0.5))},
          {"between_tokens_ms_p99", rounded(quantile(latency.gaps, 0.99))}};
}

Json compared_json(const Compared& pairs) {
  return {{"pairs", pairs.pairs()},
          {"ratio", number_or_null(pairs.ratio())},
          {"ratio_error", rounded(pairs.ratio_error())},
          {"tokens_per_s_with", rounded(pairs.with.per_s())},
          {"tokens_per_s_without", rounded(pairs.without.per_s())},
          {"texts", pairs.texts},
          {"same_texts", pairs.same_texts}};
}

Json window_json(const LearnWindow& window) {
  Json object = {{"domain", window.domain},
                 {"served_tokens", window.served_tokens},
                 {"requests", window.requests},
                 {"tokens_per_s", rounded(window.speed.per_s())},
                 {"accept_len", rounded(window.accept_len())},
                 {"draft_version", window.draft_version},
                 {"swaps", window.swaps},
                 {"rollbacks", window.rollbacks},
                 {"trainer_cpu_share", rounded(window.trainer_share)}};
  object.update(latency_json(window.latency));
  object["over_none"] = compared_json(window.pairs);
  if (window.frozen.pairs() > 0) object["over_static"] = compared_json(window.frozen);
  return object;
}

Json arm_json(const ArmFigures& arm) {
  Json object = {{"arm", arm.name},
                 {"slots", arm.slots},
                 {"tokens_per_s", rounded(arm.speed.per_s())},
                 {"tokens", arm.tokens},
                 {"accept_len", rounded(arm.accept_len())}};
  object.update(latency_json(arm.latency));
  object["texts"] = arm.texts;
  object["same_texts"] = arm.same_texts;
  return object;
}

Json ratios_json(const Flywheel& run) {
  Json ratios = Json::array();
  std::vector<int> seen;
  for (const ArmFigures& arm : run.arms) {
    if (std::count(seen.begin(), seen.end(), arm.slots) > 0) continue;
    seen.push_back(arm.slots);
    ratios.push_back({{"slots", arm.slots},
                      {"over_stock", number_or_null(over(run, "stock", arm.slots))},
                      {"over_stock_best", number_or_null(over_stock_best(run, arm.slots))},
                      {"over_own_none", number_or_null(over(run, "none", arm.slots))},
                      {"over_own_off", number_or_null(over(run, "off", arm.slots))},
                      {"over_own_ngram", number_or_null(over(run, "ngram", arm.slots))}});
  }
  return ratios;
}

Json run_json(const Flywheel& run) {
  Json object = Json::object();
  for (const auto& [name, value] : run.settings) object[name] = value;
  object["wall_s"] = rounded(run.wall_s);
  object["interrupted"] = run.interrupted;
  object["failed"] = run.failed;
  object["failures"] = run.failures;
  object["notes"] = run.notes;
  object["swaps"] = run.swaps;
  object["rollbacks"] = run.rollbacks;
  object["learning_over_none"] = compared_json(all_pairs(run, &LearnWindow::pairs));
  object["learning_over_static"] = compared_json(all_pairs(run, &LearnWindow::frozen));
  object["pairs_enough"] = kPairsEnough;  // of a window that may be the worst
  object["ratios"] = ratios_json(run);
  object["metrics"] = run.curve.metrics;
  Json& windows = object["windows"] = Json::array();
  for (const LearnWindow& window : run.windows) windows.push_back(window_json(window));
  Json& arms = object["arms"] = Json::array();
  for (const ArmFigures& arm : run.arms) arms.push_back(arm_json(arm));
  return object;
}

// Sampled answers have figures of their own below "runs": the keys are of greedy ones.
Json keys_of(const Flywheel& run) {
  Json keys = Json::object();
  for (const char* key : kKeys) keys[key] = Json();
  if (run.sampled) return keys;
  if (run.hostile) {
    keys["hostile_over_none"] = number_or_null(all_pairs(run, &LearnWindow::pairs).ratio());
    return keys;
  }
  keys["over_stock"] = number_or_null(over(run, "stock", 1));
  keys["over_stock_best"] = number_or_null(over_stock_best(run, 1));
  keys["over_own_none"] = number_or_null(over(run, "none", 1));
  keys["over_stock_4"] = number_or_null(over(run, "stock", 4));
  keys["over_own_none_4"] = number_or_null(over(run, "none", 4));
  keys["online_over_static"] = number_or_null(all_pairs(run, &LearnWindow::frozen).ratio());
  if (const LearnWindow* worst = worst_window(run))
    keys["worst_window_over_none"] = number_or_null(worst->pairs.ratio());
  return keys;
}

double count_in(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_number() ? object[key].get<double>() : 0;
}

}  // namespace

Result<std::string> flywheel_json(const Flywheel& run, const std::string& earlier) {
  Json all = keys_of(run);
  Json before = Json::object();
  if (!earlier.empty()) {
    before = Json::parse(earlier, nullptr, /*allow_exceptions=*/false);
    if (!before.is_object()) return Status::corrupt("the earlier run is no JSON object");
  }
  for (const char* key : kKeys)
    if (all[key].is_null() && before.contains(key)) all[key] = before[key];
  all["failed"] =
      static_cast<int64_t>(count_in(before, "failed")) + static_cast<int64_t>(run.failed);
  all["swaps"] = static_cast<int64_t>(count_in(before, "swaps")) + run.swaps;
  Json& runs = all["runs"] = Json::array();
  if (before.contains("runs") && before["runs"].is_array()) runs = before["runs"];
  runs.push_back(run_json(run));
  return all.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace aurora
