// SPDX-License-Identifier: Apache-2.0
#include "cuda_binary.h"

#include "builder_errors.h"
#include "child_process.h"

#include <algorithm>
#include <sstream>

namespace kernelhub::builder {
namespace {

/// "sm_90a" in "ELF file 1: x.1.sm_90a.cubin" -> "9.0a"; "" when the line names none.
std::string arch_of_line(const std::string& line) {
  const std::size_t at = line.rfind("sm_");
  if (at == std::string::npos) return {};
  std::string digits, suffix;
  for (std::size_t i = at + 3; i < line.size() && line[i] != '.'; ++i) {
    (line[i] >= '0' && line[i] <= '9' ? digits : suffix) += line[i];
  }
  if (digits.size() < 2) return {};
  return digits.substr(0, digits.size() - 1) + "." + digits.back() + suffix;
}

std::set<std::string> archs_of(const std::string& listing) {
  std::set<std::string> archs;
  std::istringstream lines(listing);
  std::string line;
  while (std::getline(lines, line)) {
    const std::string arch = arch_of_line(line);
    if (!arch.empty()) archs.insert(arch);
  }
  return archs;
}

std::string list(const std::filesystem::path& program, const char* option,
                 const std::filesystem::path& library) {
  const ProcessResult result = run_process({program.string(), option, library.string()});
  // cuobjdump ends with 255 and says so when there is none of the asked kind.
  if (result.exit_code != 0 && result.output.find("does not contain") == std::string::npos &&
      result.output.find("No PTX") == std::string::npos) {
    throw builder_errors::tool_failed(program.string(), result.output);
  }
  return result.output;
}

}  // namespace

std::set<std::string> cuda_archs_of_listings(const std::string& elf, const std::string& ptx) {
  const std::set<std::string> with_ptx = archs_of(ptx);
  std::set<std::string> archs;
  for (const std::string& arch : archs_of(elf)) {
    archs.insert(with_ptx.count(arch) != 0 ? arch + "+PTX" : arch);
  }
  for (const std::string& arch : with_ptx) {
    if (archs.count(arch + "+PTX") == 0) archs.insert(arch + "+PTX");
  }
  return archs;
}

std::optional<std::set<std::string>> embedded_cuda_archs(const std::filesystem::path& library) {
  const std::filesystem::path program = find_program("cuobjdump");
  if (program.empty()) return std::nullopt;
  return cuda_archs_of_listings(list(program, "--list-elf", library),
                                list(program, "--list-ptx", library));
}

}  // namespace kernelhub::builder
