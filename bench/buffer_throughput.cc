// What the path of traces takes and costs, on the loopback: JetStreamBuffer with one broker, LMDB,
// and plain libnats publishing the same bytes in pieces of the same size, without encoding, names
// or assembly. All in one run, taking turns; medians.
//   buffer_throughput [--rounds N] [--records N] [--hidden D] [--sync always|2m]
#include <nats/nats.h>
#include <sys/resource.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/median.h"
#include "base/parse_number.h"
#include "nats/jetstream.h"
#include "nats/nats_server.h"
#include "trace/jetstream_names.h"
#include "trace/sample_record.h"
#include "trace/trace_buffer.h"

namespace aurora {
namespace {

constexpr size_t kPieceBytes = 512u << 10;  // about JetStreamPublisher's
constexpr int64_t kRawPendingMax = 16;      // its 8 MiB on the wire
constexpr uint64_t kStoreBytesMax = 4ull << 30;
constexpr int64_t kFlushMs = 120'000;
constexpr int kPublishers[] = {1, 4, 16};

struct Options {
  int rounds = 5;
  int records = 64;  // of one measurement, over all publishers
  int hidden = 576;  // of SmolLM2-135M
  std::string sync = "always";
};

double self_cpu_s() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// utime and stime, fields 14 and 15 of /proc/PID/stat; the name before them has no space here.
double cpu_s(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; field <= 15 && in >> word; ++field) {
    if (field >= 14) ticks += std::stod(word);
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

struct Sample {
  double mb_per_s = 0, records_per_s = 0, self_cpu_ms_per_mb = 0, broker_cpu_ms_per_mb = 0;
};

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        port_(free_port()),
        broker_({nats_server_program(), "-c", write_conf(), "-l", dir_ / "broker.log"}, {}, port_) {
    for (int i = 0; i < options.records; ++i) {
      const SampleOptions shape{
          .prompt_tokens = 100, .served_tokens = 160, .hidden = options.hidden, .law_k = 64};
      records_.push_back(sample_record(static_cast<uint32_t>(i), shape));
      encoded_.push_back(*encode(records_.back()));
      megabytes_ += static_cast<double>(encoded_.back().size()) * 1e-6;
    }
    broker_.start();
    broker_.wait_until_it_listens();
  }

  double record_megabytes() const { return megabytes_ / options_.records; }

  Sample jetstream(int publishers) {
    const NatsUrl url = next_url();
    std::vector<std::unique_ptr<TraceBuffer>> buffers;
    for (int i = 0; i < publishers; ++i) {
      auto buffer = open_jetstream_buffer(url, {.dir = {}, .bytes_max = kStoreBytesMax});
      CHECK(buffer);
      // Streams are made and connections open before the clock runs.
      CHECK((*buffer)->append(sample_record(1000000 + static_cast<uint32_t>(i))));
      CHECK((*buffer)->flush(kFlushMs));
      buffers.push_back(std::move(*buffer));
    }
    const Sample sample = measure(publishers, [&](int publisher) {
      TraceBuffer& buffer = *buffers[static_cast<size_t>(publisher)];
      for_own(publisher, publishers, [&](size_t i) {
        while (!buffer.append(records_[i])) ::usleep(500);  // its bound: a server would drop it
      });
      CHECK(buffer.flush(kFlushMs));
    });
    buffers.clear();
    remove_streams(url);
    return sample;
  }

  Sample lmdb(int publishers) {
    const TempDir dir;
    auto buffer = open_lmdb_buffer({.dir = dir / "traces", .bytes_max = kStoreBytesMax});
    CHECK(buffer);
    return measure(publishers, [&](int publisher) {
      for_own(publisher, publishers, [&](size_t i) { CHECK((*buffer)->append(records_[i])); });
    });
  }

  Sample raw(int publishers) {
    const NatsUrl url = next_url();
    auto admin = NatsConnection::open(url, "bench");
    CHECK(admin && (*admin)->wait_connected(kFlushMs));
    CHECK(ensure_stream(**admin,
                        {.name = traces_stream(url.prefix),
                         .subjects = url.prefix + ".traces.*",
                         .bytes_max = kStoreBytesMax},
                        true));
    std::vector<natsConnection*> connections(static_cast<size_t>(publishers));
    std::vector<jsCtx*> contexts(connections.size());
    jsOptions js{};
    jsOptions_Init(&js);
    js.PublishAsync.MaxPending = kRawPendingMax;
    js.PublishAsync.StallWait = kFlushMs;
    for (size_t i = 0; i < connections.size(); ++i) {
      CHECK(natsConnection_ConnectTo(&connections[i], url.servers[0].c_str()) == NATS_OK);
      CHECK(natsConnection_JetStream(&contexts[i], connections[i], &js) == NATS_OK);
    }
    const std::string subject = piece_subject(url.prefix);
    const Sample sample = measure(publishers, [&](int publisher) {
      jsCtx* context = contexts[static_cast<size_t>(publisher)];
      for_own(publisher, publishers, [&](size_t i) {
        const auto& bytes = encoded_[i];
        for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
          const size_t n = std::min(kPieceBytes, bytes.size() - at);
          CHECK(js_PublishAsync(context, subject.c_str(), bytes.data() + at, static_cast<int>(n),
                                nullptr) == NATS_OK);
        }
      });
      jsPubOptions wait{};
      jsPubOptions_Init(&wait);
      wait.MaxWait = kFlushMs;
      CHECK(js_PublishAsyncComplete(context, &wait) == NATS_OK);
    });
    for (size_t i = 0; i < connections.size(); ++i) {
      jsCtx_Destroy(contexts[i]);
      natsConnection_Destroy(connections[i]);
    }
    remove_streams(url);
    return sample;
  }

 private:
  std::string write_conf() const {
    std::ofstream(dir_ / "conf") << "listen: 127.0.0.1:" << port_ << "\njetstream { store_dir: \""
                                 << (dir_ / "store") << "\", sync_interval: " << options_.sync
                                 << " }\n";
    return dir_ / "conf";
  }

  NatsUrl next_url() {
    const auto url = parse_nats_url("nats://127.0.0.1:" + std::to_string(port_) + "/?prefix=b" +
                                    std::to_string(++streams_));
    CHECK(url);
    return *url;
  }

  void remove_streams(const NatsUrl& url) {
    auto connection = NatsConnection::open(url, "bench");
    CHECK(connection && (*connection)->wait_connected(kFlushMs));
    (void)(*connection)->request("$JS.API.STREAM.DELETE." + traces_stream(url.prefix), "", 10'000);
  }

  void for_own(int publisher, int publishers, const std::function<void(size_t)>& work) const {
    for (int i = publisher; i < options_.records; i += publishers) work(static_cast<size_t>(i));
  }

  // From the moment when all threads stand ready to the moment when all are done.
  Sample measure(int publishers, const std::function<void(int)>& work) const {
    std::barrier ready(publishers + 1);
    std::vector<std::thread> threads;
    for (int i = 0; i < publishers; ++i) {
      threads.emplace_back([&, i] {
        ready.arrive_and_wait();
        work(i);
      });
    }
    const double self = self_cpu_s(), broker = cpu_s(broker_.pid());
    ready.arrive_and_wait();
    const int64_t begin_us = steady_us();
    for (std::thread& thread : threads) thread.join();
    const double seconds = 1e-6 * static_cast<double>(steady_us() - begin_us);
    return {.mb_per_s = megabytes_ / seconds,
            .records_per_s = options_.records / seconds,
            .self_cpu_ms_per_mb = 1e3 * (self_cpu_s() - self) / megabytes_,
            .broker_cpu_ms_per_mb = 1e3 * (cpu_s(broker_.pid()) - broker) / megabytes_};
  }

  const Options options_;
  const TempDir dir_;
  const uint16_t port_;
  NatsProcess broker_;
  std::vector<TraceRecord> records_;
  std::vector<std::vector<std::byte>> encoded_;
  double megabytes_ = 0;
  int streams_ = 0;
};

double middle(const std::vector<Sample>& samples, double Sample::*field) {
  std::vector<double> values;
  for (const Sample& sample : samples) values.push_back(sample.*field);
  return median(std::move(values));
}

void print_row(const char* path, int publishers, const std::vector<Sample>& samples,
               const std::vector<Sample>& raw) {
  std::vector<double> ratios;  // each against its neighbour in time
  for (size_t i = 0; i < samples.size(); ++i)
    ratios.push_back(samples[i].mb_per_s / raw[i].mb_per_s);
  std::printf("| %s | %d | %.0f | %.0f | %.2f | %.2f | %.2f |\n", path, publishers,
              middle(samples, &Sample::mb_per_s), middle(samples, &Sample::records_per_s),
              median(ratios), middle(samples, &Sample::self_cpu_ms_per_mb),
              middle(samples, &Sample::broker_cpu_ms_per_mb));
}

void run(const Options& options) {
  Bench bench(options);
  struct Path {
    const char* name;
    Sample (Bench::*measure)(int);
  };
  const Path paths[] = {{"JetStreamBuffer", &Bench::jetstream},
                        {"libnats, plain", &Bench::raw},
                        {"LMDB", &Bench::lmdb}};
  std::map<std::pair<int, std::string>, std::vector<Sample>> samples;
  for (int round = 0; round <= options.rounds; ++round) {
    for (const int publishers : kPublishers) {
      for (const Path& path : paths) {
        const Sample sample = (bench.*path.measure)(publishers);
        std::fprintf(stderr, "round %d, %d publishers, %s: %.1f MB/s\n", round, publishers,
                     path.name, sample.mb_per_s);
        if (round > 0) samples[{publishers, path.name}].push_back(sample);  // the first warms up
      }
    }
  }
  std::printf(
      "%d rounds, %d records of %.2f MB a measurement, sync_interval %s\n\n"
      "| path | publishers | MB/s | records/s | against plain | CPU ms/MB | broker's |\n"
      "|---|---|---|---|---|---|---|\n",
      options.rounds, options.records, bench.record_megabytes(), options.sync.c_str());
  for (const int publishers : kPublishers) {
    for (const Path& path : paths) {
      print_row(path.name, publishers, samples[{publishers, path.name}],
                samples[{publishers, paths[1].name}]);
    }
  }
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "--rounds" && parse_number(value, 1, 1000, options.rounds)) continue;
    if (flag == "--records" && parse_number(value, 16, 100000, options.records)) continue;
    if (flag == "--hidden" && parse_number(value, 8, 16384, options.hidden)) continue;
    if (flag == "--sync" && (value == "always" || value == "2m")) {
      options.sync = value;
      continue;
    }
    return false;
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace aurora

int main(int argc, char** argv) {
  aurora::Options options;
  if (!aurora::parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "buffer_throughput: [--rounds N] [--records N, at least 16] [--hidden D] "
                 "[--sync always|2m]; TMPDIR says on which disk\n");
    return 2;
  }
  aurora::run(options);
  return 0;
}
