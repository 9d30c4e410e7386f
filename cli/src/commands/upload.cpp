// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/hub/upload.h"

#include "cli_errors.h"
#include "commands.h"
#include "exit_code.h"
#include "report_json.h"
#include "transfer_reporter.h"

#include "kernelhub/builder/build_toml.h"
#include "kernelhub/builder/check.h"
#include "kernelhub/core/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace kernelhub::cli {
namespace {

namespace fs = std::filesystem;

struct LocalVariant {
  fs::path directory;
  std::string name;
  Metadata metadata;
};

std::vector<LocalVariant> read_variants(const fs::path& project) {
  std::vector<LocalVariant> variants;
  for (const fs::path& directory : builder::find_variants(project)) {
    variants.push_back(
        {directory, directory.filename().string(), builder::read_metadata(directory)});
  }
  const LocalVariant& first = variants.front();
  for (const LocalVariant& variant : variants) {
    if (variant.metadata.version != first.metadata.version) {
      throw cli_errors::variants_differ(first.directory, variant.directory, "version",
                                        std::to_string(first.metadata.version),
                                        std::to_string(variant.metadata.version));
    }
    if (variant.metadata.name != first.metadata.name) {
      throw cli_errors::variants_differ(first.directory, variant.directory, "name",
                                        first.metadata.name, variant.metadata.name);
    }
  }
  return variants;
}

struct Destination {
  RepoId repo;
  std::string branch;
};

Destination destination(const UploadArgs& args, const std::vector<LocalVariant>& variants) {
  std::optional<RepoId> repo;
  std::optional<std::string> branch;
  if (!args.repo_id.empty()) repo = RepoId::parse(args.repo_id);
  if (!args.branch.empty()) branch = args.branch;
  if (fs::exists(args.directory / "build.toml")) {
    const builder::BuildToml project = builder::read_build_toml(args.directory).project;
    if (!repo) repo = project.hub_repo;
    if (!branch) branch = project.hub_branch;
  }
  const Metadata& metadata = variants.front().metadata;
  if (!repo && metadata.kernelhub && !metadata.kernelhub->repo_id.empty()) {
    repo = RepoId::parse(metadata.kernelhub->repo_id);
  }
  if (!repo) throw cli_errors::no_repo_id(args.directory);
  return {*repo, branch.value_or(fmt::format("v{}", metadata.version))};
}

/// Findings, and a repository that clients would refuse the package from, stop an upload.
void require_clean(const std::vector<LocalVariant>& variants, const RepoId& repo) {
  for (const LocalVariant& variant : variants) {
    if (!repo.may_hold(variant.metadata.name)) {
      throw cli_errors::foreign_name(variant.directory, variant.metadata.name, repo.str());
    }
    const auto& own = variant.metadata.kernelhub;
    if (own && !own->repo_id.empty() && own->repo_id != repo.str()) {
      throw cli_errors::foreign_repo(variant.directory, own->repo_id, repo.str());
    }
    builder::require_clean(variant.directory);
  }
}

/// Files that belong on the hub: everything but bytecode.
std::vector<std::string> files_of(const fs::path& directory) {
  std::vector<std::string> files;
  for (auto entry = fs::recursive_directory_iterator(directory);
       entry != fs::recursive_directory_iterator(); ++entry) {
    if (entry->is_directory()) {
      if (entry->path().filename() == "__pycache__") entry.disable_recursion_pending();
    } else if (entry->path().extension() != ".pyc") {
      files.push_back(entry->path().lexically_relative(directory).string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> benchmark_files(const fs::path& project) {
  std::vector<fs::path> files;
  const fs::path folder = project / "benchmarks";
  if (!fs::is_directory(folder)) return files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("benchmark", 0) == 0 && entry.path().extension() == ".py") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool is_below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
         path[folder.size()] == '/';
}

/// `fresh_branch`: what the branch inherited under build/ is of another version and goes.
hub::CommitPlan plan_commit(const fs::path& project, const std::vector<LocalVariant>& variants,
                            const hub::Tree& current, bool fresh_branch) {
  hub::CommitPlan plan;
  std::set<std::string> kept;
  std::string names;
  for (const LocalVariant& variant : variants) {
    names += (names.empty() ? "" : ", ") + variant.name;
    for (const std::string& file : files_of(variant.directory)) {
      const std::string path = "build/" + variant.name + "/" + file;
      plan.additions.push_back({path, variant.directory / file});
      kept.insert(path);
    }
  }
  for (const fs::path& file : benchmark_files(project)) {
    plan.additions.push_back({"benchmarks/" + file.filename().string(), file});
  }
  for (const hub::TreeFile& file : current.files) {
    const bool ours =
        fresh_branch ? is_below(file.path, "build")
                     : std::any_of(variants.begin(), variants.end(), [&](const LocalVariant& own) {
                         return is_below(file.path, "build/" + own.name);
                       });
    if (ours && kept.count(file.path) == 0) plan.deletions.push_back(file.path);
  }
  const Metadata& metadata = variants.front().metadata;
  plan.summary = fmt::format("Upload {} version {}", metadata.name, metadata.version);
  plan.description = "Variants: " + names;
  return plan;
}

void record(const hub::CommitPlan& plan, UploadOutcome& outcome) {
  outcome.added.clear();
  for (const hub::CommitPlan::Addition& addition : plan.additions) {
    outcome.added.push_back(addition.path);
  }
  outcome.deleted = plan.deletions;
}

/// The card lives on main only.
bool upload_card(hub::Uploader& uploader, const RepoId& repo, const fs::path& card) {
  if (!fs::exists(card)) return false;
  return uploader
      .commit(repo, "main",
              [&](const hub::Tree&) {
                hub::CommitPlan plan;
                plan.additions.push_back({"README.md", card});
                plan.summary = "Update README.md";
                return plan;
              })
      .changed;
}

void publish(const UploadArgs& args, const std::vector<LocalVariant>& variants,
             const Destination& to, UploadOutcome& outcome) {
  const Config config = Config::from_env();
  hub::Client client(config);
  hub::Uploader uploader(client);
  TransferReporter reporter(config);
  uploader.create_repo(to.repo, args.is_private ? hub::Uploader::Visibility::kPrivate
                                                : hub::Uploader::Visibility::kPublic);
  bool fresh_branch = false;
  uploader.ensure_branch(to.repo, to.branch, &fresh_branch);
  const hub::CommitOutcome commit = uploader.commit(
      to.repo, to.branch,
      [&](const hub::Tree& current) {
        hub::CommitPlan plan = plan_commit(args.directory, variants, current, fresh_branch);
        record(plan, outcome);
        return plan;
      },
      &reporter);
  const bool card = upload_card(uploader, to.repo, args.directory / "build" / "CARD.md");
  outcome.status = commit.changed || card ? "uploaded" : "no_changes";
  outcome.commit = commit.commit.str();
  outcome.url = commit.url;
}

void print(const UploadOutcome& outcome) {
  fmt::print("{} {} {}\n", outcome.status, outcome.repo, outcome.branch);
  for (const std::string& variant : outcome.variants) fmt::print("  {}\n", variant);
  if (!outcome.commit.empty()) fmt::print("  commit {}\n", outcome.commit);
  if (!outcome.url.empty()) fmt::print("  {}\n", outcome.url);
}

}  // namespace

int upload(const UploadArgs& args) {
  const std::vector<LocalVariant> variants = read_variants(args.directory);
  const Destination to = destination(args, variants);
  if (!args.force) require_clean(variants, to.repo);
  UploadOutcome outcome;
  outcome.status = "planned";
  outcome.repo = to.repo.str();
  outcome.branch = to.branch;
  for (const LocalVariant& variant : variants) {
    outcome.variants.push_back(variant.name);
    if (variant.metadata.dirty()) {
      outcome.warnings.push_back(variant.name + " was built from uncommitted sources");
    }
  }
  if (args.dry_run) {
    record(plan_commit(args.directory, variants, {}, false), outcome);
  } else {
    publish(args, variants, to, outcome);
  }
  for (const std::string& warning : outcome.warnings) fmt::print(stderr, "warning: {}\n", warning);
  if (args.json)
    fmt::print("{}\n", to_json(outcome));
  else
    print(outcome);
  return kOk;
}

}  // namespace kernelhub::cli
