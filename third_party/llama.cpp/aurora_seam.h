// The seam between llama.cpp's server and the flywheel: what the edited llama.cpp calls, and
// nothing else of ours. build.py copies this header into the unpacked source (common/), so it uses
// the standard library alone. The pointer below is null in a plain llama-server: every call site
// checks it, and stock behaviour remains.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct llama_context;
struct common_batch;
struct common_speculative_draft_params;

namespace aurora {

// Taps of one decoded token: the inputs of three target layers, fp16 bits, [3, hidden]. Immutable
// once made, so a prompt's clone, a trace on its way to disk and a draft being built on another
// thread share it.
struct KeptRow {
  uint64_t id = 0;  // unique in the process: equal id means same token at the same position behind
                    // the same prefix
  int32_t token = 0;
  std::vector<uint16_t> taps;
};
using KeptRowPtr = std::shared_ptr<const KeptRow>;

// Rows of a cached prompt, index = position. A member of server_prompt: it is cloned, moved to the
// RAM prompt cache, restored and cleared with the KV cells it belongs to. Null before the first
// known row: the cells there came from a file, or were moved.
struct KeptRows {
  std::vector<KeptRowPtr> rows;

  void clear() { rows.clear(); }
  size_t bytes() const {
    return rows.empty() || !rows.back()
               ? 0
               : rows.size() * (sizeof(KeptRow) + rows.back()->taps.size() * sizeof(uint16_t));
  }
};

// From the HTTP headers X-Aurora-Capture, X-Aurora-Speculate, X-Aurora-Tenant, X-Aurora-Domain,
// X-Aurora-Expires-In, X-Aurora-Rollout-Of.
struct RequestLabels {
  bool capture = true;
  bool speculate = true;
  int64_t expires_in_s = 0;  // 0: the server's default
  uint64_t rollout_of =
      0;  // the trace id of the request whose prompt is answered again; 0: a user's
  std::string tenant;
  std::string domain;
  // Not a header but "speculative": {"n_max": N} of the body: most tokens of a draft.
  int32_t draft_max = INT32_MAX;
  bool figures = false;  // X-Aurora-Figures: the answer has request_figures() in it
};

struct RequestStart {
  int32_t slot = 0;
  int32_t kept = 0;             // positions [0, kept) stay in the KV cache
  std::vector<int32_t> prompt;  // empty when not plain text
  bool completion = true;       // false: embedding, rerank
  bool multimodal = false;      // a picture in the prompt
  bool lora = false;
  float temperature = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  uint32_t seed = 0;
  RequestLabels labels;
  bool grammar = false;  // what may be sampled is bounded by a grammar: JSON schema, tools
  bool tools = false;    // such a one that begins with a tool call
};

// All calls come from the thread that owns the engine, except those that say "any thread".
// None may throw, none waits for disk, trainer or registry.
class Seam {
 public:
  virtual ~Seam() = default;

  // Target loaded, contexts ready, before the first request. A sentence when this target cannot be
  // served, else "".
  virtual std::string attach(llama_context* target, int32_t slots, int32_t draft_max) = 0;
  virtual void detach() = 0;  // before the target is freed (shutdown, sleep)

  // A request is about to keep `kept` cached positions, the first `unmoved` of them where they
  // were. Returns how many it shall keep: behind them the cells are evaluated again for their rows.
  virtual int32_t positions_to_keep(int32_t kept, int32_t unmoved, KeptRows* rows) = 0;
  virtual void request_start(const RequestStart& start, KeptRows* rows) = 0;
  virtual void request_copied(int32_t from, int32_t to,
                              KeptRows* rows) = 0;  // n > 1: same prompt, same start
  virtual void token_served(int32_t slot, int32_t token) = 0;
  virtual void request_end(int32_t slot) = 0;
  virtual void cells_free(
      int64_t cells) = 0;  // KV cells left for drafts in the coming step, all slots together

  virtual void process(const common_batch& batch) = 0;  // after every target decode
  virtual void draft(std::vector<common_speculative_draft_params>& params) = 0;
  virtual void accept(int32_t slot, int32_t accepted) = 0;

  // Any thread. headers: values of one name stand in lines. A sentence when the request is refused.
  virtual std::string labels_from(const std::map<std::string, std::string>& headers,
                                  RequestLabels& labels) const = 0;
  virtual std::string metrics_text() = 0;  // any thread
  // Any thread. What the live page draws, JSON; seen: "seen" of the answer before it, or "".
  virtual std::string live_state(const std::string& seen) = 0;
  // Any thread. A switch of the live page: drafting or training, on or off. A sentence when there
  // is no such thing, else "".
  virtual std::string turn(const std::string& what, const std::string& to) = 0;
  // Before request_end(): what drafting did for it, JSON, or "".
  virtual std::string request_figures(int32_t slot) = 0;
};

// Both set once, before the server starts.
inline Seam* seam = nullptr;
inline const char* live_page = nullptr;  // HTML at "/" and "/aurora"

inline std::atomic<uint64_t> log_lines_dropped{0};  // of llama.cpp's log: nobody read it

}  // namespace aurora
