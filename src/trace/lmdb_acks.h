// dir/acks: the cursor of each consumer, in an environment of its own, because LMDB has one writer
// lock for a file and a trainer stopped while holding it must stop no server.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/status.h"
#include "trace/lmdb_env.h"

namespace aurora {

// Thread-safe.
class LmdbAcks {
 public:
  // Call with the directory's open lock held.
  static Result<std::unique_ptr<LmdbAcks>> open(const std::string& path);

  Status acknowledge(const std::string& consumer, uint64_t sequence);
  Result<uint64_t> acknowledged(const std::string& consumer);

 private:
  explicit LmdbAcks(LmdbEnv::Ptr env) : env_(std::move(env)) {}
  Result<uint64_t> load(MDB_txn* txn, const std::string& consumer) const;

  const LmdbEnv::Ptr env_;              // before its reader, so that it is closed after it
  std::unique_ptr<LmdbReader> reader_;  // guarded by mutex_
  std::mutex mutex_;
};

}  // namespace aurora
