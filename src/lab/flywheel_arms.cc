// The second phase of `aurora bench flywheel`: all ways to decode the same new prompts.
#include <algorithm>
#include <deque>

#include "lab/flywheel_bench.h"
#include "lab/prompt_stream.h"
#include "replay/text.h"

namespace aurora {
namespace {

constexpr int kWarmTokens = 16;

struct Arm {
  std::string name;
  ServerChild* server = nullptr;
  std::unique_ptr<ServerChild> own = nullptr;  // not the learning server
  bool speculate = true;
  ArmFigures figures = {};  // for the number of slots that is measured now
};

class Arms {
 public:
  Arms(FlywheelBench& bench, ServerChild& learning, const PromptStream& stream)
      : bench_(bench), learning_(learning), stream_(stream) {}

  Status run();

 private:
  Status start(const std::string& name);
  Status warm(Arm& arm);
  Status measure(int slots, std::span<const Prompt> prompts);
  Status turn(std::span<const Prompt> prompts, size_t number);
  Turn ask_arm(Arm& arm, std::span<const Prompt> prompts);
  void count(Arm& arm, const Turn& turn, const Turn* plain);
  std::string speeds() const;

  FlywheelBench& bench_;
  ServerChild& learning_;
  const PromptStream& stream_;
  std::deque<Arm> arms_;  // the learning server first
};

Status Arms::run() {
  if (!bench_.options.trainer_beside) learning_.let_trainer_run(false);
  arms_.push_back({.name = "learning", .server = &learning_});
  for (const std::string& name : bench_.options.arms) {
    if (bench_.stop) return Status::ok();
    std::fprintf(stderr, "starting %s\n", name.c_str());
    if (Status s = start(name); !s) return s;
  }
  for (size_t i = 0; i < bench_.options.slots.size() && !bench_.stop; ++i)
    if (Status s = measure(bench_.options.slots[i], stream_.kept_back(i)); !s) return s;
  arms_.clear();  // before the trainer has the cores again
  learning_.let_trainer_run(true);
  return Status::ok();
}

Status Arms::start(const std::string& name) {
  if (name == "learning") return Status::ok();
  Arm arm{.name = name};
  if (name == "off") {
    arm.server = &learning_;
    arm.speculate = false;
    arms_.push_back(std::move(arm));
    return Status::ok();
  }
  const bool stock = name.starts_with("stock");
  std::vector<std::string> flags;
  if (!stock) flags = {"--train", "off", "--draft-arms", name, "--state", bench_.state_of(name)};
  else if (name != "stock") flags = {"--spec-type", name.substr(name.find('-') + 1)};
  auto server = stock ? bench_.start_stock(name, flags) : bench_.start_ours(name, flags);
  if (!server) return server.status();
  arm.own = std::move(*server);
  arm.server = arm.own.get();
  if (Status s = warm(arm); !s) return s;
  arms_.push_back(std::move(arm));
  return Status::ok();
}

// Pages of the weights, the first use of each buffer: of no arm's decoding. Then past traffic.
Status Arms::warm(Arm& arm) {
  const Prompt hello{"warm-up", "", R"([{"role": "user", "content": "Hello"}])"};
  AskOptions how = bench_.asking(*arm.server);
  how.tokens_max = kWarmTokens;
  const Turn turn = ask({&hello, 1}, how);
  if (!turn.whole()) return turn.answers.front().status();
  how = bench_.asking(*arm.server);
  for (const Prompt& prompt : stream_.given(bench_.options.warm)) {
    if (bench_.stop) break;
    bench_.ask_counted({&prompt, 1}, how);
  }
  return bench_.go_on();
}

Status Arms::measure(int slots, std::span<const Prompt> prompts) {
  const auto at_once = static_cast<size_t>(slots);
  bench_.progress.begin(printed("all arms, %d at a time", slots),
                        static_cast<double>(prompts.size()));
  for (Arm& arm : arms_) arm.figures = {.name = arm.name, .slots = slots};
  size_t number = 0;
  for (size_t at = 0; at < prompts.size() && !bench_.stop; at += at_once) {
    const auto some = prompts.subspan(at, std::min(at_once, prompts.size() - at));
    if (Status s = turn(some, number++); !s) return s;
    bench_.progress.show(static_cast<double>(at + some.size()), speeds());
  }
  bench_.progress.end();
  for (const Arm& arm : arms_) bench_.run.arms.push_back(arm.figures);
  return Status::ok();
}

Status Arms::turn(std::span<const Prompt> prompts, size_t number) {
  std::vector<Turn> turns(arms_.size());
  for (size_t i = 0; i < arms_.size(); ++i) {
    const size_t which = (i + number) % arms_.size();
    turns[which] = ask_arm(arms_[which], prompts);
    if (Status s = bench_.go_on(); !s) return s;
  }
  // Ratios are of the same prompts: one that failed anywhere counts nowhere.
  if (!std::all_of(turns.begin(), turns.end(), [](const Turn& one) { return one.whole(); }))
    return Status::ok();
  const Turn* plain = nullptr;
  for (size_t i = 0; i < arms_.size(); ++i)
    if (arms_[i].name == "none" || (plain == nullptr && arms_[i].name == "off")) plain = &turns[i];
  for (size_t i = 0; i < arms_.size(); ++i) count(arms_[i], turns[i], plain);
  return Status::ok();
}

// Every arm evaluates the whole prompt: the learning server may have seen it in another arm.
Turn Arms::ask_arm(Arm& arm, std::span<const Prompt> prompts) {
  AskOptions how = bench_.asking(*arm.server);
  how.speculate = arm.speculate;
  how.cache_prompt = false;
  const bool beside = bench_.options.trainer_beside && arm.server == &learning_;
  if (bench_.options.trainer_beside) learning_.let_trainer_run(beside);
  return bench_.ask_counted(prompts, how);
}

void Arms::count(Arm& arm, const Turn& turn, const Turn* plain) {
  arm.figures.speed.add(turn.rate());
  for (const auto& answer : turn.answers) {
    arm.figures.tokens += answer.value().tokens;
    arm.figures.accepted += answer.value().accepted_tokens;
    arm.figures.latency.add(answer.value());
  }
  if (plain == nullptr) return;
  arm.figures.texts += turn.answers.size();
  arm.figures.same_texts += same_texts(turn, *plain);
}

std::string Arms::speeds() const {
  std::string text;
  for (const Arm& arm : arms_)
    text +=
        printed("%s%s %.1f", text.empty() ? "" : "  ", arm.name.c_str(), arm.figures.speed.per_s());
  return text;
}

}  // namespace

Status run_arms(FlywheelBench& bench, ServerChild& learning, const PromptStream& stream) {
  return Arms(bench, learning, stream).run();
}

}  // namespace aurora
