#include "speculator/draft_loader.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

namespace aurora {
namespace {

constexpr int kLoaderNice = 10;
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
  }
  changed_.notify_all();
  thread_.join();
}

std::unique_ptr<DraftEngine> DraftLoader::take() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  return lock.owns_lock() ? std::move(ready_) : nullptr;
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
  std::lock_guard lock(mutex_);
  if (verdicts_.size() < 64) verdicts_.push_back(std::move(verdict));
}

void DraftLoader::retire(std::unique_ptr<DraftEngine> engine) {
  if (!engine) return;
  std::lock_guard lock(mutex_);
  retired_.push_back(std::move(engine));
}

void DraftLoader::run() {
  lower_priority();
  while (true) {
    look();
    std::vector<std::unique_ptr<DraftEngine>> retired;
    std::vector<DraftVerdict> verdicts;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(options_.poll_ms),
                        [this] { return stopping_; });
      retired.swap(retired_);
      verdicts.swap(verdicts_);
      if (stopping_) return;
    }
    auto registry = Registry::open(options_.registry_dir);
    for (const DraftVerdict& verdict : verdicts) {
      const Status status = registry ? registry->write_verdict(verdict) : registry.status();
      if (!status)
        LOG_WARN("speculator", "verdict on draft %lld not written: %s",
                 static_cast<long long>(verdict.version), status.to_string().c_str());
    }
  }
}

void DraftLoader::look() {
  auto registry = Registry::open(options_.registry_dir);
  if (!registry) return;
  const auto newest = registry->newest(options_.target);
  if (!newest || !newest->has_value()) return;
  const DraftManifest& manifest = **newest;
  if (manifest.version <= newest_seen_) return;
  newest_seen_ = manifest.version;
  if (options_.gate && manifest.replay_accept_len <= options_.pays_above) {
    LOG_INFO("speculator",
             "draft %lld waits: its replayed accept length %.2f does not pay here, that takes %.2f",
             static_cast<long long>(manifest.version), manifest.replay_accept_len,
             options_.pays_above);
    return;
  }
  auto engine = prepare(manifest);
  if (!engine) return refuse(manifest, engine.status());
  prefill(**engine);
  (*engine)->set_threads(options_.threads);
  std::lock_guard lock(mutex_);
  if (ready_) retired_.push_back(std::move(ready_));
  ready_ = std::move(*engine);
}

Result<std::unique_ptr<DraftEngine>> DraftLoader::prepare(const DraftManifest& manifest) {
  auto registry = Registry::open(options_.registry_dir);
  if (!registry) return registry.status();
  if (Status status = registry->verify(manifest); !status) return status;
  const std::string path = registry->gguf_path(manifest.version);
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
  report(std::move(verdict));
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
