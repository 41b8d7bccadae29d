#include "train/prequential_report.h"

#include <algorithm>
#include <cstdio>

#include "base/files.h"

namespace aurora {
namespace {

void add(std::vector<ReplayScore>& sums, const std::vector<ReplayScore>& more) {
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i].tokens += more[i].tokens;
    sums[i].steps += more[i].steps;
  }
}

Leads cut(const Leads& leads, int depth) {
  Leads out = leads;
  for (uint8_t& lead : out) lead = std::min(lead, static_cast<uint8_t>(depth));
  return out;
}

std::string list(const std::vector<ReplayScore>& scores) {
  std::string out = "[";
  for (const ReplayScore& score : scores) {
    char text[32];
    std::snprintf(text, sizeof(text), "%s%.4f", out.size() > 1 ? ", " : "", score.accept_len());
    out += text;
  }
  return out + "]";
}

}  // namespace

PrequentialReport::PrequentialReport(const PrequentialOptions& options)
    : options_(options),
      none_{std::vector<ReplayScore>(options.depths.size()),
            std::vector<ReplayScore>(options.depths.size())},
      window_(none_),
      all_(none_) {}

void PrequentialReport::add_group(const std::vector<const TraceRecord*>& records,
                                  const std::vector<Leads>& leads,
                                  const std::vector<Leads>& frozen) {
  for (size_t i = 0; i < records.size(); ++i) {
    const ByDepth served = walks(*records[i], leads[i]);
    add(window_.served, served);
    add(all_.served, served);
    if (!frozen.empty()) add(window_.frozen, walks(*records[i], frozen[i]));
    tokens_ += records[i]->served_tokens();
    const std::string& domain = records[i]->domain;
    if (requests_ % options_.window_requests == 0) domain_ = domain;  // the first of its window
    else if (domain_ != domain) domain_ = "mixed";
    ++requests_;
    if (requests_ % options_.window_requests == 0) end_window();
  }
}

PrequentialReport::ByDepth PrequentialReport::walks(const TraceRecord& record,
                                                    const Leads& leads) const {
  ByDepth scores;
  for (const int depth : options_.depths)
    scores.push_back(walk(cut(leads, depth), record.served_tokens()));
  return scores;
}

bool PrequentialReport::ends_window(size_t requests) const {
  return (requests_ + static_cast<int>(requests)) / options_.window_requests > windows();
}

void PrequentialReport::set_seen(const std::vector<const TraceRecord*>& records,
                                 const std::vector<Leads>& leads) {
  seen_ = none_.served;
  for (size_t i = 0; i < records.size(); ++i) add(seen_, walks(*records[i], leads[i]));
}

Status PrequentialReport::write(const TrainFigures& figures, double seconds, bool done) const {
  std::string text = std::string("{\"done\": ") + (done ? "true" : "false") + ", \"depths\": [";
  for (size_t d = 0; d < options_.depths.size(); ++d)
    text += (d > 0 ? ", " : "") + std::to_string(options_.depths[d]);
  text += "],\n \"windows\": [" + windows_ + "],\n \"accept_len\": " + list(all_.served);
  char tail[160];
  std::snprintf(
      tail, sizeof(tail), ", \"trained_columns\": %llu, \"rows_per_s\": %.1f, \"seconds\": %.1f}\n",
      static_cast<unsigned long long>(figures.trained_columns),
      figures.training_s > 0 ? static_cast<double>(figures.trained_columns) / figures.training_s
                             : 0.0,
      seconds);
  return write_file_atomically(options_.json, text + tail, 0644);
}

void PrequentialReport::end_window() {
  last_ = window_.served[0].accept_len();
  windows_ += windows_.empty() ? "\n  " : ",\n  ";
  windows_ += "{\"requests\": " + std::to_string(requests_) +
              ", \"served_tokens\": " + std::to_string(tokens_) + ", \"domain\": \"" + domain_ +
              "\", \"accept_len\": " + list(window_.served);
  if (window_.frozen[0].steps > 0) windows_ += ", \"frozen_accept_len\": " + list(window_.frozen);
  if (!seen_.empty()) windows_ += ", \"seen_accept_len\": " + list(seen_);
  windows_ += "}";
  window_ = none_;
}

}  // namespace aurora
