#include "train/prequential_options.h"

#include <algorithm>

namespace aurora {
namespace {

constexpr int64_t kCountMax = 1'000'000'000'000;

std::vector<std::string> listed(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == ',') words.emplace_back();
    else words.back() += c;
  }
  return words;
}

bool read_depths(const std::string& text, std::vector<int>& out) {
  out.clear();
  for (const std::string& word : listed(text)) {
    int depth = 0;
    if (!parse_number(word, 1, 16, depth)) return false;
    out.push_back(depth);
  }
  std::sort(out.begin(), out.end());
  return true;
}

}  // namespace

std::vector<Flag> prequential_flags(PrequentialOptions& o) {
  return {
      {"--trace-db", "DIR",
       "traces of a state folder; may be given more than once, one behind the other", "DIR", "", "",
       [&o](const std::string& v) {
         o.trace_dbs.push_back(v);
         return !v.empty();
       }},
      number_flag("--tokens", "served tokens of the stream; 0: all", o.tokens_max, 0, kCountMax),
      {"--depths", "N,...", "draft lengths that are scored", "numbers from 1 to 16, as in 2,4", "",
       "4", [&o](const std::string& v) { return read_depths(v, o.depths); }},
      number_flag("--passes", "trained rows for each served token, and for each of a rollout",
                  o.passes, 0, 1e6),
      number_flag("--group", "requests between two swaps", o.group_requests, 1, 1 << 30),
      number_flag("--window", "requests of one figure", o.window_requests, 1, 1 << 30),
      {"--domains", "A,B,...", "these domains one behind the other", "names, as in sql,python", "",
       "the stream as recorded",
       [&o](const std::string& v) {
         o.domains = listed(v);
         return !v.empty();
       }},
      number_flag("--domain-requests", "of each domain at most", o.domain_requests_max, 1, 1 << 30),
      choice_flag("--freeze-at-shift",
                  "also score the draft of the moment at which the domain changed",
                  o.freeze_at_shift, {{"on", true}, {"off", false}}),
      number_flag("--seen",
                  "at every window also score the first N requests again, which it has learnt from",
                  o.seen_requests, 0, 1 << 30),
      number_flag("--offline-tokens",
                  "train on the first N tokens alone, then score the rest without training; 0: "
                  "train all along",
                  o.offline_tokens, 0, kCountMax),
  };
}

Result<PrequentialOptions> parse_prequential_options(const std::vector<std::string>& args) {
  PrequentialOptions options;
  CommandLine line = {"aurora-train prequential", "", "", prequential_flags(options)};
  line.flags.push_back(
      text_flag("--json", "FILE", "figures, rewritten after every window", options.json));
  const auto recipe = std::find(args.begin(), args.end(), "--");
  if (Status s = parse_flags(line, {args.begin(), recipe}); !s) return s;
  if (options.trace_dbs.empty() || options.json.empty())
    return Status::invalid(
        "give --trace-db DIR and --json FILE, then -- and flags of aurora train");
  auto train = parse_train_options({recipe == args.end() ? recipe : recipe + 1, args.end()});
  if (!train) return train.status();
  options.train = std::move(*train);
  return options;
}

}  // namespace aurora
