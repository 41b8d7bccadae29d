#include "cli/serve_options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "cli/server_flags.h"

namespace aurora {
namespace {

using Args = std::vector<std::string>;

std::string refusal(const Args& args) {
  const auto options = parse_serve_options(args);
  return options ? "" : options.status().message();
}

void expect_refused(const Args& args, const std::string& says) {
  EXPECT_NE(refusal(args).find(says), std::string::npos)
      << args.back() << ": '" << refusal(args) << "'";
}

TEST(ServeOptions, ASwitchOfTheTrainerTakesNoValue) {
  const auto options = parse_serve_options({"--train-once", "-c", "4096", "--train-vocab", "2048"});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->server_args, (Args{"-c", "4096"}));
  EXPECT_EQ(options->trainer_args, (Args{"--train-once", "--train-vocab", "2048"}));
}

TEST(ServeOptions, AFlagIsNobodysValue) {
  expect_refused({"--state", "--port", "8080"}, "--state needs a value");
  expect_refused({"--train-vocab", "-c", "4096"}, "--train-vocab needs a value");
  expect_refused({"--draft-depth", "--gate", "off"}, "--draft-depth needs a value");
  expect_refused({"--capture"}, "--capture needs a value");
  expect_refused({"--draft-depth", "-1"}, "--draft-depth is '-1'");  // a number is a value
}

TEST(ServeOptions, ValuesBehindAnEqualsSign) {
  const auto options = parse_serve_options(
      {"--capture=off", "--draft-depth=3", "--state=/tmp/a=b", "--train-vocab=2048"});
  ASSERT_TRUE(options) << options.status().message();
  EXPECT_FALSE(options->capture);
  EXPECT_EQ(options->draft_depth, 3);
  EXPECT_EQ(options->state, "/tmp/a=b");
  EXPECT_EQ(options->trainer_args, (Args{"--train-vocab", "2048"}));
  EXPECT_TRUE(options->server_args.empty());
  expect_refused({"--capture="}, "--capture is ''");
  expect_refused({"--train-once=yes"}, "--train-once takes no value");
}

TEST(ServeOptions, RefusedFlagsInEverySpelling) {
  for (const char* arg : {"--cache-reuse", "--cache_reuse", "--cache-reuse=64", "--context-shift",
                          "--spec-type", "--spec-ngram-mod-n-min", "--draft-max", "-md", "-ngld",
                          "-bs", "--backend_sampling", "--models-preset", "-hf", "--model-url",
                          "--fim-qwen-7b-spec", "--lora", "--control-vector"}) {
    expect_refused({"-m", "a.gguf", arg, "64"}, " does not go with aurora serve: ");
  }
}

TEST(ServeOptions, WhatIsLikeARefusedFlagPasses) {
  for (const char* arg :
       {"--no-context-shift", "--cache-prompt", "-c", "--lora-init-without-apply"})
    EXPECT_EQ(refusal({"-m", "a.gguf", arg}), "") << arg;
  EXPECT_EQ(refusal({"--draft-p-min", "0.5", "--draft-dtype", "f16"}), "");
}

TEST(ServeOptions, VariablesAreRefusedLikeTheirFlags) {
  for (const char* name :
       {"LLAMA_ARG_CACHE_REUSE", "LLAMA_ARG_CONTEXT_SHIFT", "LLAMA_ARG_SPEC_DRAFT_MODEL",
        "LLAMA_ARG_SPEC_TYPE", "LLAMA_ARG_BACKEND_SAMPLING", "LLAMA_ARG_HF_REPO",
        "LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_DRAFT_MIN"}) {
    setenv(name, "64", 1);
    expect_refused({"-m", "a.gguf"}, std::string(name) + " does not go with aurora serve: ");
    for (const char* off : {"0", "off", "false", ""}) {
      setenv(name, off, 1);
      EXPECT_EQ(refusal({"-m", "a.gguf"}), "") << name << "=" << off;
    }
    unsetenv(name);
  }
}

TEST(ServeOptions, FlagsOfTheTrainerAreCheckedBeforeItStarts) {
  const auto options =
      parse_serve_options({"--pays-above", "1.2", "--rank-timeout=60", "--init", "random"});
  ASSERT_TRUE(options) << options.status().message();
  EXPECT_EQ(options->trainer_args,
            (Args{"--pays-above", "1.2", "--rank-timeout", "60", "--init", "random"}));
  expect_refused({"--train-vocab", "many"}, "--train-vocab is 'many'; give a whole number");
  expect_refused({"--draft-dtype", "q2"}, "--draft-dtype is 'q2'; give q8_0, f16 or f32");
}

TEST(ServeOptions, HelpNamesWhatIsRefused) {
  EXPECT_NE(serve_help().find("LLAMA_ARG_CACHE_REUSE"), std::string::npos);
}

}  // namespace
}  // namespace aurora
