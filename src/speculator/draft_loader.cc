#include "speculator/draft_loader.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr int kLoaderNice = 10;
constexpr size_t kVerdictsMax = 64;
constexpr size_t kTriedMax = 64;
constexpr int64_t kRetrySecondsMax = 600;
constexpr std::chrono::milliseconds kRowsWait(300);  // no step in this time: nobody is being served

void lower_priority() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kLoaderNice);
}

}  // namespace

DraftLoader::DraftLoader(const DraftLoaderOptions& options, const DraftHost& host,
                         ServeMetrics& metrics)
    : options_(options), host_(host), metrics_(metrics), thread_([this] { run(); }) {}

DraftLoader::~DraftLoader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    append(outbox_, inbox_);  // the last verdicts are written, too
  }
  changed_.notify_all();
  thread_.join();
}

DraftLoader::Ready DraftLoader::take() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return {};
  // What was wanted before this one came would have it loaded again.
  if (ready_.engine) wanted_ = nullptr;
  return std::exchange(ready_, {});
}

bool DraftLoader::set_wanted(std::function<bool(int64_t, bool)> wanted) {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) wanted_ = std::move(wanted);
  return lock.owns_lock();
}

void DraftLoader::give_rows(std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows) {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;  // asked again at the next step
  rows_ = std::move(rows);
  rows_given_ = true;
  wants_rows_.store(false, std::memory_order_relaxed);
  changed_.notify_all();
}

void DraftLoader::report(DraftVerdict verdict) {
  if (outbox_.verdicts.size() < kVerdictsMax) outbox_.verdicts.push_back(std::move(verdict));
}

void DraftLoader::retire(std::unique_ptr<ChainDrafter> engine) {
  if (engine) outbox_.retired.push_back(std::move(engine));
}

void DraftLoader::hand_over() {
  if (outbox_.empty()) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  append(outbox_, inbox_);
}

void DraftLoader::append(Outbox& from, Outbox& to) {
  std::move(from.retired.begin(), from.retired.end(), std::back_inserter(to.retired));
  std::move(from.verdicts.begin(), from.verdicts.end(), std::back_inserter(to.verdicts));
  from = {};
}

void DraftLoader::run() {
  lower_priority();
  for (bool stopping = false; !stopping;) {
    try {
      look();
    } catch (const std::exception& error) {  // out of memory, most likely: the next look may do
      works_.store(false, std::memory_order_relaxed);
      LOG_WARN("speculator", "looking for drafts: %s", error.what());
    }
    Outbox inbox;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(options_.poll_ms),
                        [this] { return stopping_; });
      std::swap(inbox, inbox_);
      stopping = stopping_;
    }
    write(inbox.verdicts);
  }
}

void DraftLoader::write(const std::vector<DraftVerdict>& verdicts) {
  for (const DraftVerdict& verdict : verdicts) {
    const Status status =
        registry_ ? registry_->write_verdict(verdict) : Status::io("the registry cannot be opened");
    if (!status)
      LOG_WARN("speculator", "verdict on draft %lld not written: %s",
               static_cast<long long>(verdict.version), status.to_string().c_str());
  }
}

bool DraftLoader::may_try(int64_t version) const {
  return std::none_of(tried_.begin(), tried_.end(), [version](const Tried& tried) {
    return tried.version == version && steady_us() < tried.again_us;
  });
}

// Newest first, until one is ready or none is left; only the pinned one where one is.
void DraftLoader::look() {
  if (!registry_) {
    auto registry = Registry::open(options_.registry_dir);
    if (!registry) return;
    registry_.emplace(std::move(*registry));
  }
  std::function<bool(int64_t, bool)> wanted;
  {
    std::lock_guard lock(mutex_);
    if (ready_.engine || !wanted_) return;
    wanted = wanted_;
  }
  const auto candidates = registry_->candidates(options_.target);
  const auto pinned = registry_->pinned();
  if (!candidates || !pinned) return;
  const bool by_hand = *pinned != 0;
  for (const DraftManifest& manifest : *candidates) {
    if (by_hand && manifest.version != *pinned) continue;
    if (!wanted(manifest.version, by_hand) || !may_try(manifest.version)) continue;
    works_.store(true, std::memory_order_relaxed);
    const bool ready = take_up(manifest, by_hand);
    works_.store(false, std::memory_order_relaxed);
    if (ready) return;
  }
}

bool DraftLoader::take_up(const DraftManifest& manifest, bool pinned) {
  auto engine = prepare(manifest);
  if (!engine) {
    const StatusCode why = engine.status().code();
    const bool damaged =
        why == StatusCode::kCorrupt || why == StatusCode::kInvalid || why == StatusCode::kTruncated;
    damaged ? refuse(manifest, engine.status()) : try_again_later(manifest, engine.status());
    return false;
  }
  prefill(**engine);
  (*engine)->set_threads(options_.threads);
  std::lock_guard lock(mutex_);
  ready_ = {std::move(*engine), manifest.replay_accept_len, pinned};
  return true;
}

void DraftLoader::try_again_later(const DraftManifest& manifest, const Status& why) {
  metrics_.draft_refused(why.code()).add();
  auto tried = std::find_if(tried_.begin(), tried_.end(),
                            [&](const Tried& t) { return t.version == manifest.version; });
  if (tried == tried_.end()) {
    if (tried_.size() >= kTriedMax) tried_.erase(tried_.begin());
    tried = tried_.insert(tried_.end(), {manifest.version, 0, 0});
  }
  const int64_t wait_s = std::min<int64_t>(kRetrySecondsMax, 1ll << std::min(tried->times++, 12));
  tried->again_us = steady_us() + wait_s * 1'000'000;
  LOG_WARN("speculator", "draft %lld is tried again in %lld s: %s",
           static_cast<long long>(manifest.version), static_cast<long long>(wait_s),
           why.to_string().c_str());
}

Result<std::unique_ptr<DraftEngine>> DraftLoader::prepare(const DraftManifest& manifest) {
  if (Status status = registry_->verify(manifest); !status) return status;
  const std::string path = registry_->gguf_path(manifest.version);
  const llama_model* target = llama_get_model(host_.target);
  if (tokenizer_.empty()) {
    auto digest = tokenizer_digest(options_.target_path);
    if (!digest) return digest.status();
    tokenizer_ = std::move(*digest);
  }
  const DraftTarget shape{llama_model_n_embd(target),
                          llama_vocab_n_tokens(llama_model_get_vocab(target)),
                          llama_model_n_layer(target), tokenizer_};
  const auto info = check_draft_file(path, shape);
  if (!info) return info.status();
  DraftHost quiet = host_;
  quiet.threads = 1;  // beside serving
  try {
    return DraftEngine::load(path, manifest.version, quiet);
  } catch (const std::exception& error) {
    return Status::internal("loading " + path + " threw: " + error.what());
  }
}

void DraftLoader::refuse(const DraftManifest& manifest, const Status& why) {
  LOG_WARN("speculator", "draft %lld refused: %s", static_cast<long long>(manifest.version),
           why.to_string().c_str());
  metrics_.draft_refused(why.code()).add();
  DraftVerdict verdict;
  verdict.version = manifest.version;
  verdict.kind = DraftVerdict::Kind::kRefused;
  verdict.reason = why.to_string();
  write({verdict});
}

// Most of each live prefix is built here; at adoption only the tail that was served meanwhile is
// left.
void DraftLoader::prefill(DraftEngine& engine) {
  std::vector<std::pair<int32_t, std::vector<KeptRowPtr>>> rows;
  {
    std::unique_lock lock(mutex_);
    rows_given_ = false;
    wants_rows_.store(true, std::memory_order_relaxed);
    changed_.wait_for(lock, kRowsWait, [this] { return rows_given_ || stopping_; });
    wants_rows_.store(false, std::memory_order_relaxed);
    rows.swap(rows_);
  }
  for (const auto& [slot, prefix] : rows) {
    if (Status status = engine.prefill(slot, prefix); !status) {
      LOG_WARN("speculator", "draft %lld: prefix of slot %d not built ahead: %s",
               static_cast<long long>(engine.version()), slot, status.to_string().c_str());
    }
  }
}

}  // namespace aurora
