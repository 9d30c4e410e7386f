// SPDX-License-Identifier: Apache-2.0
#include "exit_code.h"
#include "parse_args.h"

#include "kernelhub/core/error.h"
#include "kernelhub/core/json_access.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <string>

namespace {

namespace cli = kernelhub::cli;

struct Run {
  int operator()(const cli::BuildArgs& args) const { return cli::build(args); }
  int operator()(const cli::CheckArgs& args) const { return cli::check(args); }
  int operator()(const cli::UploadArgs& args) const { return cli::upload(args); }
  int operator()(const cli::ServeArgs& args) const { return cli::serve(args); }
  int operator()(const cli::DownloadArgs& args) const { return cli::download(args); }
  int operator()(const cli::InfoArgs& args) const { return cli::info(args); }
  int operator()(const cli::VersionsArgs& args) const { return cli::versions(args); }
};

bool wants_json(const cli::Command& command) {
  return std::visit([](const auto& args) { return args.json; }, command);
}

void print_error(const kernelhub::Error& error, bool json) {
  std::fprintf(stderr, "kernelhub: %s\n", error.what());
  if (!error.hint().empty()) std::fprintf(stderr, "try: %s\n", error.hint().c_str());
  if (!json) return;
  const nlohmann::json document = {
      {"error",
       {{"code", std::string(kernelhub::error_code_name(error.code()))},
        {"message", error.what()},
        {"hint", error.hint()},
        {"details", kernelhub::parse_untrusted_json(error.details(), "details of an error",
                                                    {.max_bytes = 64u << 20})}}}};
  std::printf("%s\n", document.dump(2).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const auto parsed = cli::parse_args(argc, argv);
  if (const int* code = std::get_if<int>(&parsed)) return *code;
  const auto& command = std::get<cli::Command>(parsed);
  try {
    return std::visit(Run{}, command);
  } catch (const kernelhub::Error& error) {
    print_error(error, wants_json(command));
    return cli::exit_code_of(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernelhub: %s\n", error.what());
    return cli::kFailure;
  }
}
