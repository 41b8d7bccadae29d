#include "draft/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/files.h"

namespace aurora {
namespace {

using Json = nlohmann::json;

constexpr const char* kMetadata = "__metadata__";
constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignment = 8;
constexpr int64_t kDimensionsMax = 4;

struct TypeName {
  SafeType type;
  const char* name;
  size_t bytes;
};
constexpr TypeName kTypes[] = {{SafeType::kF32, "F32", 4},   {SafeType::kF16, "F16", 2},
                               {SafeType::kBf16, "BF16", 2}, {SafeType::kI64, "I64", 8},
                               {SafeType::kI32, "I32", 4},   {SafeType::kU8, "U8", 1},
                               {SafeType::kBool, "BOOL", 1}};

const TypeName& of(SafeType type) {
  const auto found =
      std::ranges::find_if(kTypes, [type](const TypeName& known) { return known.type == type; });
  CHECK(found != std::end(kTypes));
  return *found;
}

bool is_count(const Json& value) { return value.is_number_unsigned(); }

// Where a tensor lies in the data; its shape and type are known to give as many bytes.
struct Place {
  SafeTensor tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class Header {
 public:
  Header(std::string path, std::span<const std::byte> data) : path_(std::move(path)), data_(data) {}

  Status read(const Json& header) {
    if (!header.is_object()) return corrupt("has a header that is not a JSON object");
    if (header.size() > SafetensorsFile::kTensorsMax) return corrupt("names too many tensors");
    for (const auto& [name, value] : header.items()) {
      if (Status status = name == kMetadata ? texts(value) : tensor(name, value); !status) {
        return status;
      }
    }
    return arrange();
  }

  std::vector<SafeTensor> tensors;
  std::map<std::string, std::string> metadata;

 private:
  Status corrupt(const std::string& what) const { return Status::corrupt(path_ + " " + what); }

  Status texts(const Json& value) {
    if (!value.is_object()) return corrupt("has metadata that is not a JSON object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) return corrupt("has metadata that is not text");
      metadata[key] = text.get<std::string>();
    }
    return Status::ok();
  }

  Status tensor(const std::string& name, const Json& value) {
    const std::string called = "tensor " + printable(name);
    const bool whole = value.is_object() && value.contains("dtype") && value["dtype"].is_string() &&
                       value.contains("shape") && value["shape"].is_array() &&
                       value.contains("data_offsets") && value["data_offsets"].is_array() &&
                       value["data_offsets"].size() == 2 && is_count(value["data_offsets"][0]) &&
                       is_count(value["data_offsets"][1]);
    if (!whole) return corrupt("does not say type, shape and place of its " + called);
    Place place;
    place.tensor.name = name;
    const std::string type = value["dtype"].get<std::string>();
    const auto known =
        std::ranges::find_if(kTypes, [&](const TypeName& one) { return type == one.name; });
    if (known == std::end(kTypes)) {
      return Status::invalid(path_ + " has its " + called + " in " + printable(type) +
                             ", which cannot be read here: convert it to F32, F16 or BF16");
    }
    place.tensor.type = known->type;
    uint64_t bytes = known->bytes;
    if (value["shape"].size() > kDimensionsMax)
      return corrupt("has too many dimensions in " + called);
    for (const Json& length : value["shape"]) {
      if (!is_count(length) || length.get<uint64_t>() > INT64_MAX ||
          __builtin_mul_overflow(bytes, length.get<uint64_t>(), &bytes)) {
        return corrupt("has an impossible shape for its " + called);
      }
      place.tensor.shape.push_back(length.get<int64_t>());
    }
    place.begin = value["data_offsets"][0].get<uint64_t>();
    place.end = value["data_offsets"][1].get<uint64_t>();
    if (place.begin > place.end || place.end - place.begin != bytes) {
      return corrupt("has a place for its " + called + " that does not fit its shape");
    }
    if (place.end > data_.size()) return Status::truncated(path_ + " ends before its " + called);
    place.tensor.data = data_.subspan(place.begin, bytes);
    places_.push_back(std::move(place));
    return Status::ok();
  }

  // One behind the other from the first byte to the last, as the format demands: no byte twice and
  // none that nobody names.
  Status arrange() {
    std::ranges::sort(places_, [](const Place& a, const Place& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t end = 0;
    for (Place& place : places_) {
      if (place.begin != end) {
        return corrupt((place.begin < end ? "has tensors that overlap: " : "has a gap before ") +
                       printable(place.tensor.name));
      }
      end = place.end;
      tensors.push_back(std::move(place.tensor));
    }
    return end == data_.size() ? Status::ok() : corrupt("has bytes behind its last tensor");
  }

  // A name of the file in a sentence of ours.
  static std::string printable(const std::string& name) {
    std::string out = name.substr(0, 80);
    for (char& c : out) {
      if (c < ' ' || c > '~') c = '?';
    }
    return out;
  }

  const std::string path_;
  const std::span<const std::byte> data_;
  std::vector<Place> places_;
};

}  // namespace

const char* safe_type_name(SafeType type) { return of(type).name; }
size_t safe_type_bytes(SafeType type) { return of(type).bytes; }

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  auto map = MappedFile::open(path);
  if (!map) return map.status();
  const std::span<const std::byte> bytes = (*map)->bytes();
  uint64_t length = 0;
  if (bytes.size() < kLengthBytes) return Status::truncated(path + " is no safetensors file");
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kHeaderBytesMax) {
    return Status::corrupt(path + " is no safetensors file: its header cannot be that long");
  }
  if (length > bytes.size() - kLengthBytes) return Status::truncated(path + " ends in its header");
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  const Json json = Json::parse(text, text + length, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Status::corrupt(path + " has a header that is not JSON");
  Header header(path, bytes.subspan(kLengthBytes + length));
  if (Status status = header.read(json); !status) return status;
  SafetensorsFile out;
  out.path_ = path;
  out.map_ = std::move(*map);
  out.tensors_ = std::move(header.tensors);
  out.metadata_ = std::move(header.metadata);
  return out;
}

const SafeTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &SafeTensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

Status write_safetensors(const std::string& path, std::span<const SafeTensor> tensors,
                         const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header[kMetadata] = metadata;
  uint64_t end = 0;
  for (const SafeTensor& tensor : tensors) {
    uint64_t bytes = safe_type_bytes(tensor.type);
    for (const int64_t length : tensor.shape) bytes *= static_cast<uint64_t>(length);
    CHECK(bytes == tensor.data.size());
    header[tensor.name] = {{"dtype", safe_type_name(tensor.type)},
                           {"shape", tensor.shape},
                           {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const uint64_t length = text.size();
  std::vector<std::string_view> parts = {{reinterpret_cast<const char*>(&length), sizeof length},
                                         text};
  for (const SafeTensor& tensor : tensors) {
    parts.emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return write_file_atomically(path, parts, 0644);
}

}  // namespace aurora
