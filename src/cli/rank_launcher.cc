#include "cli/rank_launcher.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/child_process.h"
#include "base/clock.h"
#include "base/exit_code.h"
#include "base/log.h"

namespace aurora {
namespace {

constexpr int kLeaveSeconds = 10;  // for a checkpoint, after SIGTERM
constexpr useconds_t kPollUs = 100'000;

volatile std::sig_atomic_t g_stop = 0;

// A port of the loopback device that is free now; 0: none.
int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return 0;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  const bool ok = bind(fd, any, length) == 0 && getsockname(fd, any, &length) == 0;
  close(fd);
  return ok ? ntohs(address.sin_port) : 0;
}

std::vector<pid_t> start_all(const std::string& program, const std::vector<std::string>& args,
                             int count, bool& never) {
  const std::string port = std::to_string(free_port());
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < count; ++rank) {
    const std::string of_all = std::to_string(count);
    const auto pid = start_child(
        {program,
         args,
         {"RANK=" + std::to_string(rank), "WORLD_SIZE=" + of_all, "LOCAL_WORLD_SIZE=" + of_all,
          "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port}});
    if (!pid) {
      LOG_WARN("cli", "%s", pid.status().message().c_str());
      never = pid.status().code() == StatusCode::kNotFound;
      break;
    }
    ranks.push_back(*pid);
  }
  return ranks;
}

void signal_all(const std::vector<pid_t>& ranks, int signal_number) {
  for (const pid_t pid : ranks) kill(pid, signal_number);
}

// Until the last one has ended. One that fails takes the others with it. Returns the first exit
// code that is not 0.
int wait_all(std::vector<pid_t> ranks, bool leave_at_once) {
  int first = 0;
  int64_t asked_us = 0;
  while (!ranks.empty()) {
    for (auto it = ranks.begin(); it != ranks.end();) {
      const auto end = child_end(*it);
      if (!end) {
        ++it;
        continue;
      }
      it = ranks.erase(it);
      if (first == 0) first = end->code;
    }
    if (asked_us == 0 && (first != 0 || g_stop != 0 || leave_at_once)) {
      signal_all(ranks, SIGTERM);
      signal_all(ranks, SIGCONT);
      asked_us = steady_us();
    }
    if (asked_us != 0 && steady_us() - asked_us > kLeaveSeconds * 1'000'000ll)
      signal_all(ranks, SIGKILL);
    usleep(kPollUs);
  }
  return first;
}

}  // namespace

int run_ranks(const std::string& program, const std::vector<std::string>& args, int count) {
  for (int signal_number : {SIGTERM, SIGINT}) std::signal(signal_number, [](int) { g_stop = 1; });
  RestartPause pause;
  while (g_stop == 0) {
    const int64_t started_us = steady_us();
    bool never = false;
    const std::vector<pid_t> ranks = start_all(program, args, count, never);
    const bool some_missing = static_cast<int>(ranks.size()) < count;
    const int code = wait_all(ranks, some_missing);
    if (code == 0 && !some_missing) return 0;
    if (never) return kCannotRunExit;
    if (code == kBadSetupExit || code == kCannotRunExit) return code;
    if (g_stop != 0) return code;
    const int wait_s = pause.after(steady_us() - started_us);
    LOG_WARN("cli", "a trainer rank ended (exit code %d, see its line above); all again in %d s",
             code, wait_s);
    for (int i = 0; i < wait_s * 10 && g_stop == 0; ++i) usleep(kPollUs);
  }
  return 0;
}

}  // namespace aurora
