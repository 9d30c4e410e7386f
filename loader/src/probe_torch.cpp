// SPDX-License-Identifier: Apache-2.0
#include "probe.h"
#include "shared_object.h"

#include "kernelhub/core/core_errors.h"
#include "kernelhub/loader/mapped_symbol.h"

#include <fstream>
#include <system_error>

namespace kernelhub::loader {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTorchLibrary = "libtorch_cpu.so";
// c10::detail::torchCheckFail with std::__cxx11::basic_string: exists under the new ABI only.
constexpr const char* kCxx11Symbol =
    "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";

/// Value of `name = '...'` in torch's generated version.py; empty for None or an absent name.
std::string version_field(const fs::path& prefix, std::string_view name) {
  std::ifstream file(prefix / "version.py");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size(), name) != 0) continue;
    const char next = line.size() > name.size() ? line[name.size()] : '\0';
    if (next != ' ' && next != ':') continue;
    const std::size_t begin = line.find('\'');
    const std::size_t end = line.rfind('\'');
    if (begin < end && end != std::string::npos) return line.substr(begin + 1, end - begin - 1);
  }
  return {};
}

std::optional<Backend> backend_of_prefix(const fs::path& prefix) {
  std::error_code error;
  if (!fs::exists(prefix / "version.py", error)) return std::nullopt;
  const std::pair<const char*, BackendKind> fields[] = {
      {"cuda", BackendKind::kCuda}, {"hip", BackendKind::kRocm}, {"xpu", BackendKind::kXpu}};
  for (const auto& [field, kind] : fields) {
    if (const auto version = parse_major_minor(version_field(prefix, field))) {
      return Backend{kind, version};
    }
  }
  return Backend{};
}

/// For a torch without version.py: its C++ distribution.
Backend backend_of_mapped() {
  if (find_mapped_library("libc10_hip.so")) return Backend{BackendKind::kRocm, std::nullopt};
  if (const auto cuda = cuda_runtime_version()) return Backend{BackendKind::kCuda, cuda};
  return Backend{};
}

}  // namespace

std::optional<MajorMinor> mapped_torch_version() {
  using Function = std::uint64_t (*)();
  const auto function =
      reinterpret_cast<Function>(mapped_symbol(kTorchLibrary, "aoti_torch_abi_version"));
  if (function == nullptr) return std::nullopt;
  const std::uint64_t version = function();  // major in the top byte, minor in the next
  return MajorMinor{static_cast<int>(version >> 56), static_cast<int>(version >> 48 & 0xff)};
}

std::optional<TorchFacts> probe_mapped_torch() {
  const std::optional<MappedObject> library = find_mapped_library(kTorchLibrary);
  if (!library) return std::nullopt;
  const fs::path directory = fs::path(library->path).parent_path();
  TorchFacts facts;
  facts.version = mapped_torch_version();
  const std::optional<Backend> named = backend_of_prefix(directory.parent_path());
  facts.backend = named ? *named : backend_of_mapped();
  facts.cxx11_abi = mapped_symbol("libc10.so", kCxx11Symbol) != nullptr;
  facts.library_dir = directory.string();
  return facts;
}

TorchFacts probe_torch_prefix(const fs::path& prefix) {
  TorchFacts facts;
  const std::string version = version_field(prefix, "__version__");
  facts.version = parse_major_minor(version);
  if (!facts.version) {
    throw core_errors::invalid_config("KERNELHUB_TORCH", prefix.string(),
                                      "the torch folder of an installed wheel (with version.py)");
  }
  facts.backend = *backend_of_prefix(prefix);
  facts.cxx11_abi = true;  // every wheel since torch 2.7, the first with a stable ABI
  facts.library_dir = (prefix / "lib").string();
  return facts;
}

TorchFacts parse_torch_version(const std::string& text) {
  TorchFacts facts;
  facts.version = parse_major_minor(text);
  const std::size_t plus = text.find('+');
  std::optional<Backend> backend = Backend{};
  if (plus != std::string::npos) backend = Backend::parse_compute_name(text.substr(plus + 1));
  if (!facts.version || !backend) {
    throw core_errors::invalid_config("KERNELHUB_TORCH_VERSION", text,
                                      "major.minor and a backend, such as 2.11+cu130");
  }
  facts.backend = *backend;
  facts.cxx11_abi = true;
  return facts;
}

}  // namespace kernelhub::loader
