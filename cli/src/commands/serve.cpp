// SPDX-License-Identifier: Apache-2.0
#include "commands.h"
#include "exit_code.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace kernelhub::cli {

int serve(const ServeArgs& args) {
  server::serve_until_signal(args.options, [&args](const server::HubServer& server) {
    if (args.json) {
      std::printf("%s\n", nlohmann::json{{"url", server.url()}}.dump().c_str());
    } else {
      std::printf("%s\n", server.url().c_str());
      std::fprintf(stderr,
                   "serving %s; clients: export HF_ENDPOINT=%s\n"
                   "writers: export HF_TOKEN=$(cat %s)\n",
                   args.options.store.c_str(), server.url().c_str(),
                   (args.options.store / "admin-token").c_str());
    }
    std::fflush(stdout);
  });
  return kOk;
}

}  // namespace kernelhub::cli
