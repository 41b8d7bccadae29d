#include "lab/server_child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "base/child_process.h"
#include "base/clock.h"
#include "base/core_lease.h"
#include "base/log.h"
#include "base/self_path.h"
#include "lab/process_info.h"
#include "replay/http_client.h"

namespace aurora {
namespace {

constexpr std::chrono::milliseconds kPoll(50);
constexpr int64_t kLeaveUs = 60'000'000;  // for a checkpoint of the trainer, after SIGTERM
constexpr int kPortTriesMax = 100;
constexpr std::streamoff kLogEndBytes = 1500;

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// Between fork and exec: nothing that allocates or locks. SIGTERM, since a server that is killed
// could not let a stopped trainer go on.
[[noreturn]] void become(const char* program, char* const* argv, int out, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(0);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  ::execv(program, argv);
  ::_exit(127);
}

}  // namespace

Result<int> free_port() {
  std::mt19937 rng(std::random_device{}());
  std::uniform_int_distribution<int> any(12'000, 32'000);
  for (int tries = 0; tries < kPortTriesMax; ++tries) {
    const int port = any(rng);
    const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port);
    const bool free =
        ::bind(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(probe);
    if (free) return port;
  }
  return Status::unavailable("no free port on the loopback device");
}

Result<std::unique_ptr<ServerChild>> ServerChild::start(ServerCommand command, double seconds) {
  std::unique_ptr<ServerChild> server(new ServerChild(std::move(command)));
  if (Status s = server->spawn(); !s) return s;
  if (Status s = server->wait_ready(seconds); !s) return s;
  return server;
}

Status ServerChild::spawn() {
  const auto port = free_port();
  if (!port) return port.status();
  port_ = *port;
  if (::access(command_.program.c_str(), X_OK) != 0)
    return Status::not_found("cannot run " + command_.program + ": " + std::strerror(errno));
  const int out =
      ::open(command_.log.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (out < 0) return Status::io("cannot write " + command_.log + ": " + std::strerror(errno));
  std::vector<std::string> args = command_.args;
  args.insert(args.end(), {"--host", "127.0.0.1", "--port", std::to_string(port_)});
  const std::vector<char*> argv = exec_args(command_.program, args);
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become(command_.program.c_str(), argv.data(), out, self);
  ::close(out);
  if (child < 0) return Status::unavailable(std::string("cannot fork: ") + std::strerror(errno));
  pid_ = child;
  return Status::ok();
}

Status ServerChild::wait_ready(double seconds) {
  const int64_t deadline_us = steady_us() + static_cast<int64_t>(seconds * 1e6);
  ServerClient client(url());
  while (steady_us() < deadline_us) {
    if (!alive())
      return Status::unavailable(command_.program + " ended before it was ready:\n" + log_end());
    const double left_s = static_cast<double>(deadline_us - steady_us()) / 1e6;
    if (client.wait_ready(left_s)) return Status::ok();
    std::this_thread::sleep_for(kPoll);
  }
  return Status::unavailable(command_.program + " is not ready in time:\n" + log_end());
}

ServerChild::~ServerChild() {
  if (!alive()) return;
  if (trainer_stopped_) let_trainer_run(true);
  ::kill(pid_, SIGTERM);
  const int64_t kill_us = steady_us() + kLeaveUs;
  bool killed = false;
  while (alive()) {
    if (!killed && steady_us() > kill_us) killed = ::kill(pid_, SIGKILL) == 0;
    std::this_thread::sleep_for(kPoll);
  }
}

std::string ServerChild::url() const { return "http://127.0.0.1:" + std::to_string(port_); }

bool ServerChild::alive() {
  if (pid_ > 0 && child_end(pid_)) pid_ = 0;
  return pid_ > 0;
}

pid_t ServerChild::trainer() const {
  return pid_ > 0 ? child_called(pid_, "aurora-train").value_or(0) : 0;
}

void ServerChild::let_trainer_run(bool run) {
  const pid_t pid = trainer();
  if (pid == 0) return;
  ::kill(pid, run ? SIGCONT : SIGSTOP);
  trainer_stopped_ = !run;
  const auto state = std::find(command_.args.begin(), command_.args.end(), "--state");
  if (run || state == command_.args.end() || state + 1 == command_.args.end()) return;
  // It cannot say itself that it wants no core for now.
  auto lease = CoreLender::open(*(state + 1));
  if (lease) lease->forget_wish();
  else LOG_WARN("lab", "%s", lease.status().to_string().c_str());
}

std::string ServerChild::log_end() const {
  std::ifstream file(command_.log, std::ios::ate | std::ios::binary);
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(0, size - kLogEndBytes));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace aurora
