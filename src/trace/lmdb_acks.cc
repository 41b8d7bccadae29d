#include "trace/lmdb_acks.h"

#include <array>
#include <cstring>
#include <string_view>

namespace aurora {
namespace {

constexpr size_t kMapBytes = 16u << 20;
constexpr size_t kConsumerBytesMax = 256;
constexpr std::string_view kMark = "aurora acks 1";
// Begins with a zero byte, as no consumer's name does.
constexpr std::array<std::byte, 12> kMarkKey{};

Status check_consumer(const std::string& consumer) {
  if (!consumer.empty() && consumer.size() <= kConsumerBytesMax && consumer[0] != '\0') {
    return Status::ok();
  }
  return Status::invalid("a consumer needs a name of 1 to 256 bytes");
}

}  // namespace

Result<std::unique_ptr<LmdbAcks>> LmdbAcks::open(const std::string& path) {
  // Every commit is synced in full: acknowledgements are rare, one a checkpoint.
  Result<LmdbEnv::Ptr> env = LmdbEnv::open(path, kMapBytes, 0);
  if (!env) return env.status();
  std::unique_ptr<LmdbAcks> acks(new LmdbAcks(std::move(*env)));
  if (Result<int> cleared = acks->env_->clear_dead_readers(); !cleared) return cleared.status();
  Result<std::unique_ptr<LmdbReader>> reader = LmdbReader::open(*acks->env_);
  if (!reader) return reader.status();
  acks->reader_ = std::move(*reader);
  Result<MDB_txn*> txn = acks->reader_->begin();
  if (!txn) return txn.status();
  const Status status = acks->env_->check_mark(*txn, kMarkKey, kMark);
  acks->reader_->end();
  if (!status) return status;
  return acks;
}

Result<uint64_t> LmdbAcks::load(MDB_txn* txn, const std::string& consumer) const {
  MDB_val key = as_val(std::as_bytes(std::span(consumer)));
  MDB_val value{};
  const int code = mdb_get(txn, env_->database(), &key, &value);
  if (code == MDB_NOTFOUND) return uint64_t{0};
  if (code != 0) return env_->error("read", code);
  uint64_t sequence = 0;
  if (value.mv_size != sizeof sequence) return env_->error("read", MDB_CORRUPTED);
  std::memcpy(&sequence, value.mv_data, sizeof sequence);
  return sequence;
}

Status LmdbAcks::acknowledge(const std::string& consumer, uint64_t sequence) {
  if (Status status = check_consumer(consumer); !status) return status;
  const std::lock_guard lock(mutex_);
  LmdbWrite write(*env_);
  if (!write.status()) return write.status();
  const Result<uint64_t> held = load(write.txn(), consumer);
  if (!held) return held.status();
  if (*held >= sequence) return Status::ok();
  MDB_val mark_key = as_val(kMarkKey);
  MDB_val mark = as_val(std::as_bytes(std::span(kMark)));
  MDB_val key = as_val(std::as_bytes(std::span(consumer)));
  MDB_val value = as_val(std::as_bytes(std::span(&sequence, 1)));
  for (const auto& [name, content] : {std::pair(&mark_key, &mark), std::pair(&key, &value)}) {
    if (int code = mdb_put(write.txn(), env_->database(), name, content, 0); code != 0) {
      return env_->error("write", code);
    }
  }
  return write.commit();
}

Result<uint64_t> LmdbAcks::acknowledged(const std::string& consumer) {
  if (Status status = check_consumer(consumer); !status) return status;
  const std::lock_guard lock(mutex_);
  Result<MDB_txn*> txn = reader_->begin();
  if (!txn) return txn.status();
  const ReadScope scope(reader_.get());
  return load(*txn, consumer);
}

}  // namespace aurora
