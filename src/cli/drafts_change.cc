// `aurora drafts pin`, `unpin`, `rollback` and `rm`: a server finds in the folder what is asked of
// it.
#include <cstdio>

#include "cli/commands.h"
#include "cli/drafts_options.h"
#include "registry/registry.h"

namespace aurora {
namespace {

std::string named(int64_t version) { return "version " + std::to_string(version); }

// Of the target of the newest version: a state folder has one, unless its model file was replaced.
Result<DraftManifest> in_service(const Registry& registry) {
  const auto all = registry.list();
  if (!all) return all.status();
  if (all->empty()) return Status::not_found("no draft has been published in " + registry.dir());
  auto serving = registry.serving(all->back().target);
  if (!serving) return serving.status();
  if (!*serving) return Status::not_found("no version in " + registry.dir() + " may serve");
  return std::move(**serving);
}

Result<std::string> pin(Registry& registry, int64_t version) {
  if (Status s = registry.pin(version); !s) return s;
  return named(version) + " is pinned: servers draft with it alone until `aurora drafts unpin`";
}

Result<std::string> unpin(Registry& registry, int64_t) {
  if (Status s = registry.unpin(); !s) return s;
  return std::string("no version is pinned: the newest that is good serves");
}

// The newest one before `from` that has not been put away, or failing that any.
Result<int64_t> version_before(const Registry& registry, const DraftManifest& from) {
  const auto candidates = registry.candidates(from.target);
  if (!candidates) return candidates.status();
  for (const DraftManifest& one : *candidates)
    if (one.version < from.version) return one.version;
  return Status::not_found("there is no version before " + std::to_string(from.version) +
                           " to go back to; --draft-arms ngram serves without the learnt draft");
}

Result<std::string> roll_back(Registry& registry, int64_t version) {
  const auto serving = in_service(registry);
  if (!serving) return serving.status();
  if (version == 0) {
    const auto before = version_before(registry, *serving);
    if (!before) return before.status();
    version = *before;
  }
  if (version == serving->version)
    return Status::invalid(named(version) + " is the one in service; give the one to go back to");
  if (Status s = registry.pin(version); !s) return s;
  DraftVerdict verdict;
  if (const auto said = registry.verdict(serving->version); said && *said) verdict = **said;
  verdict.version = serving->version;
  verdict.kind = DraftVerdict::Kind::kRolledBack;
  verdict.reason = "rolled back by hand to " + std::to_string(version);
  if (Status s = registry.write_verdict(verdict); !s) return s;
  return named(serving->version) + " is put away, " + named(version) +
         " is pinned; `aurora drafts unpin` lets newer ones in again";
}

Result<std::string> remove(Registry& registry, int64_t version) {
  const auto serving = in_service(registry);
  if (serving && serving->version == version)
    return Status::invalid(named(version) +
                           " is in service; roll it back or pin another one before");
  if (Status s = registry.remove(version); !s) return s;
  return "the weights of " + named(version) + " are removed";
}

using Change = Result<std::string> (*)(Registry& registry, int64_t version);  // what has been done

Result<std::string> made(const DraftsOptions& options, Change change) {
  const auto folder = drafts_folder(options);
  if (!folder) return folder.status();
  auto registry = Registry::open(*folder);
  if (!registry) return registry.status();
  return change(*registry, options.version);
}

int run(CommandLine (*command)(DraftsOptions&), VersionWord version, Change change,
        const Words& args) {
  const auto options = parse_drafts_options(command, version, args);
  if (!options) return refuse("aurora drafts", options.status());
  if (options->help) return print_help(command);
  const auto done = made(*options, change);
  if (!done) {
    refuse("aurora drafts", done.status());
    return 1;
  }
  std::puts(done->c_str());
  return 0;
}

}  // namespace

int drafts_pin_main(const Words& args) {
  return run(drafts_pin_command, VersionWord::kMust, pin, args);
}

int drafts_unpin_main(const Words& args) {
  return run(drafts_unpin_command, VersionWord::kNone, unpin, args);
}

int drafts_rollback_main(const Words& args) {
  return run(drafts_rollback_command, VersionWord::kMay, roll_back, args);
}

int drafts_rm_main(const Words& args) {
  return run(drafts_rm_command, VersionWord::kMust, remove, args);
}

}  // namespace aurora
