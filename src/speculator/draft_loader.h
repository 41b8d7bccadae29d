// Watches the registry on a thread of low priority and gets the newest draft ready to serve:
// checked, loaded, its KV built from a snapshot of the live slots. The engine thread only takes a
// finished engine, between two steps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "metrics/aurora_metrics.h"
#include "registry/registry.h"
#include "speculator/draft_check.h"
#include "speculator/draft_engine.h"

namespace aurora {

struct DraftLoaderOptions {
  std::string registry_dir;
  std::string target;       // fingerprint
  std::string target_path;  // its GGUF: a draft must number tokens as it does
  bool gate = true;         // false: every published version serves
  double pays_above = 0;    // a first draft whose replayed accept length is not above this waits
  int32_t threads = 1;      // of the engine once it serves
  int64_t poll_ms = 500;
};

class DraftLoader {
 public:
  DraftLoader(const DraftLoaderOptions& options, const DraftHost& host, ServeMetrics& metrics);
  ~DraftLoader();

  // Engine thread. A ready engine, or null; no wait beyond an uncontended try-lock.
  std::unique_ptr<DraftEngine> take();
  // Engine thread. True when the loader wants to know the live slots' rows; answer with give_rows.
  bool wants_rows() const { return wants_rows_.load(std::memory_order_relaxed); }
  void give_rows(std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows);

  // Engine thread. What serving found goes to disk, and a retired engine is freed, on the loader's
  // thread.
  void report(DraftVerdict verdict);
  void retire(std::unique_ptr<DraftEngine> engine);

 private:
  void run();
  void look();
  Result<std::unique_ptr<DraftEngine>> prepare(const DraftManifest& manifest);
  void prefill(DraftEngine& engine);
  void refuse(const DraftManifest& manifest, const Status& why);

  const DraftLoaderOptions options_;
  const DraftHost host_;
  ServeMetrics& metrics_;
  int64_t newest_seen_ = 0;    // loader's thread
  TokenizerDigest tokenizer_;  // loader's thread, filled at the first draft
  std::atomic<bool> wants_rows_{false};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::unique_ptr<DraftEngine> ready_;
  std::vector<std::unique_ptr<DraftEngine>> retired_;
  std::vector<DraftVerdict> verdicts_;
  std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows_;
  bool rows_given_ = false;

  std::thread thread_;
};

}  // namespace aurora
