// SPDX-License-Identifier: Apache-2.0
#include "import_test.h"

#include "builder_errors.h"
#include "child_process.h"

#include "kernelhub/core/atomic_file.h"
#include "kernelhub/core/unique_fd.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

constexpr const char* kImportScript = R"(
import importlib.util, sys
name, path = sys.argv[1], sys.argv[2]
spec = importlib.util.spec_from_file_location(name, path)
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
)";

std::vector<std::string> framework_libraries(const VariantPlan& plan, const Toolchain& tools) {
  std::vector<std::string> libraries;
  if (plan.is_torch()) {
    const fs::path folder = tools.torch->prefix / "lib";
    libraries = {folder / "libc10.so", folder / "libtorch_cpu.so"};
    if (plan.backend == BackendKind::kCuda) {
      libraries.push_back(folder / "libtorch_cuda.so");
      libraries.push_back(folder / "libtorch.so");
    }
  } else {
    if (tools.tvm_ffi) libraries.push_back(tools.tvm_ffi->prefix / "lib/libtvm_ffi.so");
    if (plan.backend == BackendKind::kCuda) {
      libraries.push_back(tools.nvcc->home / "lib64/libcudart.so");
    }
  }
  return libraries;
}

/// Body of the child: dlopen in order, the last one is the package's.
[[noreturn]] void open_all(const std::vector<std::string>& libraries, int output) {
  for (const std::string& library : libraries) {
    if (dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) continue;
    const char* reason = dlerror();
    const ssize_t written = write(output, reason, std::strlen(reason));
    _exit(written < 0 ? 2 : 1);
  }
  _exit(0);
}

void load_binary(const VariantPlan& plan, const Toolchain& tools, const fs::path& binary,
                 const fs::path& log) {
  std::vector<std::string> libraries = framework_libraries(plan, tools);
  libraries.push_back(binary.string());
  const UniqueFd output(open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!output) throw builder_errors::system_call_failed("open", log, errno);
  const pid_t child = fork();
  if (child < 0) throw builder_errors::system_call_failed("fork", binary, errno);
  if (child == 0) {
    dup2(output.get(), STDOUT_FILENO);
    dup2(output.get(), STDERR_FILENO);
    open_all(libraries, output.get());
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw builder_errors::system_call_failed("waitpid", binary, errno);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::string text = read_file(log);
  if (WIFSIGNALED(status)) text += std::string("ended by signal ") + strsignal(WTERMSIG(status));
  throw builder_errors::import_failed(plan.variant, "dlopen without Python", text);
}

bool python_has_framework(const VariantPlan& plan, const Toolchain& tools) {
  if (tools.python.empty()) return false;
  if (plan.framework == FrameworkKind::kTvmFfi) return tools.tvm_ffi.has_value();
  return tools.torch && tools.torch->importable;
}

}  // namespace

void import_test(const VariantPlan& plan, const Toolchain& tools, const fs::path& directory,
                 const fs::path& log) {
  if (plan.framework != FrameworkKind::kNoarch) {
    load_binary(plan, tools, directory / plan.binary(), log);
  }
  if (!python_has_framework(plan, tools)) return;
  // -B: an import must not leave bytecode in the package.
  const ProcessResult result = run_process({tools.python.string(), "-B", "-c", kImportScript,
                                            plan.id, (directory / "__init__.py").string()},
                                           directory, log);
  if (result.exit_code != 0) {
    throw builder_errors::import_failed(plan.variant, "import in " + tools.python.string(),
                                        result.output);
  }
}

}  // namespace kernelhub::builder
