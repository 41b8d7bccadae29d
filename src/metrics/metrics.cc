#include "metrics/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"

namespace aurora {
namespace {

constexpr size_t kBoundsMax = 32;
enum Kind { kCounter, kTimeCounter, kOthersCounter, kGauge, kHistogram };

const char* type_name(int kind) {
  if (kind == kGauge) return "gauge";
  return kind == kHistogram ? "histogram" : "counter";
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

std::string escape(std::string_view text, bool quote) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quote) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

void append_line(std::string& out, std::string_view name, std::string_view labels,
                 std::string_view value) {
  out += name;
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out.append(" ").append(value).append("\n");
}

void append_histogram(std::string& out, const std::string& name, const std::string& labels,
                      const Histogram& histogram) {
  const std::vector<uint64_t> counts = histogram.counts();
  const std::string prefix = labels.empty() ? "" : labels + ",";
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    const bool last = i == histogram.bounds().size();
    const std::string bound = last ? "+Inf" : number(histogram.bounds()[i]);
    append_line(out, name + "_bucket", prefix + label("le", bound), std::to_string(total));
  }
  append_line(out, name + "_sum", labels, number(histogram.sum()));
  append_line(out, name + "_count", labels, std::to_string(total));
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(new std::atomic<uint64_t>[bounds_.size() + 1]()) {
  CHECK(bounds_.size() <= kBoundsMax);
  for (size_t i = 1; i < bounds_.size(); ++i) CHECK(bounds_[i - 1] < bounds_[i]);
}

void Histogram::observe(double value) {
  if (std::isnan(value)) return;
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

std::vector<uint64_t> Histogram::counts() const {
  std::vector<uint64_t> counts(bounds_.size() + 1);
  for (size_t i = 0; i < counts.size(); ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

struct Metrics::Series {
  std::string labels;
  Counter counter;
  TimeCounter time;
  Gauge gauge;
  std::unique_ptr<Histogram> histogram;  // kHistogram only
};

struct Metrics::Family {
  std::string name;
  std::string help;
  int kind = kCounter;
  std::vector<std::unique_ptr<Series>> series;
};

Metrics::Metrics() = default;
Metrics::~Metrics() = default;

Metrics::Series& Metrics::series(std::string_view name, std::string_view help,
                                 std::string_view labels, int kind) {
  auto family = std::find_if(families_.begin(), families_.end(),
                             [&](const auto& f) { return f->name == name; });
  if (family == families_.end()) {
    families_.push_back(std::make_unique<Family>());
    family = families_.end() - 1;
    (*family)->name = name;
    (*family)->help = help;
    (*family)->kind = kind;
  }
  CHECK((*family)->kind == kind);
  for (const auto& known : (*family)->series) {
    if (known->labels == labels) return *known;
  }
  (*family)->series.push_back(std::make_unique<Series>());
  (*family)->series.back()->labels = labels;
  return *(*family)->series.back();
}

Counter& Metrics::counter(std::string_view name, std::string_view help, std::string_view labels) {
  const std::lock_guard lock(mutex_);
  return series(name, help, labels, kCounter).counter;
}

TimeCounter& Metrics::time_counter(std::string_view name, std::string_view help,
                                   std::string_view labels) {
  const std::lock_guard lock(mutex_);
  return series(name, help, labels, kTimeCounter).time;
}

Gauge& Metrics::gauge(std::string_view name, std::string_view help, std::string_view labels) {
  const std::lock_guard lock(mutex_);
  return series(name, help, labels, kGauge).gauge;
}

Gauge& Metrics::counter_of_another(std::string_view name, std::string_view help,
                                   std::string_view labels) {
  const std::lock_guard lock(mutex_);
  return series(name, help, labels, kOthersCounter).gauge;
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help,
                              std::vector<double> bounds, std::string_view labels) {
  const std::lock_guard lock(mutex_);
  Series& found = series(name, help, labels, kHistogram);
  if (!found.histogram) found.histogram = std::make_unique<Histogram>(std::move(bounds));
  return *found.histogram;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& family : families_) {
    out.append("# HELP ").append(family->name).append(" ");
    out.append(escape(family->help, false)).append("\n");
    out.append("# TYPE ").append(family->name).append(" ");
    out.append(type_name(family->kind)).append("\n");
    for (const auto& one : family->series) {
      if (family->kind == kHistogram) {
        append_histogram(out, family->name, one->labels, *one->histogram);
        continue;
      }
      std::string value = std::to_string(one->counter.value());
      if (family->kind == kTimeCounter) value = number(one->time.seconds());
      if (family->kind == kGauge || family->kind == kOthersCounter)
        value = number(one->gauge.value());
      append_line(out, family->name, one->labels, value);
    }
  }
  return out;
}

std::string label(std::string_view key, std::string_view value) {
  return std::string(key) + "=\"" + escape(value, true) + "\"";
}

}  // namespace aurora
