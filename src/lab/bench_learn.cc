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
#include "base/self_path.h"
#include "lab/bench.h"
#include "lab/bench_options.h"
#include "lab/learn_curves.h"
#include "lab/learn_variants.h"
#include "replay/text.h"

namespace aurora {
namespace {

using Json = nlohmann::ordered_json;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The whole command of one variant, the program left out.
std::vector<std::string> command_of(const BenchLearnOptions& options, const LearnVariant& variant,
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

Status run(const BenchLearnOptions& options) {
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
  BenchLearnOptions options;
  if (Status s = parse_bench_learn_options(args, options); !s)
    return refuse("aurora bench learn", s);
  if (options.help) return print_help(bench_learn_command);
  if (Status s = run(options); !s) {
    refuse("aurora bench learn", s);
    return 1;
  }
  return 0;
}

}  // namespace aurora
