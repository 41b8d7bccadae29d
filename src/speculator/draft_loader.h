// Watches the registry on a thread of low priority and gets the newest draft that the service wants
// ready to serve: checked, loaded, its KV built from a snapshot of the live slots. A file that is
// damaged is refused for ever, one that met a passing error is tried again, and an older one is
// taken where no newer one can be. The engine thread only takes a finished engine, between two
// steps; it never waits here.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "draft/draft_check.h"
#include "metrics/aurora_metrics.h"
#include "registry/registry.h"
#include "speculator/draft_engine.h"

namespace aurora {

struct DraftLoaderOptions {
  std::string registry_dir;
  std::string target;       // fingerprint
  std::string target_path;  // its GGUF: a draft must number tokens as it does
  int32_t threads = 1;      // of the engine once it serves
  int64_t poll_ms = 500;
};

class DraftLoader {
 public:
  DraftLoader(const DraftLoaderOptions& options, const DraftHost& host, ServeMetrics& metrics);
  ~DraftLoader();

  struct Ready {
    std::unique_ptr<DraftEngine> engine;  // null: none is ready
    double replay_accept_len = 0;         // what the trainer expects of it
    bool pinned = false;                  // by hand: serves without a trial
  };
  // Engine thread. No wait beyond an uncontended try-lock.
  Ready take();
  // Engine thread. Which versions the service would take (DraftService::wanted), asked on the
  // loader's thread. False: it is busy, say it again. Until the first, none is wanted.
  bool set_wanted(std::function<bool(int64_t version, bool pinned)> wanted);
  // Any thread. True while a draft is read, checked and built: it takes a core for some seconds.
  bool works() const { return works_.load(std::memory_order_relaxed); }
  // Engine thread. True when the loader wants to know the live slots' rows; answer with give_rows.
  bool wants_rows() const { return wants_rows_.load(std::memory_order_relaxed); }
  void give_rows(std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows);

  // Engine thread. What serving found goes to disk, and a retired engine is freed, on the loader's
  // thread; kept here until its lock is free.
  void report(DraftVerdict verdict);
  void retire(std::unique_ptr<ChainDrafter> engine);
  void hand_over();  // what report() and retire() have kept; once a step

 private:
  struct Tried {  // and failed for a reason that may pass
    int64_t version = 0;
    int times = 0;
    int64_t again_us = 0;
  };
  struct Outbox {
    std::vector<std::unique_ptr<ChainDrafter>> retired;
    std::vector<DraftVerdict> verdicts;
    bool empty() const { return retired.empty() && verdicts.empty(); }
  };

  static void append(Outbox& from, Outbox& to);
  void run();
  void look();
  bool take_up(const DraftManifest& manifest, bool pinned);
  bool may_try(int64_t version) const;
  void try_again_later(const DraftManifest& manifest, const Status& why);
  Result<std::unique_ptr<DraftEngine>> prepare(const DraftManifest& manifest);
  void prefill(DraftEngine& engine);
  void refuse(const DraftManifest& manifest, const Status& why);
  void write(const std::vector<DraftVerdict>& verdicts);

  const DraftLoaderOptions options_;
  const DraftHost host_;
  ServeMetrics& metrics_;
  std::optional<Registry> registry_;  // loader's thread, opened once
  std::vector<Tried> tried_;          // loader's thread, at most kTriedMax
  TokenizerDigest tokenizer_;         // loader's thread, filled at the first draft
  Outbox outbox_;                     // engine's thread
  std::atomic<bool> wants_rows_{false};
  std::atomic<bool> works_{false};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Ready ready_;
  Outbox inbox_;
  std::function<bool(int64_t, bool)> wanted_;
  std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows_;
  bool rows_given_ = false;

  std::thread thread_;
};

}  // namespace aurora
