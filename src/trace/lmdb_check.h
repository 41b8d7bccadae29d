// Whether LMDB can work in a file. LMDB trusts every page that it maps: one of other bytes ends the
// process (abort, SIGSEGV, SIGBUS) or never lets go of it. So the pages are looked at before, with
// plain reads. Layout: LMDB 0.9, mdb.c, data version 1 (MDB_page, MDB_node, MDB_meta).
#pragma once

#include <lmdb.h>

#include <span>
#include <string>

#include "base/status.h"

namespace aurora {

// Every page of both trees, of the records' keys and of the free pages: a file of 2 GiB has some
// 4,000. Values on pages of their own are not read, they have checksums. Nobody may write
// meanwhile. corrupt: a page is not what the tree says, or belongs to two. io: the disk refuses. Ok
// too where there is no file, or none of this version: mdb_env_open() says what that means.
Status check_lmdb_file(const std::string& path);

// What every finder of damage says of the file.
Status damaged_file(const std::string& path);

// Where the file begins in memory, told by a value among the keys of a page that is sound.
const std::byte* map_begin_of(const MDB_val& among_keys, size_t page_bytes);
// Before a value is deleted: LMDB takes from the page of its own that it may lie on which pages it
// gives back.
bool is_on_sound_page(const MDB_val& value, std::span<const std::byte> map, size_t page_bytes);

}  // namespace aurora
