// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/toolchain.h"

#include "builder_errors.h"
#include "child_process.h"

#include "kernelhub/core/atomic_file.h"

#include <sstream>
#include <sys/utsname.h>
#include <vector>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

/// Prints facts of an interpreter as key=value lines; imports none of the packages.
constexpr const char* kPythonFacts = R"(
import importlib.util, importlib.metadata, os, sysconfig
def folder(name):
    spec = importlib.util.find_spec(name)
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else ''
print('torch=' + folder('torch'))
print('tvm_ffi=' + folder('tvm_ffi'))
try:
    print('tvm_ffi_version=' + importlib.metadata.version('apache-tvm-ffi'))
except importlib.metadata.PackageNotFoundError:
    pass
include = sysconfig.get_path('include')
print('include=' + (include if os.path.exists(os.path.join(include, 'Python.h')) else ''))
)";

std::string run_for_output(const std::vector<std::string>& arguments) {
  ProcessResult result = run_process(arguments);
  if (result.exit_code != 0) throw builder_errors::tool_failed(arguments.front(), result.output);
  return result.output;
}

std::map<std::string, std::string> python_facts(const fs::path& python) {
  std::map<std::string, std::string> facts;
  std::istringstream lines(run_for_output({python.string(), "-c", kPythonFacts}));
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) facts[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return facts;
}

/// Text between the first pair of single quotes after `name` at a line's start.
std::string quoted_value(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind(name, 0) != 0) continue;
    const std::size_t open = line.find('\'');
    const std::size_t close = open == std::string::npos ? open : line.find('\'', open + 1);
    if (close != std::string::npos) return line.substr(open + 1, close - open - 1);
  }
  return {};
}

/// CUDA toolkit of a local version label: "2.11.0+cu130" -> 13.0.
std::optional<MajorMinor> cuda_of_label(const std::string& version) {
  const std::size_t plus = version.find("+cu");
  if (plus == std::string::npos) return std::nullopt;
  const std::optional<Backend> backend = Backend::parse_compute_name(version.substr(plus + 1));
  return backend ? backend->version : std::nullopt;
}

Toolchain::Torch read_torch(const fs::path& prefix) {
  Toolchain::Torch torch;
  torch.prefix = prefix;
  if (fs::exists(prefix / "version.py")) {
    const std::string text = read_file(prefix / "version.py");
    torch.full_version = quoted_value(text, "__version__");
    torch.cuda = parse_major_minor(quoted_value(text, "cuda:"));
  } else if (fs::exists(prefix / "build-version")) {
    std::istringstream(read_file(prefix / "build-version")) >> torch.full_version;
    torch.cuda = cuda_of_label(torch.full_version);
  }
  const std::optional<MajorMinor> version = parse_major_minor(torch.full_version);
  if (!version || !fs::exists(prefix / "lib" / "libtorch_cpu.so")) {
    throw builder_errors::bad_option(
        "--torch", prefix.string(),
        "a folder with lib/libtorch_cpu.so and version.py or build-version");
  }
  torch.version = *version;
  return torch;
}

std::optional<Toolchain::Nvcc> find_nvcc() {
  const fs::path program = find_program("nvcc");
  if (program.empty()) return std::nullopt;
  const std::string output = run_for_output({program.string(), "--version"});
  const std::size_t at = output.find(", V");
  if (at == std::string::npos) throw builder_errors::tool_failed(program.string(), output);
  Toolchain::Nvcc nvcc;
  std::istringstream(output.substr(at + 3)) >> nvcc.full_version;
  const std::optional<MajorMinor> version = parse_major_minor(nvcc.full_version);
  if (!version) throw builder_errors::tool_failed(program.string(), output);
  nvcc.program = program;
  nvcc.version = *version;
  nvcc.home = fs::canonical(program).parent_path().parent_path();
  return nvcc;
}

/// First folder that holds `file`; beside the installed program, else in the source tree.
fs::path find_include(const fs::path& file, const fs::path& source_tree) {
  const fs::path prefix = fs::read_symlink("/proc/self/exe").parent_path().parent_path();
  for (const fs::path& folder :
       {prefix / "share/kernelhub/include", prefix / "include", source_tree}) {
    if (fs::exists(folder / file)) return folder;
  }
  return {};
}

void find_python(const ToolchainRequest& request, Toolchain& tools) {
  tools.python = request.python.empty() ? find_program("python3") : request.python;
  if (!request.python.empty() && !fs::exists(request.python)) {
    throw builder_errors::bad_option("--python", request.python.string(), "a Python interpreter");
  }
  std::map<std::string, std::string> facts;
  if (!tools.python.empty()) facts = python_facts(tools.python);
  tools.python_include = facts["include"];
  const fs::path prefix =
      request.torch_prefix.empty() ? fs::path(facts["torch"]) : request.torch_prefix;
  if (!prefix.empty()) {
    tools.torch = read_torch(prefix);
    tools.torch->importable =
        !facts["torch"].empty() && fs::equivalent(facts["torch"], tools.torch->prefix);
  }
  const std::optional<MajorMinor> tvm_ffi = parse_major_minor(facts["tvm_ffi_version"]);
  if (!facts["tvm_ffi"].empty() && tvm_ffi) {
    tools.tvm_ffi = {facts["tvm_ffi"], *tvm_ffi, facts["tvm_ffi_version"]};
  }
}

}  // namespace

Toolchain detect_toolchain(const ToolchainRequest& request) {
  Toolchain tools;
  tools.cxx = find_program("g++");
  tools.cc = find_program("gcc");
  if (tools.cxx.empty() || tools.cc.empty()) {
    throw builder_errors::tool_missing("g++", "compiling kernels", "install it: apt install g++");
  }
  std::istringstream(run_for_output({tools.cxx.string(), "-dumpfullversion"})) >> tools.cxx_version;
  tools.ccache = find_program("ccache");
  utsname machine{};
  uname(&machine);
  tools.cpu = machine.machine;
  tools.nvcc = find_nvcc();
  find_python(request, tools);
  tools.abi_include = find_include("kernelhub/abi/package.h", KERNELHUB_ABI_INCLUDE_DIR);
  tools.dlpack_include = find_include("dlpack/dlpack.h", KERNELHUB_DLPACK_INCLUDE_DIR);
  for (const auto& [name, folder] : request.dependencies) {
    if (!fs::is_directory(folder)) {
      throw builder_errors::bad_option("--dep " + name, folder.string(), "an existing folder");
    }
  }
  tools.dependencies = request.dependencies;
  return tools;
}

}  // namespace kernelhub::builder
