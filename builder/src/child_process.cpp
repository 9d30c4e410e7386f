// SPDX-License-Identifier: Apache-2.0
#include "child_process.h"

#include "builder_errors.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/unique_fd.h"

#include <boost/process.hpp>
#include <boost/process/extend.hpp>

#include <cerrno>
#include <cstdlib>

namespace kernelhub::builder {
namespace {

namespace bp = boost::process;
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxOutputBytes = 256u << 20;

int exit_code(int wait_status) {
  if (WIFSIGNALED(wait_status)) return 128 + WTERMSIG(wait_status);
  return WEXITSTATUS(wait_status);
}

/// Boost starts programs by path only.
fs::path located(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  fs::path found = find_program(program);
  if (found.empty()) {
    throw builder_errors::tool_missing(program, "building kernels",
                                       "install it and put it on PATH");
  }
  return found;
}

/// A temporary file that is deleted at the end of the scope.
class TemporaryLog {
 public:
  TemporaryLog() : path_((fs::temp_directory_path() / "kernelhub-XXXXXX").string()) {
    const UniqueFd fd(mkstemp(path_.data()));
    if (!fd) throw builder_errors::system_call_failed("mkstemp", path_, errno);
  }
  TemporaryLog(const TemporaryLog&) = delete;
  TemporaryLog& operator=(const TemporaryLog&) = delete;
  ~TemporaryLog() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace

fs::path find_program(const std::string& name) { return bp::search_path(name).string(); }

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const fs::path& working_directory, const fs::path& log,
                          const std::vector<std::pair<std::string, std::string>>& environment) {
  const fs::path program = located(arguments.front());
  bp::environment variables = boost::this_process::environment();
  for (const auto& [name, value] : environment) variables[name] = value;
  try {
    bp::child child(bp::exe = program.string(),
                    bp::args = std::vector<std::string>(arguments.begin() + 1, arguments.end()),
                    bp::start_dir = working_directory.string(), variables,
                    bp::std_in<bp::null, (bp::std_out & bp::std_err)> log.string());
    child.wait();
    return {exit_code(child.native_exit_code()), read_file(log, kMaxOutputBytes)};
  } catch (const bp::process_error& error) {
    throw builder_errors::tool_failed(arguments.front(), error.what());
  }
}

ProcessResult run_process(const std::vector<std::string>& arguments) {
  const TemporaryLog log;
  return run_process(arguments, fs::current_path(), log.path());
}

}  // namespace kernelhub::builder
