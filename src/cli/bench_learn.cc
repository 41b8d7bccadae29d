// `aurora bench learn`: many training recipes on one recorded stream, one run of `aurora-train
// prequential` each.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/files.h"
#include "cli/commands.h"
#include "cli/learn_curves.h"
#include "cli/learn_variants.h"
#include "cli/self_path.h"
#include "cli/text.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kUsage =
    R"(usage: aurora bench learn -m TARGET.gguf --trace-db DIR --variants FILE --out DIR [options]

Replays recorded traces for every variant: each window of requests is scored by the draft that would have served it, then
trained on. Record a stream with `aurora serve --state S --buffer-mib N` and `aurora replay`; its traces are in S/traces.

  -m, --model FILE      the target that served the stream
  --trace-db DIR        traces of a state folder; may be given more than once, one behind the other
  --variants FILE       one a line: "NAME: FLAGS", flags of aurora train, and --passes N for this variant alone
  --out DIR             results: DIR/NAME.json each, DIR/learn.json, DIR/learn.html. Run again, it goes on where it stopped
  --tokens N            served tokens of the stream (0: all)
  --depths N,...        draft lengths that are scored (4)
  --passes X            trained rows for each served token, and for each of a rollout (8)
  --group N             requests between two swaps (8)
  --window N            requests of one figure (50)
  --domains A,B,...     these domains one behind the other (the stream as recorded)
  --domain-requests N   of each of them at most
  --freeze-at-shift on  also score the draft of the moment at which the domain changed
  --seen N              at every window also score the first N requests again, which it has learnt from (0)
  --offline-tokens N    train on the first N tokens alone, then score the rest without training
)";

struct Options {
  std::string model, variants, out;
  std::vector<std::string> run;  // flags handed on to aurora-train prequential
};

Status parse(const std::vector<std::string>& args, Options& options) {
  bool recorded = false;
  for (size_t i = 0; i < args.size(); i += 2) {
    if (i + 1 == args.size()) return Status::invalid(args[i] + " needs a value");
    const std::string &flag = args[i], &value = args[i + 1];
    if (flag == "-m" || flag == "--model") options.model = value;
    else if (flag == "--variants") options.variants = value;
    else if (flag == "--out") options.out = value;
    else {
      recorded = recorded || flag == "--trace-db";
      options.run.insert(options.run.end(), {flag, value});
    }
  }
  if (options.model.empty() || options.variants.empty() || options.out.empty() || !recorded)
    return Status::invalid("give -m, --trace-db, --variants and --out; --help says what they are");
  return Status::ok();
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The whole command of one variant, the program left out.
std::vector<std::string> command_of(const Options& options, const LearnVariant& variant,
                                    const std::string& json) {
  std::vector<std::string> args = {"prequential", "--json", json};
  args.insert(args.end(), options.run.begin(), options.run.end());
  std::vector<std::string> recipe = {"--", "-m", options.model};
  for (size_t i = 0; i < variant.flags.size(); ++i) {
    auto& to = variant.flags[i] == "--passes" ? args : recipe;
    to.push_back(variant.flags[i]);
    if (&to == &args && i + 1 < variant.flags.size()) to.push_back(variant.flags[++i]);
  }
  args.insert(args.end(), recipe.begin(), recipe.end());
  return args;
}

int run_program(const std::string& program, const std::vector<std::string>& args) {
  const std::vector<char*> argv = exec_args(program, args);
  const pid_t pid = fork();
  if (pid == 0) {
    execv(program.c_str(), argv.data());
    std::fprintf(stderr, "aurora bench learn: cannot run %s; build it with LibTorch installed\n",
                 program.c_str());
    _exit(127);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 1;
  return WEXITSTATUS(status);
}

Json read_json(const std::string& path) {
  std::ifstream in(path);
  return Json::parse(in, nullptr, /*allow_exceptions=*/false);
}

// Figures of a finished run of exactly this command; discarded otherwise.
Json finished(const std::string& json, const std::string& recipe_path, const std::string& recipe) {
  auto before = read_file(recipe_path, 1 << 20);
  if (!before || *before != recipe) return Json(Json::value_t::discarded);
  const Json figures = read_json(json);
  const bool done = figures.is_object() && figures.value("done", false);
  return done ? figures : Json(Json::value_t::discarded);
}

LearnCurve curve_of(const LearnVariant& variant, const Json& figures) {
  LearnCurve curve;
  curve.name = variant.name;
  curve.recipe = joined(variant.flags);
  for (const Json& window : figures["windows"])
    curve.points.emplace_back(window["served_tokens"].get<int64_t>(),
                              window["accept_len"][0].get<double>());
  curve.accept_len = figures["accept_len"][0].get<double>();
  curve.rows_per_s = figures["rows_per_s"].get<double>();
  return curve;
}

void print_table(const std::vector<LearnCurve>& curves) {
  std::printf("%-20s %12s %12s %8s  %s\n", "variant", "last window", "whole stream", "rows/s",
              "recipe");
  for (const LearnCurve& curve : curves)
    std::printf("%-20s %12.3f %12.3f %8.0f  %s\n", curve.name.c_str(),
                curve.points.empty() ? 0.0 : curve.points.back().second, curve.accept_len,
                curve.rows_per_s, curve.recipe.c_str());
}

Status run(const Options& options) {
  auto text = read_file(options.variants, 1 << 20);
  if (!text) return text.status();
  auto variants = parse_learn_variants(*text);
  if (!variants) return Status::invalid(options.variants + ", " + variants.status().message());
  if (Status s = make_dirs(options.out); !s) return s;
  const std::string program = sibling_program("aurora-train");
  Json all;
  std::vector<LearnCurve> curves;
  size_t number = 0;
  for (const LearnVariant& variant : *variants) {
    const std::string base = options.out + "/" + variant.name;
    const auto command = command_of(options, variant, base + ".json");
    Json figures = finished(base + ".json", base + ".recipe", joined(command));
    std::fprintf(stderr, "%zu/%zu %s%s\n", ++number, variants->size(), variant.name.c_str(),
                 figures.is_discarded() ? "" : ", done before");
    if (figures.is_discarded()) {
      if (Status s = write_file_atomically(base + ".recipe", joined(command), 0644); !s) return s;
      if (const int code = run_program(program, command); code != 0)
        return Status::internal("variant " + variant.name + " ended with code " +
                                std::to_string(code));
      figures = read_json(base + ".json");
      if (!figures.is_object()) return Status::corrupt(base + ".json cannot be read");
    }
    curves.push_back(curve_of(variant, figures));
    figures["recipe"] = joined(variant.flags);
    all[variant.name] = std::move(figures);
    // After each: a run that is stopped leaves what is known.
    std::ofstream(options.out + "/learn.json") << all.dump(1) << '\n';
    std::ofstream(options.out + "/learn.html") << learn_curves_html(curves);
    std::ofstream(options.out + "/learn.svg") << learn_curves_svg(curves);
  }
  print_table(curves);
  return Status::ok();
}

}  // namespace

int bench_learn_main(const std::vector<std::string>& args) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  Options options;
  if (Status s = parse(args, options); !s) {
    std::fprintf(stderr, "aurora bench learn: %s\n", s.message().c_str());
    return 2;
  }
  if (Status s = run(options); !s) {
    std::fprintf(stderr, "aurora bench learn: %s\n", s.message().c_str());
    return 1;
  }
  return 0;
}

}  // namespace aurora
