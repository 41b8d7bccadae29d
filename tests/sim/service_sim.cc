#include "sim/service_sim.h"

#include <algorithm>

namespace aurora::sim {
namespace {

constexpr size_t kVersionsKept = 8;  // as on the registry's disk

// The server: slots that serve one answer after the other, steps that cost what the machine says.
class Server {
 public:
  Server(const Scenario& scenario, uint64_t seed)
      : scenario_(scenario),
        traffic_(seed),
        noise_(seed + 77),
        slots_(static_cast<size_t>(scenario.slots)) {}

  ToyDrafter::World world() { return {&machine_, &scenario_.domains, &slots_, &now_ms_, &noise_}; }
  std::vector<Serving>& slots() { return slots_; }
  double now_ms() const { return now_ms_; }
  double* clock() { return &now_ms_; }

  void apply(const Happening& happening) {
    if (happening.domain >= 0) domain_ = happening.domain;
    if (happening.slower > 0) slower_ = happening.slower;
  }
  void start(Serving& slot) {
    slot.domain =
        scenario_.mix.empty() ? domain_ : scenario_.mix[started_++ % scenario_.mix.size()];
    slot.answer = make_answer(scenario_.domains[static_cast<size_t>(slot.domain)], traffic_);
    slot.at = 1;  // the prompt's last row gave the first token
    slot.rows = slot.answer.prompt.size();
  }
  void spend_step(int rows) {
    std::normal_distribution<double> noise(1, machine_.noise);
    now_ms_ += machine_.step(rows) * slower_ * std::clamp(noise(noise_), 0.7, 1.3);
  }
  // How many drafted tokens the target takes.
  static int32_t verify(const Serving& slot, const std::vector<int32_t>& drafted) {
    int32_t good = 0;
    while (static_cast<size_t>(good) < drafted.size() &&
           slot.at + static_cast<size_t>(good) < slot.answer.tokens.size() &&
           slot.answer.tokens[slot.at + static_cast<size_t>(good)] ==
               drafted[static_cast<size_t>(good)])
      ++good;
    return good;
  }

 private:
  const Scenario& scenario_;
  Machine machine_ = scenario_.machine;
  std::mt19937_64 traffic_, noise_;
  std::vector<Serving> slots_;
  double now_ms_ = 0;
  double slower_ = 1;
  int domain_ = 0;
  size_t started_ = 0;
};

// A slot's text so far, for the fixed arm that repeats it.
struct Text {
  Text() = default;
  explicit Text(const Answer& answer)
      : index(std::make_unique<NgramIndex>(answer.prompt.size() + answer.tokens.size())) {
    for (const int32_t token : answer.prompt) add(token);
  }
  void follow(const Serving& slot) {
    while (tokens.size() < slot.answer.prompt.size() + slot.at)
      add(slot.answer.tokens[tokens.size() - slot.answer.prompt.size()]);
  }
  void add(int32_t token) {
    tokens.push_back(token);
    index->append(token);
  }

  std::vector<int32_t> tokens;
  std::unique_ptr<NgramIndex> index;
};

class Windows {
 public:
  explicit Windows(int64_t window) : window_(window) {}
  void step(int64_t step, int64_t tokens, double now_ms, std::vector<double>& out) {
    tokens_ += tokens;
    if ((step + 1) % window_ != 0) return;
    out.push_back(static_cast<double>(tokens_) / (now_ms - since_ms_));
    tokens_ = 0;
    since_ms_ = now_ms;
  }

 private:
  int64_t window_;
  int64_t tokens_ = 0;
  double since_ms_ = 0;
};

}  // namespace

RunResult run_service(const Scenario& scenario, const DraftServiceOptions& options, uint64_t seed) {
  Server server(scenario, seed);
  RunResult result;
  int64_t step = 0;
  DraftService::Events events;
  events.verdict = [&](const VersionVerdict& verdict) {
    result.verdicts.push_back(verdict);
    result.verdict_steps.push_back(step);
  };
  events.retire = [&](std::unique_ptr<ChainDrafter>) { ++result.retired; };
  events.failed = [](const Status&) {};
  events.now_us = [&] { return static_cast<int64_t>(server.now_ms() * 1000); };
  DraftServiceOptions seeded = options;
  seeded.seed = seed;
  DraftService service(seeded, std::move(events), scenario.slots);
  std::vector<StepPoint> points;
  for (const int rows : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32})
    points.push_back({rows, scenario.machine.step(rows)});
  service.step_cost().measured(points);

  const auto begin_request = [&](size_t i) {
    Serving& slot = server.slots()[i];
    server.start(slot);
    ServiceRequest request;
    request.prompt = slot.answer.prompt;
    request.remember = true;
    request.grammar =
        scenario.kinds_told && scenario.domains[static_cast<size_t>(slot.domain)].grammar;
    service.request_start(static_cast<int32_t>(i), request);
    service.token_served(static_cast<int32_t>(i), slot.answer.tokens[0]);
  };
  Windows windows(scenario.window);
  size_t next = 0;
  std::vector<Happening> waiting;  // versions, the newest last: the loader keeps them
  const KeptRows rows;
  std::vector<double> domain_tokens(scenario.domains.size()), domain_ms(scenario.domains.size());
  for (; step < scenario.steps; ++step) {
    for (; next < scenario.happenings.size() && scenario.happenings[next].step <= step; ++next) {
      server.apply(scenario.happenings[next]);
      if (scenario.happenings[next].version > 0) waiting.push_back(scenario.happenings[next]);
      if (waiting.size() > kVersionsKept) waiting.erase(waiting.begin());
    }
    const auto wanted = service.wanted();
    for (auto v = waiting.rbegin(); v != waiting.rend(); ++v) {
      if (!wanted(v->version, false)) continue;
      service.adopt(std::make_unique<ToyDrafter>(v->version, v->chances, server.world(), v->broken),
                    v->replay_accept_len, 3);
      break;
    }
    std::vector<DraftService::Wish> wishes;
    for (size_t i = 0; i < server.slots().size(); ++i) {
      Serving& slot = server.slots()[i];
      if (slot.answer.tokens.empty() || slot.at >= slot.answer.tokens.size()) {
        if (!slot.answer.tokens.empty()) service.request_end(static_cast<int32_t>(i));
        begin_request(i);
      }
      DraftService::Wish wish;
      wish.slot = static_cast<int32_t>(i);
      wish.rows = &rows;
      wish.next = slot.answer.tokens[slot.at - 1];
      wish.depth_max = static_cast<int32_t>(slot.answer.tokens.size() - slot.at);
      wishes.push_back(std::move(wish));
    }
    const double begin_ms = server.now_ms();
    service.draft(wishes, 256);
    int step_rows = 0;
    for (const auto& wish : wishes) step_rows += 1 + static_cast<int>(wish.tokens.size());
    server.spend_step(step_rows);
    service.decoded(step_rows);
    int64_t tokens = 0;
    for (const auto& wish : wishes) {
      Serving& slot = server.slots()[static_cast<size_t>(wish.slot)];
      const int32_t accepted = Server::verify(slot, wish.tokens);
      service.stepped(wish.slot, accepted);
      for (int32_t k = 0; k <= accepted && slot.at < slot.answer.tokens.size(); ++k) {
        service.token_served(wish.slot, slot.answer.tokens[slot.at++]);
        ++slot.rows;
        ++tokens;
      }
    }
    const auto domain = static_cast<size_t>(server.slots()[0].domain);
    domain_tokens[domain] += static_cast<double>(tokens);
    domain_ms[domain] += server.now_ms() - begin_ms;
    windows.step(step, tokens, server.now_ms(), result.window_rate);
    if ((step + 1) % scenario.window == 0) result.serving.push_back(service.serving());
  }
  for (size_t i = 0; i < domain_ms.size(); ++i)
    result.domain_rate.push_back(domain_ms[i] > 0 ? domain_tokens[i] / domain_ms[i] : 0);
  return result;
}

RunResult run_fixed(const Scenario& scenario, const FixedArm& arm, uint64_t seed) {
  Server server(scenario, seed);
  RunResult result;
  Windows windows(scenario.window);
  size_t next = 0;
  std::unique_ptr<ToyDrafter> drafter;
  std::vector<Text> texts(server.slots().size());
  for (int64_t step = 0; step < scenario.steps; ++step) {
    for (; next < scenario.happenings.size() && scenario.happenings[next].step <= step; ++next) {
      const Happening& h = scenario.happenings[next];
      server.apply(h);
      if (h.version > 0 && !h.broken)
        drafter = std::make_unique<ToyDrafter>(h.version, h.chances, server.world());
    }
    int step_rows = 0;
    std::vector<std::vector<int32_t>> drafts;
    std::vector<ChainWish> wishes(server.slots().size());
    for (size_t i = 0; i < server.slots().size(); ++i) {
      Serving& slot = server.slots()[i];
      if (slot.answer.tokens.empty() || slot.at >= slot.answer.tokens.size()) server.start(slot);
      wishes[i].slot = static_cast<int32_t>(i);
      std::vector<int32_t> draft;
      if (arm.kind == FixedArm::kRepeat) {
        Text& text = texts[i];
        if (slot.at == 1) text = Text(slot.answer);
        text.follow(slot);
        const auto match = text.index->find(
            std::span(text.tokens)
                .last(std::min<size_t>(text.tokens.size(), NgramIndex::kMatchMax)));
        if (match.length > 0) text.index->copy(match.next, static_cast<size_t>(arm.depth), draft);
      }
      drafts.push_back(std::move(draft));
    }
    if (arm.kind == FixedArm::kChain && drafter) {
      std::vector<ChainWish*> all;
      for (ChainWish& wish : wishes) all.push_back(&wish);
      (void)drafter->begin(all).is_ok();
      for (int d = 1; d < arm.depth; ++d) (void)drafter->next(all).is_ok();
      for (size_t i = 0; i < wishes.size(); ++i) drafts[i] = wishes[i].tokens;
    }
    for (const auto& draft : drafts) step_rows += 1 + static_cast<int>(draft.size());
    server.spend_step(step_rows);
    int64_t tokens = 0;
    for (size_t i = 0; i < drafts.size(); ++i) {
      Serving& slot = server.slots()[i];
      const int32_t accepted = Server::verify(slot, drafts[i]);
      for (int32_t k = 0; k <= accepted && slot.at < slot.answer.tokens.size(); ++k) {
        ++slot.at;
        ++slot.rows;
        ++tokens;
      }
    }
    windows.step(step, tokens, server.now_ms(), result.window_rate);
  }
  return result;
}

}  // namespace aurora::sim
