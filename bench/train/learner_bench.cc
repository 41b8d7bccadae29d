// aurora-learner-bench: seconds of one training step on a made-up request of given size; prints one
// line of JSON. bench/train/pytorch_step.py runs it beside a plain PyTorch step.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/median.h"
#include "train/learner.h"

namespace aurora {
namespace {

struct Size {
  int hidden = 576, heads = 9, kv_heads = 3, head_dim = 64, ff = 1536;  // SmolLM2-135M
  int vocab = 4096, prompt = 100, served = 112, steps = 3, repeats = 8, law_k = 64, threads = 1;
  double unreached = 1.0;
};

class RandomRows final : public TargetRows {
 public:
  explicit RandomRows(int hidden) : hidden_(hidden) {}
  Status token_rows(std::span<const int32_t> ids, float* out) const override {
    return fill(ids.size(), out);
  }
  Status head_rows(std::span<const int64_t> ids, float* out) const override {
    return fill(ids.size(), out);
  }

 private:
  Status fill(size_t rows, float* out) const {
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 0.1f);
    for (size_t i = 0; i < rows * static_cast<size_t>(hidden_); ++i) out[i] = normal(rng);
    return Status::ok();
  }
  const int hidden_;
};

DraftWeights random_draft(const Size& s) {
  DraftWeights w;
  w.shape.hidden = s.hidden, w.shape.heads = s.heads, w.shape.kv_heads = s.kv_heads;
  w.shape.head_dim = s.head_dim, w.shape.ff = s.ff, w.shape.target_vocab = s.vocab;
  std::mt19937 rng(2);
  std::normal_distribution<float> normal(0, 0.02f);
  const auto fill = [&](std::vector<float>& out, int rows, int columns) {
    out.resize(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    for (float& x : out) x = normal(rng);
  };
  const int d = s.hidden, q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  fill(w.fc, d, 3 * d);
  for (auto* norm : {&w.attn_norm, &w.hidden_norm, &w.ffn_norm, &w.output_norm})
    norm->assign(static_cast<size_t>(d), 1.0f);
  fill(w.wq, q, 2 * d);
  fill(w.wk, kv, 2 * d);
  fill(w.wv, kv, 2 * d);
  fill(w.wo, d, q);
  fill(w.gate, s.ff, d);
  fill(w.up, s.ff, d);
  fill(w.down, d, s.ff);
  fill(w.output, s.vocab, d);
  for (int i = 0; i < s.vocab; ++i) w.d2t.push_back(i);
  return w;
}

TraceRecord random_record(const Size& s) {
  TraceRecord r;
  std::mt19937 rng(3);
  const auto token = [&] { return static_cast<int32_t>(rng() % static_cast<uint32_t>(s.vocab)); };
  r.hidden = s.hidden;
  r.prompt_tokens = s.prompt;
  for (int i = 0; i < s.prompt + s.served; ++i) r.tokens.push_back(token());
  for (int i = 0; i < r.rows() * kTapCount * s.hidden; ++i)
    r.taps.push_back(static_cast<uint16_t>(0x3400u + (rng() & 0x8BFFu)));
  r.laws.k = s.law_k;
  for (int i = 0; i < s.served; ++i) {
    for (int j = 0; j < s.law_k; ++j) {
      r.laws.ids.push_back(j == 0 ? r.tokens[static_cast<size_t>(s.prompt + i)] : token());
      r.laws.logprobs.push_back(std::log(j == 0 ? 0.7f : 0.2f / static_cast<float>(s.law_k)));
    }
  }
  return r;
}

bool parse(int argc, char** argv, Size& s) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const int value = std::atoi(argv[i + 1]);
    if (flag == "--unreached") s.unreached = std::atof(argv[i + 1]);
    else if (flag == "--hidden") s.hidden = value;
    else if (flag == "--heads") s.heads = value;
    else if (flag == "--kv-heads") s.kv_heads = value;
    else if (flag == "--head-dim") s.head_dim = value;
    else if (flag == "--mlp") s.ff = value;
    else if (flag == "--vocab") s.vocab = value;
    else if (flag == "--prompt") s.prompt = value;
    else if (flag == "--served") s.served = value;
    else if (flag == "--steps") s.steps = value;
    else if (flag == "--repeats") s.repeats = value;
    else if (flag == "--threads") s.threads = value;
    else return false;
  }
  return argc % 2 == 1;
}

int run(const Size& size) {
  LearnOptions options;
  options.steps = size.steps;
  options.threads = size.threads;
  options.unreached_share = static_cast<float>(size.unreached);
  // The same request again and again would be learnt by heart, and more rows would go on each time.
  options.lr_fc = options.lr_layer = options.lr_head = 0;
  const RandomRows rows(size.hidden);
  auto learner = make_learner(random_draft(size), rows, options);
  if (!learner) return 1;
  const TraceRecord record = random_record(size);
  const TraceRecord* refs[] = {&record};
  std::vector<double> seconds;
  int columns = 0;
  for (int i = 0; i <= size.repeats; ++i) {
    auto result = (*learner)->learn(refs);
    if (!result) {
      std::fprintf(stderr, "%s\n", result.status().to_string().c_str());
      return 1;
    }
    columns = result->columns;
    if (i > 0) seconds.push_back(result->seconds);  // the first one warms up
  }
  std::printf("{\"columns\": %d, \"seconds\": %.6f}\n", columns, median(seconds));
  return 0;
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  aurora::Size size;
  if (!aurora::parse(argc, argv, size)) {
    std::fputs(
        "usage: aurora-learner-bench [--hidden N] [--heads N] [--kv-heads N] [--head-dim N] "
        "[--mlp N] [--vocab N] [--prompt N] [--served N] [--steps N] "
        "[--unreached X] [--repeats N] [--threads N]\n",
        stderr);
    return 2;
  }
  return aurora::run(size);
}
