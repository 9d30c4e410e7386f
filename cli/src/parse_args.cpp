// SPDX-License-Identifier: Apache-2.0
#include "parse_args.h"

#include "exit_code.h"

#include <CLI/CLI.hpp>

namespace kernelhub::cli {
namespace {

constexpr const char* kFooter =
    "Environment: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, KERNELHUB_TRUST and more, see "
    "docs/reference/configuration.md\n"
    "Exit codes: 0 ok, 1 failure or findings, 2 usage, 3 not found or no fitting variant, 4 auth "
    "or "
    "trust, 5 network, 6 integrity, 7 disk or cache, 8 not cached offline";

CLI::Option* add_json(CLI::App* verb, bool& json) {
  return verb->add_flag("--json", json, "print one JSON document on stdout");
}

/// An option that may be given again, one value each time: what follows stays a positional.
CLI::Option* add_repeatable(CLI::App* verb, const char* name, std::vector<std::string>& values,
                            const std::string& description) {
  return verb->add_option(name, values, description + " (repeatable)")->allow_extra_args(false);
}

void add_revision(CLI::App* verb, RevisionArgs& at) {
  auto* version = verb->add_option("--version", at.version, "kernel version N (branch vN)");
  verb->add_option("--revision", at.revision, "branch, tag or commit")->excludes(version);
}

void add_build(CLI::App& app, BuildArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "build", "Build every variant of a kernel project that this machine has tools for");
  verb->add_option("directory", args.directory, "folder with build.toml")->capture_default_str();
  verb->add_option("--backend", args.backend, "only this backend: cpu, cuda");
  verb->add_option("--variant", args.variant, "only this variant, by directory name");
  add_repeatable(verb, "--archs", args.archs, "CUDA capability instead of build.toml's, e.g. 9.0a");
  add_repeatable(verb, "--component", args.components,
                 "compile only this component, package nothing");
  verb->add_option("-j,--jobs", args.jobs, "parallel compiler calls; 0: as cores and memory allow");
  verb->add_option("--python", args.python,
                   "interpreter whose torch, tvm-ffi and headers are used");
  verb->add_option("--torch", args.torch, "torch folder with include/ and lib/");
  verb->add_option("--unique-id", args.unique_id,
                   "unique part of the id instead of the git tree's");
  verb->add_option_function<std::vector<std::string>>(
          "--dep",
          [&args](const std::vector<std::string>& pairs) {
            for (const std::string& pair : pairs) {
              const std::size_t equals = pair.find('=');
              if (equals == std::string::npos) {
                throw CLI::ValidationError("--dep", "expected NAME=DIR, found " + pair);
              }
              args.dependencies[pair.substr(0, equals)] = pair.substr(equals + 1);
            }
          },
          "NAME=DIR: headers of a build.toml dependency (repeatable)")
      ->allow_extra_args(false);
  verb->add_flag("--strict", args.strict, "lint warnings are errors");
  verb->add_flag("--dry-run", args.dry_run, "print the plan and stop");
  verb->add_flag("--force", args.force, "build again what is up to date");
  add_json(verb, args.json);
  verb->footer(
      "What is built follows from build.toml and from the tools found: g++, torch, nvcc, tvm-ffi.\n"
      "Each variant is compiled in a private folder, checked, loaded in a child process and put "
      "at\n"
      "build/<variant> in one step. Exit code 1 when a variant fails; the others are kept.\n"
      "Example: kernelhub build kernels-community/activation --backend cpu --python "
      "venv/bin/python");
}

void add_check(CLI::App& app, CheckArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "check", "Check built variants: ABI levels, hardening, exports, digest, truth of the name");
  verb->add_option("directory", args.directory, "project, build folder or variant")
      ->capture_default_str();
  verb->add_option("--manylinux", args.manylinux, "glibc policy")->capture_default_str();
  verb->add_option("--python-abi", args.python_abi, "limited API level")->capture_default_str();
  verb->add_option("--torch-stable-abi", args.torch_stable_abi,
                   "stable ABI level; default: what the variant's name says");
  verb->add_flag("--strict", args.strict, "warnings are errors");
  add_json(verb, args.json);
}

void add_upload(CLI::App& app, UploadArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "upload", "Publish built variants in one commit on the branch of their version");
  verb->add_option("directory", args.directory, "project, build folder or variant")
      ->capture_default_str();
  verb->add_option("--repo-id", args.repo_id, "OWNER/NAME; default: general.hub.repo-id");
  verb->add_option("--branch", args.branch, "default: general.hub.branch, else v<version>");
  verb->add_flag("--private", args.is_private, "make a new repository private");
  verb->add_flag("--force", args.force, "upload what fails the check");
  verb->add_flag("--dry-run", args.dry_run, "print what would change and stop");
  add_json(verb, args.json);
}

void add_serve(CLI::App& app, ServeArgs& args) {
  CLI::App* verb =
      app.add_subcommand("serve", "Serve a hub of your own; SIGINT or SIGTERM ends it");
  auto& options = args.options;
  verb->add_option("--store", options.store, "folder of the store, created when missing")
      ->required();
  verb->add_option("--listen", options.listen, "address")->capture_default_str();
  verb->add_option("--port", options.port, "0: a free one, printed on start")
      ->capture_default_str();
  verb->add_flag("--insecure-http", options.insecure_http,
                 "allow an address that is not loopback, without TLS");
  verb->add_option("--base-path", options.base_path, "prefix of every route");
  add_repeatable(verb, "--trust-org", options.trust_orgs,
                 "namespace that this hub calls a trusted kernel publisher");
  verb->add_option("--access-log", options.access_log, "file for one JSON line per request");
  verb->add_option("--url-file", options.url_file, "file for the URL once it listens");
  add_json(verb, args.json);
}

void add_download(CLI::App& app, DownloadArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "download", "Fetch and verify kernels into the cache: one repository, or a kernels.lock");
  verb->add_option("target", args.target, "OWNER/NAME, or a folder with kernels.lock")->required();
  add_revision(verb, args.at);
  verb->add_option("--backend", args.backend, "cpu instead of the detected backend");
  verb->add_option("--torch", args.torch,
                   "torch to resolve for: folder, or version like 2.11+cu130");
  verb->add_flag("--all-variants", args.all_variants, "every variant, fitting or not");
  add_repeatable(verb, "--trust-remote-code", args.trust_remote_code,
                 "repository id to allow for this call");
  add_json(verb, args.json);
}

void add_info(CLI::App& app, InfoArgs& args) {
  CLI::App* verb = app.add_subcommand("info", "Show the metadata of a kernel");
  verb->add_option("target", args.target, "OWNER/NAME or a local path")->required();
  add_revision(verb, args.at);
  add_json(verb, args.json);
}

void add_versions(CLI::App& app, VersionsArgs& args) {
  CLI::App* verb = app.add_subcommand(
      "versions", "List versions and variants: what fits here, and why the others do not");
  verb->add_option("repo", args.repo, "OWNER/NAME")->required();
  verb->add_option("--backend", args.backend, "cpu instead of the detected backend");
  verb->add_option("--torch", args.torch,
                   "torch to resolve for: folder, or version like 2.11+cu130");
  add_json(verb, args.json);
}

}  // namespace

std::variant<Command, int> parse_args(int argc, const char* const* argv) {
  CLI::App app{"kernelhub: build, check, publish, serve and fetch compiled kernels", "kernelhub"};
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("kernelhub ") + KERNELHUB_VERSION);
  BuildArgs build;
  CheckArgs check;
  UploadArgs upload;
  ServeArgs serve;
  DownloadArgs download;
  InfoArgs info;
  VersionsArgs versions;
  add_build(app, build);
  add_check(app, check);
  add_upload(app, upload);
  add_serve(app, serve);
  add_download(app, download);
  add_info(app, info);
  add_versions(app, versions);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  const std::string verb = app.get_subcommands().front()->get_name();
  if (verb == "build") return Command(build);
  if (verb == "check") return Command(check);
  if (verb == "upload") return Command(upload);
  if (verb == "serve") return Command(serve);
  if (verb == "download") return Command(download);
  if (verb == "info") return Command(info);
  return Command(versions);
}

}  // namespace kernelhub::cli
