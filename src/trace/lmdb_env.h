// One LMDB file with one unnamed database, wrapped for the trace buffer alone. LMDB forbids opening
// a file twice in a process (closing either drops the process's locks): open() hands out one shared
// environment per file and process.
#pragma once

#include <lmdb.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <string>

#include "base/status.h"

namespace aurora {

class LmdbEnv {
 public:
  struct Release {
    void operator()(LmdbEnv* env) const;
  };
  using Ptr = std::unique_ptr<LmdbEnv, Release>;

  // Creates the file (0600) when missing, with a map of at least `map_bytes`: what the file may
  // grow to; 0 takes the size that its writer chose. `flags` beside those every environment here
  // needs. Call with the directory's open lock held.
  static Result<Ptr> open(const std::string& path, size_t map_bytes, unsigned flags);

  MDB_env* handle() const { return env_; }
  MDB_dbi database() const { return database_; }
  const std::string& path() const { return path_; }
  size_t page_bytes() const { return page_bytes_; }
  size_t map_bytes() const;
  // False: another file, or none, lies there now; this one gets no more records.
  bool is_in_place() const;

  // What LMDB said, as a Status that names the file.
  Status error(const char* what, int code) const;

  // Empty, or carrying `mark` under the key `mark_key`; else another program's file: kInvalid.
  Status check_mark(MDB_txn* txn, std::span<const std::byte> mark_key, std::string_view mark) const;

  // Frees the places of readers whose process died, logged; how many. Call with the directory's
  // open lock held: it takes the lock of the table of readers.
  Result<int> clear_dead_readers();

  // Held shared by every transaction, alone by whoever moves the map.
  std::shared_mutex& map_mutex() { return map_mutex_; }
  // Takes the size that the file now has, after another process enlarged it.
  Status adopt_map_size();

 private:
  explicit LmdbEnv(std::string path) : path_(std::move(path)) {}
  ~LmdbEnv();
  Status open_file(size_t map_bytes, unsigned flags);
  Status check_length();
  Status grow_map(size_t map_bytes);

  const std::string path_;
  MDB_env* env_ = nullptr;
  MDB_dbi database_ = 0;
  size_t page_bytes_ = 0;
  int users_ = 0;  // guarded by the table of open environments
  std::shared_mutex map_mutex_;
};

// A write transaction; aborts unless committed. Takes LMDB's writer lock.
class LmdbWrite {
 public:
  explicit LmdbWrite(LmdbEnv& env);
  ~LmdbWrite();
  LmdbWrite(const LmdbWrite&) = delete;
  LmdbWrite& operator=(const LmdbWrite&) = delete;

  const Status& status() const { return status_; }  // of the beginning
  MDB_txn* txn() const { return txn_; }
  Status commit();

 private:
  LmdbEnv& env_;
  std::shared_lock<std::shared_mutex> map_lock_;
  MDB_txn* txn_ = nullptr;
  Status status_;
};

// A place in LMDB's table of readers, kept from open to close. Taking a place locks that table, so
// open() wants the directory's open lock held; begin() and end() lock nothing between processes.
// One transaction at a time: the owner guards it.
class LmdbReader {
 public:
  static Result<std::unique_ptr<LmdbReader>> open(LmdbEnv& env);
  ~LmdbReader();
  LmdbReader(const LmdbReader&) = delete;
  LmdbReader& operator=(const LmdbReader&) = delete;

  // A snapshot of now, until end(). Pins pages: keep it short.
  Result<MDB_txn*> begin();
  void end();

 private:
  LmdbReader(LmdbEnv& env, MDB_txn* txn) : env_(env), txn_(txn) {}
  LmdbEnv& env_;
  MDB_txn* txn_;
  std::shared_lock<std::shared_mutex> map_lock_;
};

// Ends the reader's transaction on every way out of a function.
struct EndRead {
  void operator()(LmdbReader* reader) const { reader->end(); }
};
using ReadScope = std::unique_ptr<LmdbReader, EndRead>;

struct CloseCursor {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};
using CursorPtr = std::unique_ptr<MDB_cursor, CloseCursor>;

inline MDB_val as_val(std::span<const std::byte> bytes) {
  return {bytes.size(), const_cast<std::byte*>(bytes.data())};  // LMDB reads it only
}
inline std::span<const std::byte> as_bytes(const MDB_val& value) {
  return {static_cast<const std::byte*>(value.mv_data), value.mv_size};
}

}  // namespace aurora
