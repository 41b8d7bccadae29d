#include "trace/lmdb_env.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "base/check.h"
#include "base/file_handle.h"
#include "base/log.h"
#include "trace/lmdb_check.h"

namespace aurora {
namespace {

constexpr mode_t kFileMode = 0600;
// Lock file: header and about 250 readers.
constexpr off_t kLockFileBytes = 16384;
// The last pages of a transaction may have been given back unwritten, so the file may end a little
// before the last page that its header counts. More than this is missing data.
constexpr uint64_t kUnwrittenPagesMax = 64;

struct OpenEnvs {
  std::mutex mutex;
  std::map<std::string, LmdbEnv*> by_path;
};

OpenEnvs& open_envs() {
  static OpenEnvs* const envs = new OpenEnvs;  // outlives every static buffer
  return *envs;
}

// A child of fork() must not use its parent's environment: the process is part of the name.
std::string table_key(const std::string& path) { return std::to_string(::getpid()) + " " + path; }

// LMDB writes its lock file through a map: on a full disk that is a SIGBUS, unless the blocks are
// there before.
Status reserve_lock_file(const std::string& path) {
  const FileHandle file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  struct stat seen {};
  if (!file.is_open() || ::fstat(file.get(), &seen) != 0) {
    return Status::io("cannot open " + path + ": " + std::strerror(errno));
  }
  if (seen.st_size >= kLockFileBytes) return Status::ok();
  const int error = ::posix_fallocate(file.get(), 0, kLockFileBytes);
  if (error == 0) return Status::ok();
  return Status::io("cannot reserve " + path + ": " + std::strerror(error));
}

// Another process may enlarge the file between our map and our transaction; once is the rule, so
// three times is a bound.
int begin_first_read(MDB_env* env, MDB_txn** txn) {
  int code = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    code = mdb_txn_begin(env, nullptr, MDB_RDONLY, txn);
    if (code != MDB_MAP_RESIZED) break;
    mdb_env_set_mapsize(env, 0);
  }
  return code;
}

}  // namespace

Result<LmdbEnv::Ptr> LmdbEnv::open(const std::string& path, size_t map_bytes, unsigned flags) {
  OpenEnvs& envs = open_envs();
  const std::lock_guard lock(envs.mutex);
  LmdbEnv*& slot = envs.by_path[table_key(path)];
  if (slot == nullptr) {
    LmdbEnv* fresh = new LmdbEnv(path);
    if (Status status = fresh->open_file(map_bytes, flags); !status) {
      delete fresh;
      envs.by_path.erase(table_key(path));
      return status;
    }
    slot = fresh;
  } else if (Status status = slot->grow_map(map_bytes); !status) {
    return status;
  }
  ++slot->users_;
  return Ptr(slot);
}

void LmdbEnv::Release::operator()(LmdbEnv* env) const {
  OpenEnvs& envs = open_envs();
  // Closed under the lock: a new environment for the file must not exist beside this one.
  const std::lock_guard lock(envs.mutex);
  if (--env->users_ > 0) return;
  std::erase_if(envs.by_path, [env](const auto& entry) { return entry.second == env; });
  delete env;
}

LmdbEnv::~LmdbEnv() {
  if (env_ != nullptr) mdb_env_close(env_);
}

Status LmdbEnv::open_file(size_t map_bytes, unsigned flags) {
  if (Status status = reserve_lock_file(path_ + "-lock"); !status) return status;
  if (int code = mdb_env_create(&env_); code != 0) return error("open", code);
  if (map_bytes > 0) mdb_env_set_mapsize(env_, map_bytes);
  // No MDB_WRITEMAP: a stray write of this process could then damage the file. No MDB_NOMEMINIT:
  // it would put whatever the heap held, other requests' text for one, onto the disk.
  if (int code = mdb_env_open(env_, path_.c_str(), MDB_NOSUBDIR | MDB_NOTLS | flags, kFileMode);
      code != 0) {
    return error("open", code);
  }
  if (Status status = check_length(); !status) return status;
  MDB_txn* txn = nullptr;  // names the unnamed database, writes nothing
  if (int code = begin_first_read(env_, &txn); code != 0) return error("open", code);
  const int code = mdb_dbi_open(txn, nullptr, 0, &database_);
  if (code != 0) {
    mdb_txn_abort(txn);
    return error("open", code);
  }
  mdb_txn_commit(txn);
  return Status::ok();
}

// A map over a file that is too short kills the process at the first touch (SIGBUS).
Status LmdbEnv::check_length() {
  MDB_envinfo info{};
  MDB_stat page{};
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &page);
  page_bytes_ = page.ms_psize;
  struct stat seen {};
  if (::stat(path_.c_str(), &seen) != 0) return error("stat", errno);
  const uint64_t needed = (info.me_last_pgno + 1) * uint64_t{page.ms_psize};
  const uint64_t slack = kUnwrittenPagesMax * page.ms_psize;
  if (static_cast<uint64_t>(seen.st_size) + slack >= needed) return Status::ok();
  return Status::corrupt(path_ + " is cut short (" + std::to_string(seen.st_size) + " of " +
                         std::to_string(needed) + " bytes): move it away to start a new one");
}

size_t LmdbEnv::map_bytes() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return info.me_mapsize;
}

bool LmdbEnv::is_in_place() const {
  int fd = -1;
  struct stat there {
  }, here{};
  return mdb_env_get_fd(env_, &fd) == 0 && ::fstat(fd, &here) == 0 &&
         ::stat(path_.c_str(), &there) == 0 && there.st_ino == here.st_ino &&
         there.st_dev == here.st_dev;
}

Status LmdbEnv::grow_map(size_t map_bytes) {
  const std::unique_lock lock(map_mutex_);
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  if (info.me_mapsize >= map_bytes) return Status::ok();
  const int code = mdb_env_set_mapsize(env_, map_bytes);
  return code == 0 ? Status::ok() : error("map", code);
}

Status LmdbEnv::adopt_map_size() {
  const std::unique_lock lock(map_mutex_);
  const int code = mdb_env_set_mapsize(env_, 0);
  return code == 0 ? Status::ok() : error("map", code);
}

Status LmdbEnv::error(const char* what, int code) const {
  switch (code) {
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
      return Status::full(path_ +
                          " has no free page left: a stopped or very slow reader keeps old " +
                          "records from being dropped");
    case MDB_READERS_FULL: return Status::full(path_ + " has too many readers");
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
      return Status::invalid(path_ +
                             " is not a trace buffer: move it away or name another directory");
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_CURSOR_FULL: return damaged_file(path_);
    case MDB_PANIC:
      return Status::io(path_ + " cannot be used any more after a failed write: open it again");
    default:
      return Status::io(std::string("cannot ") + what + " " + path_ + ": " + mdb_strerror(code));
  }
}

Status LmdbEnv::check_mark(MDB_txn* txn, std::span<const std::byte> mark_key,
                           std::string_view mark) const {
  MDB_stat stat{};
  if (int code = mdb_stat(txn, database_, &stat); code != 0) return error("read", code);
  if (stat.ms_entries == 0) return Status::ok();
  MDB_val key = as_val(mark_key);
  MDB_val value{};
  const int code = mdb_get(txn, database_, &key, &value);
  if (code != 0 && code != MDB_NOTFOUND) return error("read", code);
  if (code == MDB_NOTFOUND || value.mv_size != mark.size() ||
      std::memcmp(value.mv_data, mark.data(), mark.size()) != 0) {
    return error("read", MDB_INVALID);
  }
  return Status::ok();
}

Result<int> LmdbEnv::clear_dead_readers() {
  int cleared = 0;
  if (int code = mdb_reader_check(env_, &cleared); code != 0) return error("read", code);
  if (cleared > 0) LOG_INFO("trace", "%s: cleared %d dead readers", path_.c_str(), cleared);
  return cleared;
}

LmdbWrite::LmdbWrite(LmdbEnv& env) : env_(env), map_lock_(env.map_mutex()) {
  if (int code = mdb_txn_begin(env_.handle(), nullptr, 0, &txn_); code != 0) {
    txn_ = nullptr;
    status_ = env_.error("write", code);
  }
}

LmdbWrite::~LmdbWrite() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

Status LmdbWrite::commit() {
  const int code = mdb_txn_commit(std::exchange(txn_, nullptr));
  return code == 0 ? Status::ok() : env_.error("write", code);
}

Result<std::unique_ptr<LmdbReader>> LmdbReader::open(LmdbEnv& env) {
  const std::unique_lock lock(env.map_mutex());
  MDB_txn* txn = nullptr;
  if (int code = begin_first_read(env.handle(), &txn); code != 0) return env.error("read", code);
  mdb_txn_reset(txn);
  return std::unique_ptr<LmdbReader>(new LmdbReader(env, txn));
}

LmdbReader::~LmdbReader() { mdb_txn_abort(txn_); }

Result<MDB_txn*> LmdbReader::begin() {
  for (int attempt = 0;; ++attempt) {
    map_lock_ = std::shared_lock(env_.map_mutex());
    const int code = mdb_txn_renew(txn_);
    if (code == 0) return txn_;
    map_lock_ = {};
    if (code != MDB_MAP_RESIZED || attempt == 3) return env_.error("read", code);
    if (Status status = env_.adopt_map_size(); !status) return status;
  }
}

void LmdbReader::end() {
  mdb_txn_reset(txn_);
  map_lock_ = {};
}

}  // namespace aurora
