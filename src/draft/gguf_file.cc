#include "draft/gguf_file.h"

#include <ggml.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace aurora {
namespace {

// The number of `type` at `data`, as a double or an int64: GGUF writers disagree about widths.
template <typename T>
bool load_number(gguf_type type, const void* data, size_t index, T& out) {
  const auto load = [&]<typename S>(S) {
    S value;
    std::memcpy(&value, static_cast<const std::byte*>(data) + index * sizeof(S), sizeof(S));
    out = static_cast<T>(value);
    return true;
  };
  switch (type) {
    case GGUF_TYPE_UINT8: return load(uint8_t{});
    case GGUF_TYPE_INT8: return load(int8_t{});
    case GGUF_TYPE_UINT16: return load(uint16_t{});
    case GGUF_TYPE_INT16: return load(int16_t{});
    case GGUF_TYPE_UINT32: return load(uint32_t{});
    case GGUF_TYPE_INT32: return load(int32_t{});
    case GGUF_TYPE_UINT64: return load(uint64_t{});
    case GGUF_TYPE_INT64: return load(int64_t{});
    case GGUF_TYPE_FLOAT32: return load(float{});
    case GGUF_TYPE_FLOAT64: return load(double{});
    default: return false;
  }
}

template <typename T>
Result<T> read_number(const GgufFile& file, const std::string& key, size_t index) {
  const gguf_context* meta = file.meta();
  const int64_t id = gguf_find_key(meta, key.c_str());
  if (id < 0) return Status::invalid(file.path() + " has no key " + key);
  gguf_type type = gguf_get_kv_type(meta, id);
  T value{};
  bool loaded = false;
  if (type != GGUF_TYPE_ARRAY) {
    if (type != GGUF_TYPE_STRING && type != GGUF_TYPE_BOOL) {
      loaded = load_number(type, gguf_get_val_data(meta, id), 0, value);
    }
  } else if (gguf_get_arr_type(meta, id) != GGUF_TYPE_STRING && index < gguf_get_arr_n(meta, id)) {
    loaded = load_number(gguf_get_arr_type(meta, id), gguf_get_arr_data(meta, id), index, value);
  }
  if (!loaded) return Status::invalid(file.path() + ": key " + key + " is not a number");
  return value;
}

}  // namespace

Result<std::unique_ptr<GgufFile>> GgufFile::open(const std::string& path) {
  std::unique_ptr<GgufFile> out(new GgufFile);
  out->path_ = path;
  out->file_.reset(std::fopen(path.c_str(), "rbe"));
  struct stat seen {};
  if (!out->file_ || ::fstat(::fileno(out->file_.get()), &seen) != 0) {
    const int error = errno;
    std::string message = path + " cannot be opened: " + std::strerror(error);
    return error == ENOENT ? Status::not_found(std::move(message)) : Status::io(std::move(message));
  }
  if (!S_ISREG(seen.st_mode)) return Status::invalid(path + " is not a file");
  out->bytes_ = static_cast<uint64_t>(seen.st_size);
  char magic[4] = {};
  if (!out->read(0, std::as_writable_bytes(std::span(magic))) ||
      std::memcmp(magic, GGUF_MAGIC, 4) != 0) {
    return Status::corrupt(path + " is not a GGUF file");
  }
  out->meta_.reset(gguf_init_from_file_ptr(out->file_.get(), {.no_alloc = true, .ctx = nullptr}));
  if (!out->meta_) return Status::corrupt(path + " has a broken GGUF header");
  return out;
}

Result<std::unique_ptr<GgufFile>> GgufFile::open_mapped(const std::string& path) {
  auto file = open(path);
  if (!file) return file;
  auto map = MappedFile::open(path);
  if (!map) return map.status();
  (*file)->map_ = std::move(*map);
  (*file)->bytes_ = (*file)->map_->bytes().size();
  if (Status status = (*file)->check_bounds(); !status) return status;
  return file;
}

Status GgufFile::check_bounds() const {
  for (int64_t i = 0; i < gguf_get_n_tensors(meta_.get()); ++i) {
    const uint64_t begin =
        gguf_get_data_offset(meta_.get()) + gguf_get_tensor_offset(meta_.get(), i);
    const uint64_t size = gguf_get_tensor_size(meta_.get(), i);
    if (begin > bytes_ || size > bytes_ - begin) {
      return Status::truncated(path_ + " ends before its tensor " +
                               gguf_get_tensor_name(meta_.get(), i));
    }
  }
  return Status::ok();
}

bool GgufFile::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got =
        ::pread(::fileno(file_.get()), out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return true;
}

bool GgufFile::has(const std::string& key) const {
  return gguf_find_key(meta_.get(), key.c_str()) >= 0;
}

int64_t GgufFile::find(const std::string& key, gguf_type type) const {
  const int64_t id = gguf_find_key(meta_.get(), key.c_str());
  return id >= 0 && gguf_get_kv_type(meta_.get(), id) == type ? id : -1;
}

Result<std::string> GgufFile::text(const std::string& key) const {
  const int64_t id = find(key, GGUF_TYPE_STRING);
  if (id < 0) return Status::invalid(path_ + " has no text key " + key);
  return std::string(gguf_get_val_str(meta_.get(), id));
}

bool GgufFile::flag(const std::string& key) const {
  const int64_t id = find(key, GGUF_TYPE_BOOL);
  return id >= 0 && gguf_get_val_bool(meta_.get(), id);
}

Result<int64_t> GgufFile::integer(const std::string& key, size_t index) const {
  return read_number<int64_t>(*this, key, index);
}

Result<double> GgufFile::number(const std::string& key, size_t index) const {
  return read_number<double>(*this, key, index);
}

size_t GgufFile::array_size(const std::string& key) const {
  const int64_t id = find(key, GGUF_TYPE_ARRAY);
  return id < 0 ? 0 : gguf_get_arr_n(meta_.get(), id);
}

bool GgufFile::has_tensor(const std::string& name) const {
  return gguf_find_tensor(meta_.get(), name.c_str()) >= 0;
}

Result<GgufTensor> GgufFile::tensor(const std::string& name) const {
  const int64_t id = gguf_find_tensor(meta_.get(), name.c_str());
  if (id < 0) return Status::invalid(path_ + " has no tensor " + name);
  const int64_t* ne = gguf_get_tensor_ne(meta_.get(), id);
  GgufTensor out{
      .name = name,
      .type = gguf_get_tensor_type(meta_.get(), id),
      .rows = ne[1] * ne[2] * ne[3],
      .cols = ne[0],
      .begin = gguf_get_data_offset(meta_.get()) + gguf_get_tensor_offset(meta_.get(), id)};
  if (map_) out.data = map_->bytes().data() + out.begin;
  return out;
}

Result<GgufTensor> GgufFile::tensor(const std::string& name, int64_t rows, int64_t cols) const {
  auto found = tensor(name);
  if (found && (found->rows != rows || found->cols != cols)) {
    return Status::invalid(path_ + ": tensor " + name + " is [" + std::to_string(found->rows) +
                           ", " + std::to_string(found->cols) + "], expected [" +
                           std::to_string(rows) + ", " + std::to_string(cols) + "]");
  }
  return found;
}

bool can_dequantise(ggml_type type) {
  return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float != nullptr;
}

void dequantise_row(ggml_type type, const std::byte* from, int64_t cols, float* out) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(out, from, ggml_row_size(type, cols));
  } else {
    ggml_get_type_traits(type)->to_float(from, out, cols);
  }
}

void dequantise_row(const GgufTensor& tensor, int64_t row, float* out) {
  CHECK(tensor.data && row >= 0 && row < tensor.rows && can_dequantise(tensor.type));
  const size_t row_bytes = ggml_row_size(tensor.type, tensor.cols);
  dequantise_row(tensor.type, tensor.data + static_cast<size_t>(row) * row_bytes, tensor.cols, out);
}

std::vector<float> dequantise(const GgufTensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.rows * tensor.cols));
  for (int64_t row = 0; row < tensor.rows; ++row) {
    dequantise_row(tensor, row, out.data() + row * tensor.cols);
  }
  return out;
}

}  // namespace aurora
